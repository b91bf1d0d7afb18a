"""The maps of a layer as compressed blocks of a page, and what the manifest says of them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_count, format_module
from replay.maps.adaptive import OwnRanges, Shown
from replay.maps.axes import JointMaps, Maps, choose_channels, shrink_maps, spread
from replay.maps.scaling import Scaler
from replay.raster.palette import Range
from replay.recording import Series
from replay.schema import Cell, SelectionError, summarize
from replay.webpage.eight_bit import COUNT
from replay.webpage.frame_block import FrameBlock, pack_frame
from replay.webpage.input_data import InputData
from replay.webpage.kernel_data import KernelData
from replay.webpage.over_input import places_of
from replay.webpage.packed_frame import (
    PackedFrame,
    damage_of,
    describe_packed,
    error_of,
    squared_error,
)
from replay.webpage.page_workers import even_borders
from replay.webpage.picture_filters import filters_possible
from replay.webpage.size_budget import MARKUP_BYTES, Fidelity, PageItem

KEYS = 10
"""Every so many frames of a fixed image, one is stored without the one before it."""

_SAMPLED = 12  # frames that are packed to estimate what all of them take
_JOINT = ("run", "epoch", "frame", "channel")  # scales whose ranges the manifest has


class LayerData:
    """One layer of a page.

    Args:
        series: The layer.
        channels: As in `choose_channels`.
        cells: The frames that were asked for; the scales are those of their values.
        joint: The layer in several recordings, whose scales and channels are shared.
        source: The place of the images among those of the page.
        live: Whether frames are still added: ranges are then told from those before.

    Attributes:
        channels: The channels' numbers.
        item: What it costs a frame.
        places: Where the positions of its maps stand in the image; None if nowhere.
        components: The id of the block with the basis of its components; empty without.
    """

    def __init__(
        self,
        series: Series,
        channels: Any,
        cells: Sequence[Cell],
        joint: JointMaps | None = None,
        source: int = 0,
        live: bool = False,
    ) -> None:
        self._series = series
        self._shown = Maps(series)  # volumes as their middle slice, tokens as they lie
        self._channel_count, (self._height, self._width) = self._shown.channels, self._shown.size
        if not self._channel_count * self._height * self._width:
            raise SelectionError(f"layer {series.name!r} has empty maps: {series.layer.shape}")
        self.places = places_of(series, self._shown)
        self.components = ""
        self._measured: Maps | JointMaps = self._shown if joint is None else joint
        self._joint = joint
        self.channels = choose_channels(self._measured, channels, cells)
        self._fixed = series.layer.probe is not None
        self._live = live
        self._pictures: InputData | None = None
        self._ranges = self._own_ranges()
        self._kernels = KernelData(series, self.channels, self._channel_count)
        self._fidelity = Fidelity()
        self._packed: Sequence[PackedFrame] = []
        self._costs: dict[Fidelity, float] = {}
        self._sampled: dict[Cell, Shown] = {}  # of frames that are packed to estimate costs
        self._told: dict[Cell, tuple[int, FrameBlock]] = {}  # those that are told from pictures
        self._cells = list(cells)
        self._measure_scales(cells)
        side = max(self._height, self._width)
        # The eye sees less of what is lost in large maps, which are not enlarged much.
        tolerance = min(max(math.sqrt(side / 32), 0.7), 2.0) * (0.5 if self._fixed else 1.0)
        self.item = PageItem(side, self._cost, tolerance, source, most=2.0 if joint else math.inf)

    def measure(self, cells: Sequence[Cell]) -> None:
        """Measures the scales of several maps on these frames, which are all that there are."""
        self._measure_scales(cells)

    def may_tell_from(self, pictures: InputData) -> bool:
        """Returns whether maps may be told from pictures, as those that lose nothing have them."""
        picture = pictures.picture(self._cells[0])
        return filters_possible((len(self.channels), self._height, self._width), picture)

    def tell_from(self, pictures: InputData | None) -> None:
        """Has maps told from the picture of their frame; from None: not any more."""
        self._costs.clear()
        self._told.clear()
        self._pictures = pictures

    def present(self, cell: Cell) -> bool:
        """Returns whether there is a frame."""
        there = self._series.present
        return cell[0] < there.shape[0] and cell[1] < there.shape[1] and bool(there[cell])

    @property
    def frames(self) -> list[Cell]:
        """(epoch, batch) of all its frames, also those that a page does not have."""
        return self._series.frames

    def in_places(self, cell: Cell) -> npt.NDArray[np.float16]:
        """Returns what stands in the image of a frame, float16 (C, positions)."""
        places = self.places
        assert places is not None
        maps = self._shown[cell][self.channels][:, 0].reshape(len(self.channels), -1)
        return maps[:, places.prefix : places.prefix + places.rows * places.columns]

    @property
    def stays(self) -> bool:
        """Whether frame after frame shows the same image."""
        return self._ranges.stays

    def _own_ranges(self) -> OwnRanges:
        return OwnRanges(self._shown, self.channels, "adaptive", trailing=self._live)

    def _measure_scales(self, cells: Sequence[Cell]) -> None:
        self._scalers = {
            scale: Scaler(self._measured, cells, self.channels, scale, count=COUNT)
            for scale in _JOINT
        }

    def prepare(self, cells: Sequence[Cell], fidelity: Fidelity) -> None:
        """Sets the frames and the fidelity that `blocks` and `describe` speak of."""
        self._cells, self._fidelity = list(cells), fidelity
        self._kernels.prepare(cells)
        self._packed = []
        self._told.clear()

    @property
    def packed_frames(self) -> int:
        """How many frames `pack` yields at most."""
        return len(self._cells)

    @property
    def values(self) -> int:
        """The number of values of a frame."""
        return len(self.channels) * self._height * self._width

    def borders(self, count: int) -> list[int]:
        """Returns where so many shares of its frames begin, and where the last one ends."""
        return even_borders(len(self._cells), count, KEYS if self._fixed else 1)

    def pack(self, start: int, stop: int) -> Iterator[PackedFrame]:
        """Yields some of the frames in turn, the first of which is told from no other."""
        before = None
        for place in range(start, stop):
            cell = self._cells[place]
            maps = self._maps(cell)
            summary = summarize(maps)
            if not self._fixed or place % KEYS == 0:
                before = None
            block, before = self._pack(cell, maps, summary.ranges, self._fidelity, before)
            yield PackedFrame(
                block,
                _pair(self._range("frame", cell, maps)),
                [summary.nan, summary.inf],
                self._series.remark(cell),
                summary.ranges,
                self._kernels.lacks(cell),
                not self.present(cell),
                squared_error(shrink_maps(maps, self._fidelity.pool), before),
                cell in self._shown.damaged,
                cell in self._kernels.damaged,
            )

    def blocks(self, packed: Sequence[PackedFrame]) -> Iterator[bytes]:
        """Yields the block of each frame in turn, and last that of the maps' extremes.

        Args:
            packed: What `pack` yielded of all of them, here or elsewhere.
        """
        for frame in packed:
            yield frame.block
        self._packed = packed
        extremes = np.stack([frame.extremes for frame in packed])
        yield zlib.compress(extremes.astype("<f4").tobytes(), 6)

    def block(self, cell: Cell) -> tuple[bytes, dict[str, Any]]:
        """Returns a frame's block while the run grows, and what `describe` says of it elsewhere.

        Its kernels are on a scale of their own: what is known of the run so far may change, the
        block may not.
        """
        if cell not in self._ranges:
            self._ranges = self._own_ranges()
        maps = self._maps(cell)
        shown = self._show(cell)
        summary = summarize(maps)
        reach = self._kernels.reach_of(cell)
        facts = {
            "frame": _pair(self._range("frame", cell, maps)),
            "run": _pair(self._range("run", cell)),
            "epoch": _pair(self._range("epoch", cell)),
            "channel": self._channel_ranges(),
            "largest": self._ranges.largest,
            "unfinite": [summary.nan, summary.inf],
            "reach": reach,
            "bare": self._kernels.lacks(cell),
            "absent": not self.present(cell),
            "remarks": self._series.remark(cell),
        }
        kernels = self._kernels.pictures(cell, reach)
        block, _ = pack_frame(maps, summary.ranges, shown, kernels=kernels)
        return block, facts

    def extremes(self, cells: Sequence[Cell]) -> bytes:
        """Returns the extremes of each map of some frames, as `blocks` has them last."""
        if self._series.has_ranges:
            ranges = self._series.ranges()[tuple(np.array(cells).T)][:, self.channels]
        else:
            ranges = np.stack([summarize(self._maps(cell)).ranges for cell in cells])
        return zlib.compress(ranges.astype("<f4").tobytes(), 1)

    def outline(self) -> dict[str, Any]:
        """Returns what the manifest says of the layer whatever its frames are."""
        name, of, tile = self._series.name, len(self.channels), self._series.tile
        maps = f"{format_count(of, tile)} of {self._height}×{self._width}"
        if of < self._channel_count:
            maps = f"{of} of {self._channel_count} {tile}s, {self._height}×{self._width}"
        texts = [
            format_module(self._series.layer.module),
            maps + self._pooled_words(),
            clean(self._series.layer.note),
        ]
        return {
            "name": clean(name),
            "maps": maps,
            "words": [part for part in texts if part],
            "channels": self.channels,
            "shape": self.shape,
            "step": self._fidelity.step,
            "key_step": self._key_step(self._fidelity),
            "largest": self._ranges.largest,
            "kernel": self._kernels.describe(),
            "places": self._places_now(),
            "components": self.components or None,
            **({} if self._pictures is None else {"beyond": self._pictures.beyond}),
        }

    def describe(self) -> dict[str, Any]:
        """Returns the layer's part of the manifest, after `blocks`."""
        epochs = sorted({epoch for epoch, _ in self._cells})
        return {
            **self.outline(),
            "run": _pair(self._range("run", self._cells[0])),
            "epochs": {str(e): _pair(self._range("epoch", (e, 0))) for e in epochs},
            "frame": [frame.range for frame in self._packed],
            "channel": self._channel_ranges(),
            **describe_packed(self._packed),
        }

    @property
    def name(self) -> str:
        """The layer's name."""
        return self._series.name

    @property
    def error(self) -> float:
        """Root of the mean square of what pixels are off, in 254ths of the adaptive range."""
        return error_of(self._packed)

    def note(self) -> str | None:
        """Returns what was done to the maps, in words; None where nothing was."""
        if self._fidelity.pool == 1:
            return None
        pool = self._fidelity.pool
        return (
            f"{clean(self._series.name)}: maps of {self._height}×{self._width} averaged over "
            f"blocks of {pool}×{pool}, to {self.shape[0]}×{self.shape[1]}"
        )

    def damage(self) -> list[str]:
        """Returns what is damaged in the frames that the page holds, a sentence each."""
        series = self._series
        name = clean(series.name if self._joint is None else f"{series.path.name}: {series.name}")
        return damage_of(name, self._cells, self._packed)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a map in the page."""
        pool = self._fidelity.pool
        return -(-self._height // pool), -(-self._width // pool)

    def _places_now(self) -> list[int] | None:
        places, pool = self.places, self._fidelity.pool
        if places is None or pool == 1:
            return None if places is None else [places.prefix, places.rows, places.columns]
        if (places.rows, places.columns) != (self._height, self._width):
            return None  # of a row of tokens, means of several
        return [0, *self.shape]

    def _pooled_words(self) -> str:
        pooled = self._fidelity.pool > 1
        return f", averaged to {self.shape[0]}×{self.shape[1]}" if pooled else ""

    def _maps(self, cell: Cell) -> npt.NDArray[np.float16]:
        maps = np.ascontiguousarray(self._shown[cell][self.channels][:, 0])  # (C, H, W)
        if cell in self._ranges and cell not in self._sampled:
            self._ranges.measure(cell, maps)
        return maps

    def _show(self, cell: Cell) -> Shown:
        if (known := self._sampled.get(cell)) is not None:
            return known
        if cell in self._ranges:
            return self._ranges.show(cell)
        count = len(self.channels)  # the layer put out nothing in this batch
        none = np.zeros(count, bool)
        return Shown(np.tile([[0.0, 1.0]], (count, 1)), np.zeros(count), none, none)

    def _pack(
        self,
        cell: Cell,
        maps: npt.NDArray[np.float16],
        extremes: npt.NDArray[np.float32],
        fidelity: Fidelity,
        before: FrameBlock | None,
    ) -> tuple[bytes, FrameBlock]:
        shown = self._show(cell)
        small = shrink_maps(maps, fidelity.pool)
        kernels = self._kernels.pictures(cell)
        step = self._key_step(fidelity) if before is None else fidelity.step
        told = self._pictures if fidelity.pool == 1 else None
        picture = None if told is None else told.picture(cell)
        return pack_frame(small, extremes, shown, step, kernels, before, picture)

    def _key_step(self, fidelity: Fidelity) -> float:
        """Returns the step of a frame that is stored without the one before it.

        What those that follow it do not change stays as it is, so that it has to be better.
        """
        return max(1.0, fidelity.step // 3) if self._fixed else fidelity.step

    def _range(self, scale: str, cell: Cell, maps: npt.NDArray[np.float16] | None = None) -> Range:
        none = np.zeros((1, 1, 1), np.float16)
        found = self._scalers[scale].range_of(*cell, none if maps is None else maps)
        assert found is not None
        return found

    def _channel_ranges(self) -> list[list[float]]:
        scaler = self._scalers["channel"]
        return [_pair(scaler.channel_range(place)) for place in range(len(self.channels))]

    def _cost(self, fidelity: Fidelity) -> float:
        if fidelity not in self._costs:
            sizes = []
            for cell in spread(self._cells, _SAMPLED):
                before = None
                place = self._cells.index(cell) if self._fixed else 0
                if place:
                    key, before = self._try(self._cells[place - 1], fidelity, None)
                    sizes.append(key / KEYS)
                size, _ = self._try(cell, fidelity, before)
                sizes.append(size * (1 - 1 / KEYS if place else 1))
            of_frames = sum(sizes) / len(spread(self._cells, _SAMPLED))
            extremes = 3 * len(self.channels)  # of 8 bytes, compressed
            self._costs[fidelity] = (of_frames + extremes) * 1.18 + MARKUP_BYTES
        return self._costs[fidelity]

    def _try(
        self, cell: Cell, fidelity: Fidelity, before: FrameBlock | None
    ) -> tuple[int, FrameBlock | None]:
        """Returns the size of a frame's block, and what a reader finds in it.

        What is told from the picture takes as much at every step, and is not told twice.
        """
        told = self._told if fidelity.pool == 1 else {}
        if cell not in told:
            self._sampled[cell] = self._show(cell)
            maps = self._maps(cell)
            packed, block = self._pack(cell, maps, summarize(maps).ranges, fidelity, before)
            if not block.told:
                return len(packed), block
            told[cell] = len(packed), block
        return told[cell]


def _pair(shown: Range) -> list[float]:
    return [shown.low, shown.high]
