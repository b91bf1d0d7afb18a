"""How figures look, whatever a user of matplotlib has set: its settings, and two themes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib import rcParamsDefault

from replay.raster.palette import find_theme

# Everything else is as matplotlib has it, but for what says where windows open, if any.
_WINDOWS = ("backend", "backend_fallback", "interactive", "toolbar")
_SETTINGS: dict[Any, Any] = {
    **{name: value for name, value in rcParamsDefault.items() if name not in _WINDOWS},
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "pdf.fonttype": 42,  # fonts embedded whole: text stays text
    "pdf.compression": 6,
    "svg.fonttype": "none",
    "svg.hashsalt": "mapreel",  # the same picture, the same bytes
    "image.composite_image": False,
    "path.simplify": False,
    "axes.unicode_minus": True,
    "text.usetex": False,
    "savefig.bbox": None,
}

_MUTED = {"light": "#63676e", "dark": "#9ba0a8"}
_FAINT = {"light": "#d8dadd", "dark": "#3a3e45"}


@dataclass(frozen=True)
class FigureTheme:
    """The colors around the maps, as matplotlib spells them.

    Attributes:
        paper: The background.
        ink: Text.
        muted: Less important text, and lines.
        accent: What is to be seen of a bar.
        faint: What is behind it.
    """

    paper: str
    ink: str
    muted: str
    accent: str
    faint: str


def figure_theme(name: str) -> FigureTheme:
    """Returns the theme of a name.

    Raises:
        OptionError: There is none of that name.
    """
    theme = find_theme(name)
    paper, ink, accent = (
        "#{:02x}{:02x}{:02x}".format(*color) for color in (theme.paper, theme.ink, theme.accent)
    )
    return FigureTheme(paper, ink, _MUTED[name], accent, _FAINT[name])


_INSIDE: ContextVar[bool] = ContextVar("own settings of matplotlib are in force", default=False)


@contextmanager
def own_settings() -> Iterator[None]:
    """Has matplotlib draw as is said here, whatever its user has set.

    To change its settings takes longer than to write a word, so whoever draws much does so within.
    """
    if _INSIDE.get():
        yield
        return
    token = _INSIDE.set(True)
    try:
        with _changed_settings():
            yield
    finally:
        _INSIDE.reset(token)


@contextmanager
def _changed_settings() -> Iterator[None]:
    finder = logging.getLogger("matplotlib.font_manager")  # tells of fonts without a bold face
    level = finder.level
    finder.setLevel(logging.ERROR)
    try:
        with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # of an SVG
            yield
    finally:
        finder.setLevel(level)
