"""Draws pixels into arrays: mosaics of maps, palettes, text, and what stands around the maps.

Takes arrays and gives arrays, and opens no file. To be imported by their modules:

- `frame`: one frame, and anything that gives frames;
- `palette`: themes, colormaps and the 256 colors of an animation, `Range`, pictures in color;
- `mosaic`: where the maps of a layer lie, and how they are painted;
- `text`: text as planes of coverage;
- `widgets` and `histogram`: a pen, color bar, loss curve, progress line, histogram.

Nothing is exported from here: `replay health` needs two of these modules, and not the fonts.
"""
