"""The maps of a layer as compressed blocks of a page, and what the manifest says of them.

A block of a frame is the maps as `quantize` stores them, packed, followed by the kernels'
pictures.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_count, format_module
from replay.maps.axes import JointMaps, Maps, choose_channels, shrink_maps, spread
from replay.maps.scaling import Scaler
from replay.raster.palette import Range, is_blank, kernel_levels, kernel_reach
from replay.recording import Series
from replay.schema import Cell, DamagedError, SelectionError, summarize
from replay.webpage.eight_bit import COUNT, pack, quantize, stored_range
from replay.webpage.manifest import SCALES
from replay.webpage.size_budget import MARKUP_BYTES, SAMPLED_FRAMES, PageItem


class LayerData:
    """One layer of a page.

    Args:
        series: The layer.
        channels: As in `choose_channels`.
        cells: The frames that were asked for; the scales are those of their values.
        joint: The layer in several recordings, whose scales and channels are shared.

    Attributes:
        channels: The channels' numbers.
        item: What it costs a frame.
    """

    def __init__(
        self, series: Series, channels: Any, cells: Sequence[Cell], joint: JointMaps | None = None
    ) -> None:
        self._series = series
        self._shown = Maps(series)  # volumes as their middle slice, tokens as they lie
        self._channel_count, (self._height, self._width) = self._shown.channels, self._shown.size
        if not self._channel_count * self._height * self._width:
            raise SelectionError(f"layer {series.name!r} has empty maps: {series.layer.shape}")
        self._joint = joint
        self._damaged_kernels: set[Cell] = set()
        self.channels = choose_channels(self._measured, channels, cells)
        self._cells = list(cells)
        self.measure(cells)
        kernel = series.layer.kernel
        self._kernels = kernel is not None and len(kernel) > 2 and kernel[0] == self._channel_count
        self._reach, self._pool = 1.0, 1
        self._costs: dict[int, float] = {}
        self.item = PageItem(max(self._height, self._width), self._cost)

    @property
    def _measured(self) -> Maps | JointMaps:
        """The maps whose values the scales are of."""
        return self._shown if self._joint is None else self._joint

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
            self._reach = self._kernels_reach(cells)
        self._without_kernels: list[bool] = []
        self._stored: list[list[float]] = []
        self._frame: list[list[float]] = []
        self._unfinite: list[list[int]] = []
        self._extremes: list[npt.NDArray[np.float32]] = []

    def blocks(self) -> Iterator[bytes]:
        """Yields the block of each frame in turn, and last that of the maps' extremes."""
        for cell in self._cells:
            maps = self._maps(cell)
            summary = summarize(maps)
            small, stored, own = self._at_page_size(cell, maps, self._pool)
            self._stored.append([stored.low, stored.high])
            self._frame.append([own.low, own.high])
            self._unfinite.append([summary.nan, summary.inf])
            self._extremes.append(summary.ranges)
            self._without_kernels.append(self._lacks_kernels(cell))
            yield pack(quantize(small, stored), self._kernel_bytes(cell))
        yield zlib.compress(np.stack(self._extremes).astype("<f4").tobytes(), 6)

    def block(self, cell: Cell) -> tuple[bytes, dict[str, Any]]:
        """Returns a frame's block while the run grows, and what `describe` says of it elsewhere.

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
            "bare": self._lacks_kernels(cell),
        }
        return pack(quantize(maps, stored), self._kernel_bytes(cell, reach)), facts

    def extremes(self, cells: Sequence[Cell]) -> bytes:
        """Returns the extremes of each map of some frames, as `blocks` has them last."""
        ranges = self._series.ranges()[tuple(np.array(cells).T)][:, self.channels]
        return zlib.compress(ranges.astype("<f4").tobytes(), 1)

    def outline(self) -> dict[str, Any]:
        """Returns what the manifest says of the layer whatever its frames are."""
        name, of = self._series.name, len(self.channels)
        maps = f"{format_count(of, 'map')} of {self._height}×{self._width}"
        if of < self._channel_count:
            maps = f"{of} of {self._channel_count} maps, {self._height}×{self._width}"
        texts = [
            format_module(self._series.layer.module),
            maps + self._pooled_words(),
            clean(self._series.layer.note),
        ]
        return {
            "name": clean(name),
            "words": [part for part in texts if part],
            "channels": self.channels,
            "shape": self.shape,
            "kernel": self._describe_kernel(),
        }

    def describe(self) -> dict[str, Any]:
        """Returns the layer's part of the manifest, after `blocks`."""
        epochs = sorted({epoch for epoch, _ in self._cells})
        return {
            **self.outline(),
            "run": _pair(self._range("run", self._cells[0])),
            "epochs": {str(e): _pair(self._range("epoch", (e, 0))) for e in epochs},
            "stored": self._stored,
            "frame": self._frame,
            "unfinite": self._unfinite if any(map(any, self._unfinite)) else None,
            "bare": self._without_kernels if any(self._without_kernels) else None,
        }

    def note(self) -> str | None:
        """Returns what was done to the maps, in words; None where nothing was."""
        if self._pool == 1:
            return None
        return (
            f"{clean(self._series.name)}: maps of {self._height}×{self._width} averaged over "
            f"blocks of {self._pool}×{self._pool}, to {self.shape[0]}×{self.shape[1]}"
        )

    def damage(self) -> list[str]:
        """Returns what is damaged in the frames that the page holds, a sentence each."""
        series = self._series
        name = clean(series.name if self._joint is None else f"{series.path.name}: {series.name}")
        found = (
            ("maps", self._shown.damaged, "shown as NaN"),
            ("kernels", self._damaged_kernels, "left out"),
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
        return -(-self._height // self._pool), -(-self._width // self._pool)

    def _pooled_words(self) -> str:
        return f", averaged to {self.shape[0]}×{self.shape[1]}" if self._pool > 1 else ""

    def _maps(self, cell: Cell) -> npt.NDArray[np.float16]:
        return np.ascontiguousarray(self._shown[cell][self.channels][:, 0])  # (C, H, W)

    def _at_page_size(
        self, cell: Cell, maps: npt.NDArray[np.float16], pool: int
    ) -> tuple[npt.NDArray[np.float16], Range, Range]:
        """Returns the maps at their size in the page, their stored range, and the frame's range."""
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
            for cell in spread(self._cells, SAMPLED_FRAMES):
                small, stored, _ = self._at_page_size(cell, self._maps(cell), pool)
                sizes.append(len(pack(quantize(small, stored), self._kernel_bytes(cell))))
            extremes = 3 * len(self.channels)  # of 8 bytes, compressed
            self._costs[pool] = (float(np.mean(sizes)) + extremes) * 4 / 3 + MARKUP_BYTES
        return self._costs[pool]

    def _lacks_kernels(self, cell: Cell) -> bool:
        """Returns whether the layer has kernels, but none were recorded with this frame."""
        return self._kernels and is_blank(self._kernel(cell))

    def _kernel(self, cell: Cell) -> npt.NDArray[np.float16]:
        """Returns a frame's kernels, float16 (C, ...); NaN where they are damaged."""
        try:
            return self._series.kernels(*cell)[self.channels]
        except DamagedError:
            self._damaged_kernels.add(cell)
            assert self._series.layer.kernel is not None
            return np.full((len(self.channels), *self._series.layer.kernel[1:]), np.nan, np.float16)

    def _kernels_reach(self, cells: Sequence[Cell]) -> float:
        """Returns the absolute value at the ends of the kernels' scale, of those that there are."""
        known = (kernels for kernels in map(self._kernel, cells) if not is_blank(kernels))
        return max(map(kernel_reach, known), default=1.0)

    def _kernel_bytes(self, cell: Cell, reach: float | None = None) -> bytes:
        if not self._kernels:
            return b""
        shown, _ = kernel_levels(self._kernel(cell), self._reach if reach is None else reach)
        last = 255 if shown.ndim == 4 else COUNT - 1
        return np.rint(shown * last).astype(np.uint8).tobytes()

    def _describe_kernel(self) -> dict[str, Any] | None:
        if not self._kernels:
            return None
        shown, kind = kernel_levels(self._kernel(self._cells[0]), self._reach)
        return {
            "shape": shown.shape[1:3],
            "rgb": shown.ndim == 4,
            "words": kind.replace("kernels", "kernel", 1),
            "reach": self._reach,
        }


def _pair(shown: Range) -> list[float]:
    return [shown.low, shown.high]
