"""An animation in a notebook or a page: HTML without scripts."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from replay.formatting import clean

_EMBEDDED_BYTES = 20_000_000
_KINDS = {".gif": "gif", ".webp": "webp", ".png": "png", ".apng": "png"}


_WORDS = 80  # letters of a name that are shown


def player_html(path: Path, alt: str, caption: str) -> str:
    """Returns HTML that plays an animation: a video, a picture, or words where no file is left.

    Args:
        path: The file, or a folder of numbered PNG frames, whose last one is shown.
        alt: What the animation shows, for those who cannot see it.
        caption: Its name and size in words, shown where the animation itself cannot be.
    """
    try:
        if path.is_dir():
            last = sorted(path.glob("*.png"))[-1]
            shown = image_html(last.read_bytes(), "png", alt)
            return f"{shown}<br><small>{text_html(caption)}</small>"
        if path.stat().st_size > _EMBEDDED_BYTES:
            where = text_html(str(path))
            return f"<small>{text_html(caption)}; too large to be shown here: {where}</small>"
        return _player(path, alt)
    except (OSError, IndexError):
        return f"<small>{text_html(caption)}; it is no longer there</small>"


def _player(path: Path, words: str) -> str:
    data, kind = path.read_bytes(), _KINDS.get(path.suffix.lower())
    if kind is not None:
        return image_html(data, kind, words)
    encoded = base64.b64encode(data).decode("ascii")
    return (
        f"<video controls loop muted playsinline aria-label='{text_html(words, None)}' "
        f"style='max-width:100%' src='data:video/mp4;base64,{encoded}'></video>"
    )


def image_html(data: bytes, kind: str, words: str) -> str:
    """Returns an inline picture: the bytes of a file of that kind, with its words."""
    encoded = base64.b64encode(data).decode("ascii")
    return (
        f"<img alt='{text_html(words, None)}' style='max-width:100%' "
        f"src='data:image/{kind};base64,{encoded}'>"
    )


def text_html(words: str, longest: int | None = _WORDS * 3) -> str:
    """Returns a text from a file, printable, cut after `longest` characters, and escaped."""
    shown = clean(words, limit=None)
    if longest is not None and len(shown) > longest:
        shown = shown[: longest - 1] + "…"
    return html.escape(shown)
