"""What shows itself in a notebook: films, pictures and tables as HTML without scripts."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from replay.formatting import clean

_EMBEDDED_BYTES = 20_000_000
_KINDS = {
    ".gif": "gif",
    ".webp": "webp",
    ".png": "png",
    ".apng": "png",
    ".svg": "svg+xml",
}


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


def file_html(path: Path, words: str, caption: str) -> str:
    """Returns HTML with a link to a file, and the picture itself where it is one.

    Args:
        path: The file; a PDF or a page is linked alone.
        words: What a picture shows, for those who cannot see it.
        caption: What the file is, its size among it.
    """
    link = f"<a href='{html.escape(path.as_posix())}'>{text_html(path.name)}</a>"
    line = f"<small>{link}: {text_html(caption)}</small>"
    kind = _KINDS.get(path.suffix.lower())
    try:
        if kind is None or path.stat().st_size > _EMBEDDED_BYTES:
            return f"<div>{line}</div>"
        return f"<div>{image_html(path.read_bytes(), kind, words)}<br>{line}</div>"
    except OSError:
        return f"<div><small>{text_html(path.name)}: it is no longer there</small></div>"


def table_html(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of texts, its columns to the left.

    Args:
        head: What stands over the columns.
        rows: As many texts each.
    """
    start = "style='text-align:left;vertical-align:top'"
    parts = ["".join(f"<th {start}>{text_html(each)}</th>" for each in head)]
    parts += ["".join(f"<td {start}>{text_html(each)}</td>" for each in row) for row in rows]
    return f"<table>{''.join(f'<tr>{part}</tr>' for part in parts)}</table>"


def _player(path: Path, words: str) -> str:
    data, kind = path.read_bytes(), _KINDS.get(path.suffix.lower())
    if kind is not None:
        return image_html(data, kind, words)
    encoded = base64.b64encode(data).decode("ascii")
    video = "webm" if path.suffix.lower() == ".webm" else "mp4"
    return (
        f"<video controls loop muted playsinline aria-label='{text_html(words, None)}' "
        f"style='max-width:100%' src='data:video/{video};base64,{encoded}'></video>"
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
