"""Makes an SVG small: each picture in it becomes the smallest PNG with the same pixels."""

from __future__ import annotations

import base64
import io
import re

from PIL import Image

_IMAGE = re.compile(rb"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")


def shrink_images(svg: bytes) -> bytes:
    """Returns an SVG with its PNGs in gray or with a palette, where that says the same.

    matplotlib writes four bytes a pixel, of which a map needs one.
    """
    return _IMAGE.sub(lambda found: b"data:image/png;base64," + _smallest(found.group(1)), svg)


def _smallest(encoded: bytes) -> bytes:
    """Returns a PNG in base64, of the same pixels and no larger."""
    data = base64.b64decode(encoded)
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGBA")
    if picture.getextrema()[3] != (255, 255):  # it is transparent somewhere: as it is
        return encoded
    picture = picture.convert("RGB")
    red, green, blue = (band.tobytes() for band in picture.split())
    if red == green == blue:
        picture = picture.getchannel(0)
    elif len(colors := picture.getcolors(256) or ()) > 0:
        table = sorted(color for _, color in colors)
        place = {color: number for number, color in enumerate(table)}
        indexed = Image.new("P", picture.size)
        indexed.putpalette([part for color in table for part in color])
        indexed.putdata([place[color] for color in zip(red, green, blue, strict=True)])
        picture = indexed
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return base64.b64encode(min(data, stream.getvalue(), key=len))
