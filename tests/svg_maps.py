"""The maps in an SVG, in whichever order a version of matplotlib writes their attributes."""

from __future__ import annotations

import re
from typing import NamedTuple


class SvgMap(NamedTuple):
    """One map: its pixels, how far they are apart and where the first is, in points; its PNG."""

    width: int
    height: int
    across: float
    down: float
    x: float
    y: float
    png: str


def svg_maps(text: str) -> list[SvgMap]:
    """All of them, in the order in which they are drawn."""
    found = []
    for tag in re.findall(r"<image\b[^>]*>", text):
        given = dict(re.findall(r'([\w:]+)="([^"]*)"', tag))
        if given.get("id") != "map":
            continue
        across, _, _, down, x, y = map(float, re.findall(r"-?[\d.]+", given["transform"]))
        png = given["xlink:href"].partition("base64,")[2]
        found.append(SvgMap(int(given["width"]), int(given["height"]), across, down, x, y, png))
    return found
