"""What the page's manifest says of frames, scales and colormaps, in JSON's types."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_loss
from replay.maps.input_picture import NO_PICTURE
from replay.maps.percentiles import ROBUST
from replay.raster.loss_curve import plain_range
from replay.raster.palette import colormap, unfinite_colors
from replay.recording import Recording, read_losses
from replay.schema import Cell
from replay.webpage.eight_bit import COUNT

SCALES = ("run", "epoch", "frame")
CMAPS = ("gray", "viridis", "magma", "cividis", "RdBu_r")
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


def scale_words(scale: str, runs: int = 1) -> str:
    """Returns what a scale is, in the words of a caption."""
    texts = {"run": "one scale for the whole run", "epoch": "one scale for each epoch"}
    shown = texts.get(scale, "each frame on its own scale")
    shown += ", the same for both runs" if runs > 1 else ""
    return f"activation, {shown}, {ROBUST[0]:g}–{ROBUST[1]:g} % of values"


def describe_frames(
    recording: Recording,
    asked: Sequence[Cell],
    kept: Sequence[Cell],
    ends: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Returns the frames' part of the manifest: numbers, fields in words, and the loss curve.

    Args:
        recording: Where the fields are.
        asked: The frames that were asked for: the time axis.
        kept: Those that the page holds.
        ends: Of the loss curve's axis; by default those of the loss.
    """
    places = {cell: place for place, cell in enumerate(asked)}
    span = max(len(asked) - 1, 1)
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
        "at": [round(places[cell] / span, 6) for cell in kept],
        "breaks": [
            round(place / span, 6)
            for place in range(1, len(asked))
            if asked[place][0] != asked[place - 1][0]
        ],
        "label": answers("label"),
        "prediction": answers("prediction"),
        "loss": None,
        "curve": None,
        "unseen": _unseen(recording, kept),
    }
    losses = read_losses(recording.batches, asked)
    if losses is not None:
        frames["loss"] = [format_loss(float(losses[places[cell]])) for cell in kept]
        frames["curve"] = loss_curve(losses, ends)
    return frames


def _unseen(recording: Recording, kept: Sequence[Cell]) -> list[str] | None:
    """Returns why a frame has no input picture, in words; None where all have one."""
    inputs = recording.inputs
    present = inputs.present
    texts = ["" if present[cell] else NO_PICTURE for cell in kept]
    return texts if inputs and any(texts) else None


def loss_curve(
    loss: npt.NDArray[np.float64], ends: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Returns the loss as points of the unit square, and its ends in words.

    Args:
        loss: float64 (frames,).
        ends: Lowest and highest value of the axis; by default those of the loss.

    Returns:
        `x` and `y` from 0 to 1, where None breaks the line, and `low` and `high` as text.
    """
    low, high = plain_range(loss) if ends is None else ends
    places = np.arange(len(loss))
    if len(loss) > _CURVE:  # of each stretch, the lowest and the highest
        chosen = set()
        for part in np.array_split(places, _CURVE // 2):
            usable = np.nan_to_num(loss[part], nan=low)
            chosen |= {int(part[usable.argmin()]), int(part[usable.argmax()])}
        places = np.array(sorted(chosen))
    with np.errstate(invalid="ignore"):
        heights = (np.clip(loss[places], low, high) - low) / (high - low)
    return {
        "x": [round(float(x), 5) for x in places / max(len(loss) - 1, 1)],
        "y": [round(float(y), 4) if np.isfinite(y) else None for y in heights],
        "low": format_loss(low),
        "high": format_loss(high),
    }


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}–{high}" if high > low else f"{high}"
