"""A font of a few characters, each a filled square, for machines that have no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from replay.raster import fonts, text


def make_font(path: Path, characters: str, family: str = "Tiny Squares") -> Path:
    """Writes a font in which each of the characters is a square."""
    pen = TTGlyphPen(None)
    for step in ((100, 0), (100, 700), (800, 700), (800, 0)):
        (pen.moveTo if step == (100, 0) else pen.lineTo)(step)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):04X}" for letter in characters})
    builder.setupGlyf({name: empty if name == ".notdef" else square for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    names_of = {"familyName": family, "styleName": "Regular", "psName": family.replace(" ", "")}
    builder.setupNameTable(names_of)
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)
    return path


def forget() -> None:
    """Forgets which fonts there are, and what was drawn in them."""
    for each in (fonts.pieces, fonts.find_font, fonts._candidates, fonts._installed):
        each.cache_clear()
    for drawn in (text.width_of, text.cover, text.fit):
        drawn.cache_clear()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A machine with a font that has 特, 徴 and क, and no other beside DejaVu's."""
    known = font_manager.fontManager.ttflist
    path = make_font(tmp_path / "tiny.ttf", "特徴क")
    font_manager.fontManager.ttflist = [e for e in known if "DejaVu" in e.name]
    font_manager.fontManager.addfont(path)
    forget()
    yield path
    font_manager.fontManager.ttflist = known
    forget()


@pytest.fixture
def bare() -> None:
    """A machine without any font beside DejaVu's."""
    known = font_manager.fontManager.ttflist
    font_manager.fontManager.ttflist = [e for e in known if "DejaVu" in e.name]
    forget()
    yield
    font_manager.fontManager.ttflist = known
    forget()
