"""Shows a recording, its layers and its inputs in a notebook, as HTML without scripts.

Whatever a file holds, this never raises and stays small; what comes from the file is escaped.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from PIL import Image

from replay import schema
from replay.formatting import (
    format_bytes,
    format_count,
    format_loss,
    format_module,
    format_shape,
)
from replay.html import image_html, text_html
from replay.maps.axes import Maps
from replay.maps.input_picture import InputPicture
from replay.maps.views import look_at
from replay.options import DIVERGING, FilmOptions
from replay.raster.frame import Frame
from replay.raster.palette import Palette, enlarge, reduce
from replay.recording import Recording, open_recording, read_losses
from replay.recording.beside_words import BESIDE, BESIDE_WORDS
from replay.recording.cam_frames import CamFrames
from replay.recording.inputs import Inputs
from replay.recording.recording import BesideMaps
from replay.recording.series import Series

_LAYERS = 12  # rows of the table
_IMAGE_SIDE = 160  # pixels of an input image, about
_VIEWS = {schema.ATTENTION: "attention", schema.GRADIENTS: "gradient"}  # of what lies beside
_AS_MAPS = FilmOptions()
_POSTER_BYTES = 200_000
_POSTER_MAPS = (16, 9, 4, 1)  # tried until the picture is small enough


def to_html(shown: object) -> str:
    """Returns a recording, a layer's frames, class activation or input images as HTML."""
    try:
        if isinstance(shown, CamFrames):
            return _cam_html(shown)
        if isinstance(shown, Series):
            return _series_html(shown)
        if isinstance(shown, Inputs):
            return _inputs_html(shown)
    except Exception as error:
        return f"<div>{text_html(str(error))}</div>"
    assert isinstance(shown, Recording)
    return recording_html(shown)


def _series_html(series: Series) -> str:
    layer = series.layer
    facts = [BESIDE_WORDS.get(layer.kind, ""), format_module(layer.module)]
    facts += [format_shape(layer.shape), format_count(int(series.present.sum()), "frame")]
    with _opened(series) as run:
        shown = run.beside(layer.kind) if layer.kind else run
        return _layer_html(series, facts, _poster(shown, series.name))


def _cam_html(cam: CamFrames) -> str:
    options = FilmOptions(layers=cam.name, view="cam", cam_method=cam.method)
    with _opened(cam) as run:
        frames = int(run.cam(cam.name, method=cam.method).present.sum())
        facts = ["class activation", cam.method, cam.of and f"of the {cam.of}"]
        facts += [format_shape(cam.size), format_count(frames, "frame")]
        return _layer_html(cam, facts, _poster(run, options=options))


@contextmanager
def _opened(shown: Series | CamFrames | Inputs) -> Iterator[Recording]:
    """Opens the recording that something is of, since the one at hand may be closed."""
    with open_recording(shown.path) as recording:
        number = shown.probe_number
        yield recording if number is None else recording.probe(number)


def _layer_html(shown: Series | CamFrames, facts: list[str], poster: str) -> str:
    if shown.probe_number is not None:
        facts.append(f"fixed image {shown.probe_number}")
    head = f"<b>{text_html(shown.name)}</b><br><small>{_line(facts)}</small><br>"
    return f"<div>{head}{poster}</div>"


def _inputs_html(inputs: Inputs) -> str:
    number = inputs.probe_number
    facts = [format_shape(shape) for shape in inputs.shapes[:4]]
    facts.append(format_count(int(inputs.present.sum()), "frame"))
    name = "inputs" if number is None else f"fixed image {number}"
    head = f"<b>{name}</b> of {text_html(inputs.path.name)}<br><small>{_line(facts)}</small>"
    cells = np.argwhere(inputs.present)
    if not inputs or not len(cells):
        return f"<div>{head}<br><small>no image was recorded</small></div>"
    epoch, batch = (int(each) for each in cells[-1])
    image = inputs[epoch, batch]
    if image.ndim != 3:
        return f"<div>{head}</div>"
    with _opened(inputs) as run:  # as films and figures show it
        picture = InputPicture(run, run.frames)
        pixels, channels = picture.show(epoch, batch), picture.channels_in_words
    side, longest = _IMAGE_SIDE, max(pixels.shape[:2])
    if longest > 2 * side:
        pixels = reduce(pixels, -(-longest // (2 * side)))
    elif longest < side:
        pixels = enlarge(pixels, side // longest)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    caption = f"epoch {epoch}, batch {batch}{channels}"
    shown = image_html(stream.getvalue(), "png", f"{name}, {caption}")
    return f"<div>{head}<br>{shown}<br><small>{caption}</small></div>"


def _line(facts: list[str]) -> str:
    return " · ".join(text_html(fact) for fact in facts if fact)


def recording_html(recording: Recording) -> str:
    """Returns a table of what a recording holds, and a picture of its last frame, as HTML."""
    try:
        facts = _line(_facts(recording))
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
    facts = [BESIDE_WORDS.get(recording.kind, "")]
    facts.append(format_count(int(whole.sum()), "frame"))
    facts.append(format_count(int(whole.any(axis=1).sum()), "epoch"))
    losses = read_losses(recording.batches, recording.frames) if whole.any() else None
    if losses is not None:
        loss = losses[np.isfinite(losses)]
        if loss.size:
            facts.append(f"loss {format_loss(float(loss[0]))} to {format_loss(float(loss[-1]))}")
    facts += [
        f"{kind} of {format_count(len(beside), 'layer')}"
        for kind in BESIDE
        if not recording.kind and (beside := recording.beside(kind).layers)
    ]
    facts.append(format_bytes(recording.path.stat().st_size))
    if recording.probe_number is not None:
        facts.append(f"fixed image {recording.probe_number}")
    if not recording.closed:
        facts.append("not closed: its writer is at work, or was killed")
    return facts


def _row(recording: Recording, name: str) -> str:
    layer = recording[name].layer
    cells = (name, format_module(layer.module), format_shape(layer.shape))
    columns = "".join(f"<td style='text-align:left'>{text_html(c)}</td>" for c in cells)
    return f"<tr>{columns}</tr>"


def _poster(recording: Recording, name: str = "", options: FilmOptions = _AS_MAPS) -> str:
    """Returns a layer, the first by default, in its last frame as an inline PNG; else why not."""
    try:
        if not recording.frames:
            return "<small>no frame yet</small>"
        name = name or (options.layers if isinstance(options.layers, str) else "")
        name = name or recording.layers[0]
        options = replace(options, layers=name)
        if recording.kind in _VIEWS:  # as films show it, not its bare values
            assert isinstance(recording, BesideMaps)
            recording, options = recording.run, replace(options, view=_VIEWS[recording.kind])
        elif recording.kind:
            options = replace(options, scale="frame", symmetric=True, cmap=DIVERGING)
        (recording,), options = look_at([recording], options)
        epoch, batch = recording[name].frames[-1]
        picture = _draw_poster(recording, options, name, epoch, batch)
    except Exception as error:
        return f"<small>no picture: {text_html(str(error))}</small>"
    caption = f"{name}, epoch {epoch}, batch {batch}"
    return f"{image_html(picture, 'png', caption)}<br><small>{text_html(caption)}</small>"


def _draw_poster(
    recording: Recording, options: FilmOptions, name: str, epoch: int, batch: int
) -> bytes:
    from replay.film.film import Film

    options = replace(options, layers=[name], epochs=[epoch], batches=[batch], input=False)
    options = replace(options, captions=False, bounds=(640, 480))
    channels = Maps(recording[name]).channels
    data = b""
    for maps in _POSTER_MAPS:
        film = Film(recording, replace(options, channels=range(min(maps, channels))))
        frame = next(film.frames())
        stream = io.BytesIO()
        if frame.pictures:  # what lies over the input picture is in true colours
            _in_colours(frame, film.palette).save(stream, "PNG", optimize=True)
        else:
            image = Image.fromarray(frame.plane, "L").convert("P")
            image.putdata(frame.plane.ravel().tolist())
            image.putpalette(film.palette.table.tobytes(), "RGB")
            image.save(stream, "PNG", optimize=True, transparency=film.palette.paper)
        data = stream.getvalue()
        if len(data) <= _POSTER_BYTES:
            break
    return data


def _in_colours(frame: Frame, palette: Palette) -> Image.Image:
    """Returns a frame with its pictures; its paper is transparent."""
    shown = np.dstack([palette.table[frame.plane], 255 * (frame.plane != palette.paper)])
    for each in frame.pictures:
        pixels = enlarge(each.pixels, each.zoom)
        rows = slice(each.top, each.top + pixels.shape[0])
        shown[rows, each.left : each.left + pixels.shape[1]] = np.dstack(
            [pixels, np.full(pixels.shape[:2], 255)]
        )
    return Image.fromarray(shown.astype(np.uint8), "RGBA")
