"""How recordings and animations show themselves in a notebook: HTML without scripts.

Whatever a file holds, this never raises and stays small; what comes from the file is escaped.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from replay.words import clean, count, in_bytes, module_words, number, shape

if TYPE_CHECKING:
    from replay.animation import Animation
    from replay.recording import Recording

_LAYERS = 12  # rows of the table
_POSTER_BYTES = 200_000
_POSTER_MAPS = (16, 9, 4, 1)  # tried until the picture is small enough
_EMBEDDED_BYTES = 20_000_000
_KINDS = {".gif": "gif", ".webp": "webp", ".png": "png", ".apng": "png"}
_WORDS = 80  # letters of a name that are shown


def recording_html(recording: Recording) -> str:
    """A table of what a recording holds, and a picture of its last frame."""
    try:
        facts = " · ".join(_text(fact) for fact in _facts(recording))
        rows = "".join(_row(recording, name) for name in recording.layers[:_LAYERS])
        left = len(recording.layers) - _LAYERS
        more = f"<tr><td colspan=3>and {left:,} more</td></tr>" if left > 0 else ""
    except Exception as error:
        return f"<div><b>{_text(recording.path.name)}</b><br>{_text(str(error))}</div>"
    head = "<tr><th style='text-align:left'>layer</th><th style='text-align:left'>module</th>"
    head += "<th style='text-align:left'>maps</th></tr>"
    return (
        f"<div><b>{_text(recording.path.name)}</b><br><small>{facts}</small>"
        f"<table>{head}{rows}{more}</table>{_poster(recording)}</div>"
    )


def _facts(recording: Recording) -> list[str]:
    there = recording.order > 0
    facts = [count(int(there.sum()), "frame")]
    facts.append(count(int(there.any(axis=1).sum()), "epoch"))
    if "loss" in recording.batches:
        loss = recording.batches["loss"][there]
        loss = loss[np.isfinite(loss)]
        if loss.size:
            facts.append(f"loss {number(float(loss[0]))} to {number(float(loss[-1]))}")
    facts.append(in_bytes(recording.path.stat().st_size))
    if recording.probe_number is not None:
        facts.append(f"probe image {recording.probe_number}")
    if not recording.closed:
        facts.append("not closed: its writer is at work, or was killed")
    return facts


def _row(recording: Recording, name: str) -> str:
    layer = recording[name].layer
    cells = (name, module_words(layer.module), shape(layer.shape))
    return "<tr>" + "".join(f"<td style='text-align:left'>{_text(c)}</td>" for c in cells) + "</tr>"


def _poster(recording: Recording) -> str:
    """The first layer in the last frame, as an inline PNG; a word where that cannot be drawn."""
    try:
        if not recording.frames:
            return "<small>no frame yet</small>"
        name = recording.layers[0]
        epoch, batch = recording[name].frames[-1]
        picture = _draw_poster(recording, name, epoch, batch)
    except Exception as error:
        return f"<small>no picture: {_text(str(error))}</small>"
    words = f"{name}, epoch {epoch}, batch {batch}"
    return f"{_image(picture, 'png', words)}<br><small>{_text(words)}</small>"


def _draw_poster(recording: Recording, name: str, epoch: int, batch: int) -> bytes:
    from PIL import Image

    from replay.frames import Film, Look

    look = Look(input=False, captions=False, bounds=(640, 480))
    there = recording[name].layer.channels
    data = b""
    for maps in _POSTER_MAPS:
        film = Film(recording, [name], range(min(maps, there)), [epoch], [batch], look)
        frame = next(film.frames())
        image = Image.fromarray(frame.plane, "L").convert("P")
        image.putdata(frame.plane.ravel().tolist())
        image.putpalette(film.palette.table.tobytes(), "RGB")
        stream = io.BytesIO()
        image.save(stream, "PNG", optimize=True, transparency=film.palette.paper)
        data = stream.getvalue()
        if len(data) <= _POSTER_BYTES:
            break
    return data


def animation_html(animation: Animation) -> str:
    """What plays the animation: a video, a picture, or words where there is no file to show."""
    path = animation.path
    words = f"{path.name}: {count(animation.frames, 'frame')}, {in_bytes(animation.bytes)}"
    try:
        if path.is_dir():
            last = sorted(path.glob("*.png"))[-1]
            shown = _image(last.read_bytes(), "png", animation.alt)
            return f"{shown}<br><small>{_text(words)}</small>"
        if path.stat().st_size > _EMBEDDED_BYTES:
            return f"<small>{_text(words)}; too large to be shown here: {_text(str(path))}</small>"
        return _player(path, animation.alt)
    except (OSError, IndexError):
        return f"<small>{_text(words)}; it is no longer there</small>"


def _player(path: Path, words: str) -> str:
    data, kind = path.read_bytes(), _KINDS.get(path.suffix.lower())
    if kind is not None:
        return _image(data, kind, words)
    encoded = base64.b64encode(data).decode("ascii")
    return (
        f"<video controls loop muted playsinline aria-label='{_text(words, None)}' "
        f"style='max-width:100%' src='data:video/mp4;base64,{encoded}'></video>"
    )


def _image(data: bytes, kind: str, words: str) -> str:
    encoded = base64.b64encode(data).decode("ascii")
    return (
        f"<img alt='{_text(words, None)}' style='max-width:100%' "
        f"src='data:image/{kind};base64,{encoded}'>"
    )


def _text(words: str, longest: int | None = _WORDS * 3) -> str:
    shown = clean(words)
    if longest is not None and len(shown) > longest:
        shown = shown[: longest - 1] + "…"
    return html.escape(shown)
