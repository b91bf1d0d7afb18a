"""Fonts for what DejaVu Sans lacks: Chinese, Japanese, Korean, Hindi, emoji and so on.

DejaVu Sans ships inside matplotlib and has all of Latin, Greek, Cyrillic, Hebrew and Arabic. For
other characters the fonts of the machine are looked through, once, and only when there is such a
character. One that no font has is written as its number, `U+7279`, rather than as a box.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

from replay.raster.bidi import parts, visual_order
from replay.schema import OptionError

# What DejaVu Sans has in both faces, and what stands side by side with no shaping.
_PLAIN = re.compile(
    "[\u0020-\u007e\u00a0-\u02af\u0370-\u037e\u0384-\u052f\u1e00-\u1efb\u2010-\u2027\u2030-\u205e"
    "\u2070-\u209c\u20a0-\u20b5\u2190-\u22ff\u2500-\u25ff]*"
)
_UNSEEN = re.compile("[\u200b-\u200f\u2060\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # of no width
_BOXES = ("Last Resort", "Adobe Blank", "Unicode BMP Fallback")  # fonts of placeholders
_PROBED = 24  # pixels at which a font has to draw something
_SCRIPTS = {
    "CJK": "Noto Sans CJK",
    "HIRAGANA": "Noto Sans CJK",
    "KATAKANA": "Noto Sans CJK",
    "HANGUL": "Noto Sans CJK",
    "EMOJI": "Noto Emoji",
}


@dataclass(frozen=True)
class Piece:
    """A piece of a line that is drawn in one font.

    Attributes:
        text: What is drawn.
        path: The font's file; empty for DejaVu Sans.
        shaped: Whether letters depend on those around them.
        leftward: Whether it runs from right to left.
    """

    text: str
    path: str = ""
    shaped: bool = False
    leftward: bool = False


def is_plain(text: str) -> bool:
    """Returns whether DejaVu Sans has all of a text, and draws one letter after the other."""
    return text.isascii() or _PLAIN.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def pieces(text: str) -> tuple[Piece, ...]:
    """Returns a line in pieces, from left to right as they are seen.

    Args:
        text: What is not plain.
    """
    found: list[Piece] = []
    for part, leftward in parts(text):
        inside = _by_font(part, leftward)
        found += reversed(inside) if leftward else inside
    return tuple(found)


def unknown_characters(texts: Iterable[str]) -> str:
    """Returns the characters of some texts that no font has, each once."""
    letters = {letter for text in texts if not is_plain(text) for letter in text}
    return "".join(sorted(letter for letter in letters if find_font(letter) is None))


def missing_remarks(texts: Iterable[str]) -> list[str]:
    """Returns a remark on the characters of some texts that no font has, if there are any."""
    unknown = unknown_characters(texts)
    if not unknown:
        return []
    wanted = dict.fromkeys(_font_for(letter) for letter in unknown)
    some = unknown if len(unknown) <= 8 else unknown[:8] + " …"
    return [
        f"no font on this machine has {some}, which are written as numbers ({code(unknown[0])}); "
        f"install {' and '.join(wanted)}"
    ]


def code(letter: str) -> str:
    """Returns what is written for a character without a font: `U+7279`."""
    return f"U+{ord(letter):04X}"


def spell_unknown(text: str) -> str:
    """Returns a text with the numbers of the characters that no font has in their place."""
    return text if is_plain(text) else "".join(_split(text, keep=True)[0])


def families(text: str) -> list[str]:
    """Returns the names of the fonts that a text needs beside DejaVu Sans, for matplotlib."""
    if is_plain(text):
        return []
    paths = {find_font(letter) for letter in text} - {None, ""}
    return [name for name, path in _installed() if path in paths]


@lru_cache(maxsize=16384)
def find_font(letter: str) -> str | None:
    """Returns the file of a font that has a character; empty for DejaVu Sans, None without one."""
    if _UNSEEN.match(letter) or ord(letter) in _characters(str(dejavu_path())):
        return ""
    for path in _candidates(_font_for(letter)):
        if ord(letter) in _characters(path) and _draws(path, letter):
            return path
    return None


def dejavu_path(bold: bool = False) -> Path:
    """Returns the file of DejaVu Sans.

    Raises:
        OptionError: matplotlib, which has it, is not installed.
    """
    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise OptionError("matplotlib is not installed, and captions are set in its font")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf" / name


def _by_font(part: str, leftward: bool) -> list[Piece]:
    """Returns a part in pieces of one font each, in the order in which it is read."""
    texts, paths = _split(part, keep=leftward)
    if leftward and not has_raqm():
        texts = [visual_order(text) for text in texts]
    return [
        Piece(text, path, leftward or not is_plain(text), leftward)
        for text, path in zip(texts, paths, strict=True)
    ]


def _split(part: str, keep: bool) -> tuple[list[str], list[str]]:
    """Returns texts of one font each, and the file of each one's font.

    Args:
        part: The text.
        keep: Whether to keep what has no width, and says how letters join.
    """
    texts: list[str] = []
    paths: list[str] = []
    number = False  # whether the last one is written as its number
    for letter in part:
        path, text = find_font(letter), letter
        if _UNSEEN.match(letter) and not keep and not (paths and paths[-1]):
            continue
        if paths and paths[-1] and _goes_on(paths[-1], letter):  # marks and spaces in between
            path = paths[-1]
        if path is None:
            text = code(letter)
        joins = bool(texts) and not texts[-1].endswith(" ") and not text.isspace()
        if joins and (number or path is None):  # a number stands by itself
            text = " " + text
        number = path is None
        if paths and paths[-1] == (path or ""):
            texts[-1] += text
        else:
            texts.append(text)
            paths.append(path or "")
    return texts, paths


def _goes_on(path: str, letter: str) -> bool:
    """Returns whether the font before a mark or a space is that of it, too."""
    if _UNSEEN.match(letter):
        return True
    return unicodedata.category(letter)[0] in "MZ" and ord(letter) in _characters(path)


@lru_cache(maxsize=1)
def has_raqm() -> bool:
    """Returns whether Pillow can shape letters and order them."""
    return bool(features.check("raqm"))


def _font_for(letter: str) -> str:
    """Returns the name of a font that is known to have a character."""
    script = unicodedata.name(letter, "").partition(" ")[0]
    if unicodedata.category(letter) == "So" and ord(letter) > 0x1F000:
        script = "EMOJI"
    return _SCRIPTS.get(script, f"Noto Sans {script.capitalize()}".strip())


@lru_cache(maxsize=256)
def _candidates(wanted: str) -> tuple[str, ...]:
    """Returns the files of all fonts, those whose family is the wanted one first."""
    fonts = sorted(_installed(), key=lambda each: not each[0].startswith(wanted))
    return tuple(dict.fromkeys(path for _, path in fonts))


@lru_cache(maxsize=1)
def _installed() -> tuple[tuple[str, str], ...]:
    """Returns (family, file) of the fonts of this machine, upright and regular ones first."""
    from matplotlib import font_manager

    found = [
        (entry.style != "normal", abs(_weight(entry.weight) - 400), entry.name, str(entry.fname))
        for entry in font_manager.fontManager.ttflist
        if not entry.name.startswith(_BOXES)
    ]
    return tuple((name, path) for _, _, name, path in sorted(found))


def _weight(weight: object) -> int:
    return weight if isinstance(weight, int) else {"bold": 700, "light": 300}.get(str(weight), 400)


@lru_cache(maxsize=4096)
def _characters(path: str) -> frozenset[int]:
    """Returns the characters that a font has; none of one that cannot be read."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            return frozenset(font.getBestCmap() or ())
    except (OSError, TTLibError, KeyError, AssertionError, ValueError):
        return frozenset()


def _draws(path: str, letter: str) -> bool:
    """Returns whether a font has an outline for a character, and not a colored picture."""
    try:
        font = ImageFont.truetype(path, _PROBED)
        return letter.isspace() or font.getmask(letter).getbbox() is not None
    except (OSError, ValueError):
        return False
