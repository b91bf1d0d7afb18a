"""Maps in a figure of one's own: drawn into matplotlib's axes."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from replay.figures.batch import choose_batches
from replay.maps.axes import choose_channels
from replay.maps.runs import RunSet, choose_layers_of, open_runs
from replay.maps.scaling import Scaler
from replay.option_values import Numbers, either, one_number
from replay.raster.palette import Table, unfinite_colors
from replay.recording import Recording
from replay.schema import DamagedError, OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_GAP, _GAP_NUMBERED = 0.08, 0.32  # between two maps, as a share of a map's longer side
_ASPECT = 1.4  # width to height that a mosaic is to come close to


def draw(
    recording: Recording | str | os.PathLike[str],
    ax: Axes | None = None,
    *,
    layer: str | None = None,
    epoch: Numbers = -1,
    batch: Numbers = -1,
    epochs: Numbers = None,
    batches: Numbers = None,
    channels: Numbers = None,
    scale: str = "run",
    clip: tuple[float, float] | None = None,
    symmetric: bool = False,
    cmap: str = "gray",
    columns: int | None = None,
    numbers: bool = True,
    slices: Numbers = "middle",
    tokens: str = "auto",
    probe: int | None = None,
) -> AxesImage:
    """Draws the maps of one batch into axes of matplotlib.

        figure, ax = plt.subplots()
        image = replay.draw("run.h5", ax, layer="conv2", epoch=0)
        figure.colorbar(image)

    The values are those of the file, and the image's norm is their range, so a colour bar tells
    the truth. NaN and infinite values have the colours that they have in an animation.

    Args:
        recording: An open recording, or the path of one.
        ax: Where to; the current axes by default.
        layer: The layer's name; the first recorded one by default.
        epoch: The epoch, by number; -1 is the last.
        batch: The batch, by number; -1 is the last of the epoch.
        epochs: Another name of `epoch`; one number, too.
        batches: Another name of `batch`; one number, too.
        channels: As in `replay.animate`; one channel is one map.
        scale: `run`, `epoch` or `frame`: the values that share one range.
        clip: An explicit (low, high).
        symmetric: A range symmetric around zero.
        cmap: Name of a registered matplotlib colormap.
        columns: Maps in a row.
        numbers: Whether each map's number stands above it.
        slices: Of a volume, as in `replay.animate`.
        tokens: As in `replay.animate`.
        probe: The number of a fixed image, whose maps are drawn.

    Returns:
        The image. Its array holds float32 values; what lies between the maps is masked.

    Raises:
        RecordingError: What was asked for is not there, is damaged, or cannot be drawn.
    """
    if scale == "channel":
        raise OptionError("scale channel: expected run, epoch or frame, which have one colour bar")
    unfinite = unfinite_colors(cmap)
    epoch = one_number(either("epoch", epoch, "epochs", epochs, -1), "draw", "epoch")
    batch = one_number(either("batch", batch, "batches", batches, -1), "draw", "batch")
    with open_runs(recording, probe) as runs:
        shown = RunSet(runs, choose_layers_of(runs, layer)[:1], slices, tokens)
        cell = choose_batches(shown, epoch, batch)[0]
        maps = shown.rows[0].maps
        chosen = choose_channels(maps, channels, shown.cells())
        values = maps[cell][chosen]
        if cell in maps.damaged:
            raise DamagedError(maps.damaged[cell])
        scaler = Scaler(maps, shown.cells(), chosen, scale, clip, symmetric)
        between = scaler.range_of(*cell, values)
        assert between is not None
        labels = maps.labels(chosen)
        title = f"{maps.layer.name}, epoch {cell[0]}, batch {cell[1]}"
    tiles = values.reshape(-1, *values.shape[2:]).astype(np.float32)  # (C * S, H, W)
    mosaic, corners = _lay_out(tiles, columns, numbers)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.gca()
    return _paint(ax, mosaic, corners, labels if numbers else [], title, between, unfinite, cmap)


def _lay_out(tiles: Any, columns: int | None, numbered: bool) -> tuple[Any, list[tuple[int, int]]]:
    """Returns the tiles side by side, masked in between, and the corner of each."""
    count, height, width = tiles.shape
    if columns is not None and columns < 1:
        raise OptionError(f"columns {columns}: expected a whole number of 1 or more")
    per_row = _columns(count, height, width) if columns is None else min(columns, count)
    gap = 0 if count == 1 else max(1, round(_GAP * max(height, width)))
    above = max(gap, round(_GAP_NUMBERED * max(height, width))) if gap and numbered else gap
    rows = -(-count // per_row)
    shape = (rows * (height + above) - above, per_row * (width + gap) - gap)
    mosaic: Any = np.ma.array(np.zeros(shape, np.float32), mask=True)
    corners = []
    for place, tile in enumerate(tiles):
        row, column = divmod(place, per_row)
        top, left = row * (height + above), column * (width + gap)
        mosaic[top : top + height, left : left + width] = tile
        corners.append((top, left))
    return mosaic, corners


def _columns(count: int, height: int, width: int) -> int:
    """Returns how many maps stand in a row: few empty places, and a shape that fits a page."""

    def cost(columns: int) -> float:
        rows = -(-count // columns)
        aspect = columns * width / (rows * height)
        return abs(math.log(aspect / _ASPECT)) + 2 * (rows * columns - count) / count

    return min(range(1, count + 1), key=cost)


def _paint(
    ax: Axes,
    mosaic: Any,
    corners: list[tuple[int, int]],
    labels: list[str],
    title: str,
    between: Any,
    unfinite: Table,
    cmap: str,
) -> AxesImage:
    high = between.low if between.word else between.high  # matplotlib's own way with a constant
    image = ax.imshow(mosaic, cmap=cmap, vmin=between.low, vmax=high, interpolation="nearest")
    strange = ~np.isfinite(mosaic.filled(0.0))
    if strange.any():
        marks = np.zeros((*mosaic.shape, 4), np.uint8)
        nan, inf = unfinite
        marks[strange] = [*inf, 255]
        marks[np.isnan(mosaic.filled(0.0))] = [*nan, 255]
        ax.imshow(marks, interpolation="nearest")
    if len(corners) > 1:
        for (top, left), label in zip(corners, labels, strict=False):
            ax.text(left - 0.5, top - 0.7, label, fontsize="xx-small", va="bottom", ha="left")
    ax.set_axis_off()
    if not ax.get_title():
        ax.set_title(title, fontsize="medium")
    return image
