"""What a page holds: the manifest, in JSON's types, and compressed blocks of planes.

A block of a layer's frame is the maps as `quantise` stores them, packed, followed by the kernels'
pictures; one of the input picture is its three colours as planes.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_count, format_loss, format_module
from replay.maps.axes import JointMaps, Maps
from replay.maps.input_image import NO_PICTURE, InputPicture
from replay.maps.scaling import PERCENTILES, Scaler
from replay.maps.selection import choose_channels, spread
from replay.raster.images import is_blank, kernel_levels, kernel_reach
from replay.raster.mosaic import shrink_maps
from replay.raster.palette import Range, colormap, foreign
from replay.raster.widgets import plain_range
from replay.recording import Recording
from replay.recording.fields import read_losses
from replay.recording.series import Series
from replay.schema import Cell, SelectionError, summarize
from replay.webpage.eight_bit import COUNT, pack, quantise, stored_range
from replay.webpage.size_budget import Source

SCALES = ("run", "epoch", "frame")
CMAPS = ("gray", "viridis", "magma", "cividis", "RdBu_r")
INPUT_SIDE = 256
_SAMPLED = 5  # frames that are compressed to estimate what all of them take
_CURVE = 4000  # points of the loss curve at most
_MARKUP = 150  # bytes around a block, its ranges in the manifest included


class LayerData:
    """One layer of a page.

    Args:
        series: The layer.
        channels: As in `choose_channels`.
        cells: The frames that were asked for; the scales are those of their values.
        joint: The layer in several recordings, whose scales and channels are shared.

    Attributes:
        channels: The channels' numbers.
        source: What it costs a frame.
    """

    def __init__(
        self, series: Series, channels: Any, cells: Sequence[Cell], joint: JointMaps | None = None
    ) -> None:
        self._series = series
        self._shown = Maps(series)  # volumes as their middle slice, tokens as they lie
        self._all, (self._height, self._width) = self._shown.channels, self._shown.size
        if not self._all * self._height * self._width:
            raise SelectionError(f"layer {series.name!r} has empty maps: {series.layer.shape}")
        self._measured = self._shown if joint is None else joint
        self.channels = choose_channels(self._measured, channels, cells)
        self._cells = list(cells)
        self.measure(cells)
        kernel = series.layer.kernel
        self._kernels = kernel is not None and len(kernel) > 2 and kernel[0] == self._all
        self._reach, self._pool = 1.0, 1
        self._costs: dict[int, float] = {}
        self.source = Source(max(self._height, self._width), self._cost)

    def measure(self, cells: Sequence[Cell]) -> None:
        """Measures the scales on these frames."""
        self._scalers = {
            scale: Scaler(self._measured, cells, self.channels, scale, count=COUNT)
            for scale in SCALES
        }

    def prepare(self, cells: Sequence[Cell], pool: int) -> None:
        """Sets the frames and the size that `blocks` and `describe` speak of."""
        self._cells, self._pool = list(cells), pool
        if self._kernels:
            self._reach = max(kernel_reach(self._kernel(cell)) for cell in cells)
        self._bare: list[bool] = []
        self._stored: list[list[float]] = []
        self._frame: list[list[float]] = []
        self._unfinite: list[list[int]] = []
        self._extremes: list[npt.NDArray[np.float32]] = []

    def blocks(self) -> Iterator[bytes]:
        """The block of each frame in turn, and last that of the maps' extremes."""
        for cell in self._cells:
            maps = self._maps(cell)
            summary = summarize(maps)
            small, stored, own = self._stores(cell, maps, self._pool)
            self._stored.append([stored.low, stored.high])
            self._frame.append([own.low, own.high])
            self._unfinite.append([summary.nan, summary.inf])
            self._extremes.append(summary.ranges)
            self._bare.append(self._is_bare(cell))
            yield pack(quantise(small, stored), self._kernel_bytes(cell))
        yield zlib.compress(np.stack(self._extremes).astype("<f4").tobytes(), 6)

    def block(self, cell: Cell) -> tuple[bytes, dict[str, Any]]:
        """One frame on its own, while the run grows, and what `describe` says of it elsewhere.

        It is stored between its extremes, uncut, and its kernels are on a scale of their own:
        what is known of the run so far may change, the block may not.
        """
        maps = self._maps(cell)
        summary = summarize(maps)
        stored = stored_range(maps, [Range(-math.inf, math.inf)])
        reach = kernel_reach(self._kernel(cell)) if self._kernels else 1.0
        facts = {
            "stored": _pair(stored),
            "frame": _pair(self._range("frame", cell, maps)),
            "run": _pair(self._range("run", cell)),
            "epoch": _pair(self._range("epoch", cell)),
            "unfinite": [summary.nan, summary.inf],
            "reach": reach,
            "bare": self._is_bare(cell),
        }
        return pack(quantise(maps, stored), self._kernel_bytes(cell, reach)), facts

    def extremes(self, cells: Sequence[Cell]) -> bytes:
        """Smallest and largest value of each map of these frames, as `blocks` has them last."""
        ranges = self._series.ranges()[tuple(np.array(cells).T)][:, self.channels]
        return zlib.compress(ranges.astype("<f4").tobytes(), 1)

    def outline(self) -> dict[str, Any]:
        """What the manifest says of the layer whatever its frames are."""
        name, of = self._series.name, len(self.channels)
        maps = f"{format_count(of, 'map')} of {self._height}×{self._width}"
        if of < self._all:
            maps = f"{of} of {self._all} maps, {self._height}×{self._width}"
        words = [
            format_module(self._series.layer.module),
            maps + self._pooled_words(),
            clean(self._series.layer.note),
        ]
        return {
            "name": clean(name),
            "words": [part for part in words if part],
            "channels": self.channels,
            "shape": self.shape,
            "kernel": self._describe_kernel(),
        }

    def describe(self) -> dict[str, Any]:
        """The layer's part of the manifest, after `blocks`."""
        epochs = sorted({epoch for epoch, _ in self._cells})
        return {
            **self.outline(),
            "run": _pair(self._range("run", self._cells[0])),
            "epochs": {str(e): _pair(self._range("epoch", (e, 0))) for e in epochs},
            "stored": self._stored,
            "frame": self._frame,
            "unfinite": self._unfinite if any(map(any, self._unfinite)) else None,
            "bare": self._bare if any(self._bare) else None,
        }

    def note(self) -> str | None:
        """What was done to the maps, in words; None where nothing was."""
        if self._pool == 1:
            return None
        return (
            f"{clean(self._series.name)}: maps of {self._height}×{self._width} averaged over "
            f"blocks of {self._pool}×{self._pool}, to {self.shape[0]}×{self.shape[1]}"
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a map in the page."""
        return -(-self._height // self._pool), -(-self._width // self._pool)

    def _pooled_words(self) -> str:
        return f", averaged to {self.shape[0]}×{self.shape[1]}" if self._pool > 1 else ""

    def _maps(self, cell: Cell) -> npt.NDArray[np.float16]:
        return np.ascontiguousarray(self._shown[cell][self.channels][:, 0])  # (C, H, W)

    def _stores(
        self, cell: Cell, maps: npt.NDArray[np.float16], pool: int
    ) -> tuple[npt.NDArray[np.float16], Range, Range]:
        """The maps at their size in the page, their stored range, and that of scale `frame`."""
        small = shrink_maps(maps, pool)
        own = self._range("frame", cell, small)
        offered = [self._range("run", cell), self._range("epoch", cell), own]
        return small, stored_range(small, offered), own

    def _range(self, scale: str, cell: Cell, maps: npt.NDArray[np.float16] | None = None) -> Range:
        none = np.zeros((1, 1, 1), np.float16)
        found = self._scalers[scale].range_of(*cell, none if maps is None else maps)
        assert found is not None
        return found

    def _cost(self, pool: int) -> float:
        if pool not in self._costs:
            sizes = []
            for cell in spread(self._cells, _SAMPLED):
                small, stored, _ = self._stores(cell, self._maps(cell), pool)
                sizes.append(len(pack(quantise(small, stored), self._kernel_bytes(cell))))
            extremes = 3 * len(self.channels)  # of 8 bytes, compressed
            self._costs[pool] = (float(np.mean(sizes)) + extremes) * 4 / 3 + _MARKUP
        return self._costs[pool]

    def _is_bare(self, cell: Cell) -> bool:
        """Whether there are kernels, but none of this frame."""
        return self._kernels and is_blank(self._kernel(cell))

    def _kernel(self, cell: Cell) -> npt.NDArray[np.float16]:
        return self._series.kernels(*cell)[self.channels]

    def _kernel_bytes(self, cell: Cell, reach: float | None = None) -> bytes:
        if not self._kernels:
            return b""
        shown, _ = kernel_levels(self._kernel(cell), self._reach if reach is None else reach)
        last = 255 if shown.ndim == 4 else COUNT - 1
        return np.rint(shown * last).astype(np.uint8).tobytes()

    def _describe_kernel(self) -> dict[str, Any] | None:
        if not self._kernels:
            return None
        shown, words = kernel_levels(self._kernel(self._cells[0]), self._reach)
        return {
            "shape": shown.shape[1:3],
            "rgb": shown.ndim == 4,
            "words": words.replace("kernels", "kernel", 1),
            "reach": self._reach,
        }


class InputData:
    """The input pictures of a page.

    Attributes:
        source: What one costs a frame.
    """

    def __init__(self, recording: Recording, cells: Sequence[Cell]) -> None:
        self._recording, self._asked = recording, list(cells)
        self._cells = self._asked
        shape = recording.inputs.shape
        assert shape is not None
        self._full = shape
        self._pictures: dict[int, InputPicture] = {}
        self._pool = 1
        self._costs: dict[int, float] = {}
        self.source = Source(max(self._picture(1).shape), self._cost)

    def prepare(self, cells: Sequence[Cell], pool: int) -> None:
        """Sets the frames and the size that `blocks` and `describe` speak of."""
        self._cells, self._pool = list(cells), pool

    def blocks(self) -> Iterator[bytes]:
        """The block of each frame in turn."""
        for cell in self._cells:
            yield self.block(cell, self._pool)

    def describe(self) -> dict[str, Any]:
        """The picture's part of the manifest."""
        channels = self._full[0]
        words = "input: first image of the batch"
        if channels not in (1, 3):
            words += ", channel 0 of 2" if channels == 2 else f", channels 0–2 of {channels}"
        shape = self._picture(self._pool).shape
        if shape != self._full[1:]:
            words += f", {self._full[1]}×{self._full[2]} shown as {shape[0]}×{shape[1]}"
        return {"shape": shape, "words": words}

    def _picture(self, pool: int) -> InputPicture:
        if pool not in self._pictures:
            side = max(1, min(self._full[2], INPUT_SIDE) // pool)
            self._pictures[pool] = InputPicture(self._recording, self._asked, side)
        return self._pictures[pool]

    def block(self, cell: Cell, pool: int = 1) -> bytes:
        """The block of one frame."""
        return pack(np.ascontiguousarray(self._picture(pool).show(*cell).transpose(2, 0, 1)))

    def _cost(self, pool: int) -> float:
        if pool not in self._costs:
            sizes = [len(self.block(cell, pool)) for cell in spread(self._asked, _SAMPLED)]
            self._costs[pool] = float(np.mean(sizes)) * 4 / 3 + _MARKUP
        return self._costs[pool]


def colour_tables(names: Sequence[str]) -> dict[str, str]:
    """Each colormap's 254 colours and those of NaN and infinity: 256 x 3 bytes in base64."""
    tables = {}
    for name in dict.fromkeys(names):
        tables[name] = base64.b64encode(colour_table(name).tobytes()).decode("ascii")
    return tables


def colour_table(name: str) -> npt.NDArray[np.uint8]:
    """A colormap's 254 colours and those of NaN and infinity, uint8 (256, 3)."""
    colours = colormap(name, COUNT)
    return np.concatenate([colours, foreign(colours)])


def scale_words(scale: str, runs: int = 1) -> str:
    """What a scale is, in the words of a caption."""
    words = {"run": "one scale for the whole run", "epoch": "one scale for each epoch"}
    shown = words.get(scale, "each frame on its own scale")
    shown += ", the same for both runs" if runs > 1 else ""
    return f"activation, {shown}, {PERCENTILES[0]:g}–{PERCENTILES[1]:g} % of values"


def describe_frames(
    recording: Recording,
    asked: Sequence[Cell],
    kept: Sequence[Cell],
    ends: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """The frames' part of the manifest: numbers, fields in words, and the loss curve.

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
        frames["curve"] = _curve(losses, ends)
    return frames


def _unseen(recording: Recording, kept: Sequence[Cell]) -> list[str] | None:
    """Why a frame has no input picture, in words; None where all have one."""
    inputs = recording.inputs
    there = inputs.present
    words = ["" if there[cell] else NO_PICTURE for cell in kept]
    return words if inputs and any(words) else None


def _curve(
    loss: npt.NDArray[np.float64], ends: tuple[float, float] | None = None
) -> dict[str, Any]:
    """The loss as points of the unit square (None breaks the line), and its ends in words."""
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


def _pair(shown: Range) -> list[float]:
    return [shown.low, shown.high]
