"""What the page's manifest says of frames, scales and colormaps, in JSON's types."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_count, format_loss
from replay.maps.adaptive import MAGNIFIED
from replay.maps.input_picture import NO_PICTURE
from replay.maps.percentiles import ROBUST
from replay.maps.scaling import GAIN_WORDS
from replay.options import SCALES, FilmOptions
from replay.raster.loss_curve import ends_in_words, plain_range
from replay.raster.names import tell_apart
from replay.raster.palette import colormap, unfinite_colors
from replay.raster.time_axis import TimeAxis
from replay.recording import Recording, read_logged
from replay.schema import Cell
from replay.webpage.eight_bit import COUNT

CMAPS = ("gray", "viridis", "plasma", "magma", "cividis", "RdBu_r")
_SHORT = 26  # letters of a layer's name in the list of all layers
_CURVE = 4000  # points of the loss curve at most


def color_tables(names: Sequence[str]) -> dict[str, str]:
    """Returns each colormap's 254 colors and those of NaN and infinity: 256 x 3 bytes in base64."""
    tables = {}
    for name in dict.fromkeys(names):
        tables[name] = base64.b64encode(color_table(name).tobytes()).decode("ascii")
    return tables


def color_table(name: str) -> npt.NDArray[np.uint8]:
    """Returns a colormap's 254 colors and those of NaN and infinity, uint8 (256, 3)."""
    colors = colormap(name, COUNT)
    return np.concatenate([colors, unfinite_colors(name)])


def scale_words(scale: str, runs: int = 1, stays: bool = False) -> str:
    """Returns what a scale is, in the words of a caption.

    Args:
        scale: One of `SCALES`.
        runs: How many runs are shown.
        stays: Whether frame after frame shows the same image.
    """
    middle = f"{ROBUST[0]:g}–{ROBUST[1]:g} % of values"
    both = ", the same for both runs" if runs > 1 else ""
    held = ", held while the image stays" if stays else ""
    return {
        "adaptive": f"each map on its own range, 1–99 % of its values{held}, magnified "
        f"{MAGNIFIED:g} times at most; {GAIN_WORDS}",
        "map": f"each map by itself, from its least to its greatest value; {GAIN_WORDS}",
        "run": f"one scale for the whole run{both}, {middle}",
        "epoch": f"one scale for each epoch{both}, {middle}",
        "frame": f"each frame on its own scale{both}, {middle}",
        "channel": f"each channel on its own scale{both}, {middle}; {GAIN_WORDS}",
    }[scale]


def describe_source(
    run: Recording, options: FilmOptions, runs: int = 1, stays: bool = False
) -> dict[str, Any]:
    """Returns what is said of the images of one kind, and of what is shown of them.

    Args:
        run: The recording, as it is seen by its view.
        options: The view, and the colours that suit it.
        runs: How many runs are shown.
        stays: Whether frame after frame shows the same image.
    """
    probe, view = run.probe_number, options.view
    key = "first" if probe is None else f"probe-{probe}"
    about: dict[str, Any] = {
        "key": key if view == "maps" else f"{key}-{view}",
        "words": "first image" if probe is None else f"fixed image {probe}",
        "view": view,
        "over": view == "cam",  # over the input picture at first
        "smooth": view == "cam",  # and then bilinear
        "quantity": run.quantity,
        "scales": {scale: scale_words(scale, runs, stays) for scale in SCALES},
    }
    if view in ("gradient", "cam"):
        about["quantity"] += ", each frame divided by its largest value"
        about["colours"] = [options.cmap, options.symmetric]
        about["scales"] = {
            scale: words.replace("layer's largest", "frame's largest")
            for scale, words in about["scales"].items()
        }
    return about


def made_of(about: dict[str, Any], made: str) -> dict[str, Any]:
    """Returns which views a page has of one kind of images.

    Args:
        about: What `describe_source` told of them.
        made: The view that alone is shown, of those that a page makes of what it has.
    """
    if made == "overlay":
        return {"views": [about["view"]], "over": True}
    views = [about["view"], "components"] if about["view"] == "maps" else [about["view"]]
    return {"views": [made] if made else views}


def run_words(recording: Recording) -> list[str]:
    """Returns what a run was, in words: model, dataset, epochs and batches, options."""
    meta = recording.meta
    epochs, batches, size = (_whole(meta.get(key)) for key in ("epochs", "batches", "batch_size"))
    found = [
        clean(str(meta[key])) for key in ("model", "dataset") if isinstance(meta.get(key), str)
    ]
    if epochs and batches:
        of = f" of {size}" if size else ""
        found.append(f"{format_count(epochs, 'epoch')} × {format_count(batches, 'batch')}{of}")
    else:
        present = recording.order > 0
        there = int(present.any(axis=1).sum()), int(present.any(axis=0).sum())
        of_epochs, frames = format_count(there[0], "epoch"), int(present.sum())
        if frames == there[0] * there[1]:
            found.append(f"{of_epochs} × {format_count(there[1], 'batch')}")
        else:  # as of a run that was interrupted
            found.append(f"{format_count(frames, 'frame')} of {of_epochs}")
    for key in ("optimizer", "lr", "seed"):
        value = meta.get(key)
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            found.append(
                clean(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}")
            )
    return found


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def files_of(runs: Sequence[Recording]) -> str:
    """Returns the names of the runs' files, in words."""
    return " and ".join(clean(run.path.name) for run in runs)


def describe_page(title: str, runs: Sequence[Recording]) -> dict[str, Any]:
    """Returns what the manifest says of the runs: heading, what they were, and when."""
    words = run_words(runs[0])
    for run in runs[1:]:
        words = [word for word in words if word in run_words(run)]
    return {
        "title": title,
        "name": " and ".join(clean(run.path.stem) for run in runs),
        "about": words,
        "file": files_of(runs),
        "created": " and ".join(clean(run.created) for run in runs if run.created),
    }


def tell_layers_apart(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns layers with a short name each, distinct where their names are."""
    texts = tell_apart([layer["name"] for layer in layers], _SHORT)
    return [{**layer, "short": text} for layer, text in zip(layers, texts, strict=True)]


def describe_frames(
    recording: Recording,
    asked: Sequence[Cell],
    kept: Sequence[Cell],
    every: npt.NDArray[np.float64] | None = None,
    timeline: Sequence[Cell] | None = None,
    placed: Sequence[Cell] | None = None,
) -> dict[str, Any]:
    """Returns the frames' part of the manifest: numbers, fields in words, and the loss curve.

    Args:
        recording: Where the fields are.
        asked: The frames that were asked for.
        kept: Those that the page holds.
        every: The losses that the loss curve's axis is for; by default those of the recording.
        timeline: The frames along the time axis, whose losses the curve has, with those that were
            asked for among them: a fixed image is seldom shown. By default those alone.
        placed: The frames of which it is told where they stand; by default those kept.
    """
    timeline = asked if timeline is None else timeline
    placed = kept if placed is None else placed
    places = {cell: place for place, cell in enumerate(timeline)}
    axis = TimeAxis(timeline)
    at = axis.places.round(6).tolist()
    turns = np.flatnonzero(np.diff([epoch for epoch, _ in timeline])) + 1
    names = recording.meta.get("classes")
    classes = [clean(str(name)) for name in names] if isinstance(names, list) else []

    def answers(field: str) -> list[str] | None:
        if field not in recording.batches:
            return None
        numbers = [int(recording.batches[field][cell]) for cell in kept]
        if max(numbers, default=-1) < 0:
            return None
        return ["–" if n < 0 else classes[n] if n < len(classes) else str(n) for n in numbers]

    frames: dict[str, Any] = {
        "epoch": [epoch for epoch, _ in kept],
        "batch": [batch for _, batch in kept],
        "epochs": _span([epoch for epoch, _ in asked]),
        "batches": _span([batch for _, batch in asked]),
        "at": [at[places[cell]] for cell in placed],
        "breaks": [at[place] for place in turns],
        "ends": _ends(timeline),
        "label": answers("label"),
        "prediction": answers("prediction"),
        "loss": None,
        "curve": None,
        "unseen": _unseen(recording, kept),
    }
    losses, logged = read_logged(recording.batches, timeline)
    if losses is not None and logged is not None:
        frames["loss"] = [
            format_loss(float(losses[places[cell]])) if logged[places[cell]] else "–"
            for cell in kept
        ]
        frames["curve"] = loss_curve(losses, axis, every)
    return frames


def _ends(timeline: Sequence[Cell]) -> list[int]:
    """Returns the numbers at the ends of the time axis: epochs, or batches of the one epoch."""
    (epoch, batch), (last, last_batch) = timeline[0], timeline[-1]
    return [epoch, last] if epoch != last else [batch, last_batch]


def _unseen(recording: Recording, kept: Sequence[Cell]) -> list[str] | None:
    """Returns why a frame has no input picture, in words; None where all have one."""
    inputs = recording.inputs
    present = inputs.present
    texts = ["" if present[cell] else NO_PICTURE for cell in kept]
    return texts if inputs and any(texts) else None


def loss_curve(
    loss: npt.NDArray[np.float64], axis: TimeAxis, every: npt.NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """Returns the loss as points of the unit square, and its ends in words.

    Args:
        loss: float64 (frames,).
        axis: Where the frames stand; the line breaks where some are missing, too.
        every: The losses that the axis is for; by default these.

    Returns:
        `x` and `y` from 0 to 1, where None breaks the line, and `ends`, the least and the greatest
        loss as text.
    """
    every = loss if every is None else every
    low, high = plain_range(every)
    places = np.arange(len(loss))
    if len(loss) > _CURVE:  # of each stretch, the lowest and the highest
        chosen = set()
        for part in np.array_split(places, _CURVE // 2):
            usable = np.nan_to_num(loss[part], nan=low)
            chosen |= {int(part[usable.argmin()]), int(part[usable.argmax()])}
        places = np.array(sorted(chosen))
    with np.errstate(invalid="ignore"):
        heights = (np.clip(loss[places], low, high) - low) / (high - low)
    x = [round(float(x), 5) for x in axis.places[places]]
    y = [round(float(y), 4) if np.isfinite(y) else None for y in heights]
    gaps = np.searchsorted(places, np.flatnonzero(axis.gaps))
    for gap in reversed(np.unique(gaps).tolist()):
        if 0 < gap < len(x):
            x.insert(gap, round((x[gap - 1] + x[gap]) / 2, 5))
            y.insert(gap, None)
    return {
        "x": x,
        "y": y,
        "ends": ends_in_words(every),
    }


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}–{high}" if high > low else f"{high}"
