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
from replay.webpage.picture_filters import filters_possible
from replay.webpage.size_budget import MARKUP_BYTES, Fidelity, PageItem

KEYS = 10
"""Every so many frames of a fixed image, one is stored without the one before it."""

_SAMPLED = 20  # frames that are packed to estimate what all of them take
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
        self._costs: dict[Fidelity, float] = {}
        self._sampled: dict[Cell, Shown] = {}  # of frames that are packed to estimate costs
        self._cells = list(cells)
        self._measure_scales(cells)
        side = max(self._height, self._width)
        # The eye sees less of what is lost in large maps, which are not enlarged much.
        tolerance = min(max(math.sqrt(side / 32), 0.7), 2.0) * (0.5 if self._fixed else 1.0)
        self.item = PageItem(side, self._cost, tolerance, source, most=2.0 if joint else math.inf)

    def measure(self, cells: Sequence[Cell]) -> None:
        """Measures the scales of several maps on these frames, which are all that there are."""
        self._measure_scales(cells)

    def tell_from(self, pictures: InputData | None) -> bool:
        """Has maps told from the picture of their frame, as pictures that lose nothing have it.

        Args:
            pictures: The pictures; None to have no map told from them any more.

        Returns:
            Whether maps may be told from them.
        """
        self._costs.clear()
        self._pictures = pictures
        if pictures is not None:
            picture = pictures.picture(self._cells[0])
            if not filters_possible((len(self.channels), self._height, self._width), picture):
                self._pictures = None
        return self._pictures is not None

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
        self._frame: list[list[float]] = []
        self._unfinite: list[list[int]] = []
        self._remarks: list[str] = []
        self._extremes: list[npt.NDArray[np.float32]] = []
        self._squares = 0.0

    def blocks(self) -> Iterator[bytes]:
        """Yields the block of each frame in turn, and last that of the maps' extremes."""
        before = None
        for place, cell in enumerate(self._cells):
            maps = self._maps(cell)
            summary = summarize(maps)
            self._frame.append(_pair(self._range("frame", cell, maps)))
            self._unfinite.append([summary.nan, summary.inf])
            self._remarks.append(self._series.remark(cell))
            self._extremes.append(summary.ranges)
            self._kernels.take(cell)
            if not self._fixed or place % KEYS == 0:
                before = None
            block, before = self._pack(cell, maps, self._fidelity, before)
            self._squares += self._squared_error(maps, before)
            yield block
        yield zlib.compress(np.stack(self._extremes).astype("<f4").tobytes(), 6)

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
            "frame": self._frame,
            "channel": self._channel_ranges(),
            "unfinite": self._unfinite if any(map(any, self._unfinite)) else None,
            "bare": self._kernels.bare,
            "remarks": self._remarks if any(self._remarks) else None,
        }

    @property
    def name(self) -> str:
        """The layer's name."""
        return self._series.name

    @property
    def error(self) -> float:
        """Root of the mean square of what pixels are off, in 254ths of the adaptive range."""
        return math.sqrt(self._squares / max(len(self._cells), 1))

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
        found = (
            ("maps", self._shown.damaged, "shown as NaN"),
            ("kernels", self._kernels.damaged, "left out"),
        )
        notes = []
        for what, damaged, outcome in found:
            cells = [cell for cell in self._cells if cell in damaged]
            if cells:
                frames = format_count(len(cells), "frame")
                where = f"first epoch {cells[0][0]} batch {cells[0][1]}"
                notes.append(f"{name}: damaged {what} of {frames}, {where}, {outcome}")
        return notes

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
        fidelity: Fidelity,
        before: FrameBlock | None,
    ) -> tuple[bytes, FrameBlock]:
        shown = self._show(cell)
        extremes = summarize(maps).ranges
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

    def _squared_error(self, maps: npt.NDArray[np.float16], made: FrameBlock) -> float:
        small = shrink_maps(maps, self._fidelity.pool).astype(np.float64)
        width = (made.bounds[:, 1] - made.bounds[:, 0])[:, None, None]
        away = (small - made.values) / width
        if made.odd is not None:
            away[~np.isfinite(small)] = 0.0
        finite = small.size if made.odd is None else int(np.isfinite(small).sum())
        return float(np.square(away).sum() * (COUNT - 1) ** 2 / max(finite, 1))

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
                if self._fixed and (earlier := self._earlier(cell)) is not None:
                    self._sampled[earlier] = self._show(earlier)
                    key, before = self._pack(earlier, self._maps(earlier), fidelity, None)
                    sizes.append(len(key) / KEYS)
                self._sampled[cell] = self._show(cell)
                block, _ = self._pack(cell, self._maps(cell), fidelity, before)
                sizes.append(len(block) * (1 - 1 / KEYS if before is not None else 1))
            of_frames = sum(sizes) / len(spread(self._cells, _SAMPLED))
            extremes = 3 * len(self.channels)  # of 8 bytes, compressed
            self._costs[fidelity] = (of_frames + extremes) * 1.18 + MARKUP_BYTES
        return self._costs[fidelity]

    def _earlier(self, cell: Cell) -> Cell | None:
        place = self._cells.index(cell)
        return self._cells[place - 1] if place else None


def _pair(shown: Range) -> list[float]:
    return [shown.low, shown.high]
