"""Maps in a figure of one's own: drawn into matplotlib's axes."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from replay.figures.batch import choose_batches
from replay.figures.low_to_high import low_to_high
from replay.idle_options import check_given, check_layers
from replay.maps.axes import choose_channels
from replay.maps.runs import RunSet, choose_layers_of, open_runs
from replay.maps.scaling import Scaler
from replay.option_values import Numbers, either, one_number
from replay.options import FilmOptions
from replay.raster.mosaic import is_outlined
from replay.raster.palette import Table, unfinite_colors
from replay.raster.tile_captions import Gain, Gains
from replay.recording import Recording
from replay.schema import DamagedError, OptionError, SelectionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_GAP, _GAP_NUMBERED = 0.08, 0.32  # between two maps, as a share of a map's longer side
_INSIDE = 0.03  # of a value: from a map's edge to its outline, which axes would cut there
_BAR = 0.4, 0.08, 0.08  # length, height and distance of a gain bar, as a share of a map's side
_ACCENT, _FAINT = "#0062be", "#d8dadd"  # of a gain bar, in the light theme
# Whatever the settings of matplotlib say: the first row is above, and no pixel is made up.
_UPRIGHT: Any = {"interpolation": "nearest", "origin": "upper", "aspect": "equal"}
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
    layers: str | None = None,
    channels: Numbers = None,
    scale: str = "adaptive",
    clip: tuple[float, float] | None = None,
    symmetric: bool = False,
    cmap: str = "gray",
    columns: int | None = None,
    numbers: bool = True,
    slices: Numbers = "middle",
    tokens: str = "auto",
    probe: int | None = None,
    view: str = "maps",
    query: str | int | tuple[int, int] | None = None,
    cam_method: str = "grad-cam",
) -> AxesImage:
    """Draws the maps of one batch into axes of matplotlib.

        figure, ax = plt.subplots()
        image = replay.draw("run.h5", ax, layer="conv2", epoch=0)
        figure.colorbar(image)

    On a range for all maps (`run`, `epoch`, `frame`, or a `clip`) the image has the values of the
    file, and its norm is their range, so that a colour bar has numbers. Where each map has a range
    of its own, the image has each value's place in it, 0 for low and 1 for high, a colour bar says
    low and high, and a gain bar stands beside each number: that range against the largest of the
    layer, on a logarithmic scale from 1/1000. NaN and infinite values have the colours that they
    have in an animation.

    Args:
        recording: An open recording, or the path of one.
        ax: Where to; the current axes by default.
        layer: The layer's name, or a glob that one layer matches; the first recorded one by
            default.
        epoch: The epoch, by number; -1 is the last.
        batch: The batch, by number; -1 is the last of the epoch.
        epochs: Another name of `epoch`; one number, too.
        batches: Another name of `batch`; one number, too.
        layers: Another name of `layer`; one layer, too.
        channels: As in `replay.animate`; one channel is one map.
        scale: `adaptive` or `map` (each map on a range of its own), `channel` (each channel on one
            for the run), or `run`, `epoch` or `frame`, as in `replay.animate`.
        clip: An explicit (low, high).
        symmetric: A range symmetric around zero.
        cmap: Name of a registered matplotlib colormap.
        columns: Maps in a row.
        numbers: Whether each map's number stands above it.
        slices: Of a volume, as in `replay.animate`.
        tokens: As in `replay.animate`.
        probe: The number of a fixed image, whose maps are drawn.
        view: `maps`, or another view, as in `replay.animate`.
        query: Of attention, as in `replay.animate`.
        cam_method: Of class activation, as in `replay.animate`.

    Returns:
        The image. Its array is float32; what lies between the maps is masked.

    Raises:
        RecordingError: What was asked for is not there, is damaged, or cannot be drawn.
    """
    check_given(locals())
    unfinite = unfinite_colors(cmap)
    epoch = one_number(either("epoch", epoch, "epochs", epochs, -1), "draw", "epoch")
    batch = one_number(either("batch", batch, "batches", batches, -1), "draw", "batch")
    layer = either("layer", layer, "layers", layers)
    with open_runs(recording, probe) as runs:
        if view != "maps":
            from replay.maps.views import look_at

            options = FilmOptions(
                layer,
                channels,
                scale=scale,
                clip=clip,
                symmetric=symmetric,
                cmap=cmap,
                tokens=tokens,
                view=view,
                query=query,
                cam_method=cam_method,
            )
            runs, options = look_at(runs, options)
            clip, symmetric, cmap = options.clip, options.symmetric, options.cmap
            scale, channels = options.scale, options.channels
            unfinite = unfinite_colors(cmap)
        names = choose_layers_of(runs, layer if view == "maps" else options.layers)
        if len(names) > 1:
            raise SelectionError(
                f"draw: expected one layer, found {len(names)}: {', '.join(names)}; draw each "
                "into axes of its own"
            )
        shown = RunSet(runs, names, slices, tokens)
        of_layers = {"view": view, "slices": slices, "tokens": tokens}
        check_layers(of_layers, [row.maps.layer.axes for row in shown.rows])
        cell = choose_batches(shown, epoch, batch)[0]
        maps = shown.rows[0].maps
        chosen = choose_channels(maps, channels, shown.cells())
        values = maps[cell][chosen]
        if cell in maps.damaged:
            raise DamagedError(maps.damaged[cell])
        scaler = Scaler(maps, shown.cells(), chosen, scale, clip, symmetric)
        scaler.measure(*cell, values)
        own, tiles = scaler.channel_bounds(*cell), values.astype(np.float32)
        between = scaler.range_of(*cell, values)
        bounds = None if own is None else own.bounds
        if scaler.mode == "channel":
            ranges = [scaler.channel_range(place) for place in range(len(chosen))]
            bounds = np.array([[each.low, each.high] for each in ranges])
        if bounds is not None:
            low, high = (end[:, None, None, None] for end in bounds.T)
            tiles = ((tiles - low) / (high - low)).astype(np.float32)
        elif maps.series.unit != 1.0 and between is not None:
            between = between.times(maps.series.unit)
            tiles *= maps.series.unit
        colours = _tiles(maps.series, cell)[chosen] if maps.series.in_colour else None
        each = values.shape[1]  # slices of a map
        gains = [] if own is None else Gains(own.gain, own.constant, own.faint)
        labels = maps.labels(chosen)
        title = f"{maps.layer.name}, epoch {cell[0]}, batch {cell[1]}"
    tiles = tiles.reshape(-1, *values.shape[2:])  # (C * S, H, W)
    mosaic, corners = _lay_out(tiles, columns, numbers)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.gca()
    norm = low_to_high()
    if between is not None:  # of a constant as matplotlib itself does it
        norm = Normalize(between.low, between.low if between.word else between.high)
    if colours is None:
        image = _paint(ax, mosaic, unfinite, cmap, norm)
    else:
        planes = [_lay_out(colours[..., band], columns, numbers)[0] for band in range(3)]
        opaque = np.where(mosaic.mask, 0, 255)
        pixels = np.stack([*(plane.filled(0) for plane in planes), opaque], axis=2)
        image = ax.imshow(pixels.astype(np.uint8), **_UPRIGHT)
    if is_outlined(*tiles.shape[1:]):  # a white one would be paper
        for top, left in corners:
            height, width = (side - 2 * _INSIDE for side in tiles.shape[1:])
            _draw_frame(ax, left - 0.5 + _INSIDE, top - 0.5 + _INSIDE, width, height)
    if numbers and len(corners) > 1:
        over = _GAP_NUMBERED * max(tiles.shape[1:])
        ax.set_ylim(mosaic.shape[0] - 0.5, -0.5 - over)  # so that the title is above the numbers
        _write_labels(ax, corners, labels)
        for place, gain in enumerate(gains):
            for corner in corners[place * each : (place + 1) * each]:
                _draw_gain(ax, gain, corner, tiles.shape[1:])
    ax.set_axis_off()
    if not ax.get_title():
        ax.set_title(title, fontsize="medium")
    return image


def _tiles(series: Any, cell: tuple[int, int]) -> Any:
    """Returns the pictures of what has colours of its own, uint8 (N, H, W, 3)."""
    return series.tiles(cell)


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


def _paint(ax: Axes, mosaic: Any, unfinite: Table, cmap: str, norm: Any) -> AxesImage:
    """Draws the maps, and over them what is not finite."""
    image = ax.imshow(mosaic, cmap=cmap, norm=norm, **_UPRIGHT)
    strange = ~np.isfinite(mosaic.filled(0.0))
    if strange.any():
        marks = np.zeros((*mosaic.shape, 4), np.uint8)
        nan, inf = unfinite
        marks[strange] = [*inf, 255]
        marks[np.isnan(mosaic.filled(0.0))] = [*nan, 255]
        ax.imshow(marks, **_UPRIGHT)
    return image


def _write_labels(ax: Axes, corners: list[tuple[int, int]], labels: list[str]) -> None:
    """Writes the number of each map over it."""
    for (top, left), label in zip(corners, labels, strict=False):
        ax.text(left - 0.5, top - 0.7, label, fontsize="xx-small", va="bottom", ha="left")


def _draw_frame(ax: Axes, x: float, y: float, width: float, height: float) -> None:
    ax.add_patch(Rectangle((x, y), width, height, facecolor="none", edgecolor="gray", lw=0.5))


def _draw_gain(ax: Axes, gain: Gain, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Draws how strong a channel is, at the right over its map; an open bar where it is flat."""
    (top, left), (height, width) = corner, size
    side = max(height, width)
    length, thick = min(_BAR[0] * width, _BAR[0] * side), _BAR[1] * side
    x, y = left + width - 0.5 - length, top - 0.5 - _BAR[2] * side - thick
    if gain.mark:
        _draw_frame(ax, x, y, length, thick)
        return
    ax.add_patch(Rectangle((x, y), length, thick, facecolor=_FAINT, linewidth=0))
    ax.add_patch(Rectangle((x, y), length * gain.length, thick, facecolor=_ACCENT, linewidth=0))
