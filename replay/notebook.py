"""Shows a recording in a notebook, as HTML without scripts.

Whatever a file holds, this never raises and stays small; what comes from the file is escaped.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from replay.formatting import (
    format_bytes,
    format_count,
    format_loss,
    format_module,
    format_shape,
)
from replay.recording import read_losses
from replay.rendering.html import image_html, text_html

if TYPE_CHECKING:
    from replay.recording import Recording

_LAYERS = 12  # rows of the table
_POSTER_BYTES = 200_000
_POSTER_MAPS = (16, 9, 4, 1)  # tried until the picture is small enough


def recording_html(recording: Recording) -> str:
    """Returns a table of what a recording holds, and a picture of its last frame, as HTML."""
    try:
        facts = " · ".join(text_html(fact) for fact in _facts(recording))
        rows = "".join(_row(recording, name) for name in recording.layers[:_LAYERS])
        left = len(recording.layers) - _LAYERS
        more = f"<tr><td colspan=3>and {left:,} more</td></tr>" if left > 0 else ""
    except Exception as error:
        return f"<div><b>{text_html(recording.path.name)}</b><br>{text_html(str(error))}</div>"
    head = "<tr><th style='text-align:left'>layer</th><th style='text-align:left'>module</th>"
    head += "<th style='text-align:left'>maps</th></tr>"
    return (
        f"<div><b>{text_html(recording.path.name)}</b><br><small>{facts}</small>"
        f"<table>{head}{rows}{more}</table>{_poster(recording)}</div>"
    )


def _facts(recording: Recording) -> list[str]:
    whole = recording.order > 0
    facts = [format_count(int(whole.sum()), "frame")]
    facts.append(format_count(int(whole.any(axis=1).sum()), "epoch"))
    losses = read_losses(recording.batches, recording.frames) if whole.any() else None
    if losses is not None:
        loss = losses[np.isfinite(losses)]
        if loss.size:
            facts.append(f"loss {format_loss(float(loss[0]))} to {format_loss(float(loss[-1]))}")
    facts.append(format_bytes(recording.path.stat().st_size))
    if recording.probe_number is not None:
        facts.append(f"probe image {recording.probe_number}")
    if not recording.closed:
        facts.append("not closed: its writer is at work, or was killed")
    return facts


def _row(recording: Recording, name: str) -> str:
    layer = recording[name].layer
    cells = (name, format_module(layer.module), format_shape(layer.shape))
    columns = "".join(f"<td style='text-align:left'>{text_html(c)}</td>" for c in cells)
    return f"<tr>{columns}</tr>"


def _poster(recording: Recording) -> str:
    """Returns the first layer in the last frame as an inline PNG; else why there is none."""
    try:
        if not recording.frames:
            return "<small>no frame yet</small>"
        name = recording.layers[0]
        epoch, batch = recording[name].frames[-1]
        picture = _draw_poster(recording, name, epoch, batch)
    except Exception as error:
        return f"<small>no picture: {text_html(str(error))}</small>"
    caption = f"{name}, epoch {epoch}, batch {batch}"
    return f"{image_html(picture, 'png', caption)}<br><small>{text_html(caption)}</small>"


def _draw_poster(recording: Recording, name: str, epoch: int, batch: int) -> bytes:
    from PIL import Image

    from replay.film.film import Film
    from replay.options import FilmOptions

    options = FilmOptions(layers=[name], epochs=[epoch], batches=[batch], input=False)
    options = replace(options, captions=False, bounds=(640, 480))
    channels = recording[name].layer.channels
    data = b""
    for maps in _POSTER_MAPS:
        film = Film(recording, replace(options, channels=range(min(maps, channels))))
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
