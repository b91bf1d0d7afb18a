"""Pure pixels: mosaics, palettes, text, widgets. Arrays in, arrays out."""
