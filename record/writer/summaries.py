"""Computes the ranges of all maps of a batch at once, in one pass over the flat buffer.

A network's later layers have hundreds of small maps, for which a call each would cost more than the
values; the same is true of small frames, of which several are summarized together.
`schema.summarize` treats values that are not finite.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from record.protocol.layout import BatchLayout
from replay import schema

GROUP = 1 << 17  # values that are treated together: they stay in the processor's cache
_NARROW = 32  # values of a map up to which it is quicker to go through all maps value by value
_INF, _NEGATIVE_INF = 0x7C00, 0xFC00  # their bits; those of NaN of the same sign are larger


class FrameSummary(NamedTuple):
    """What is written beside a frame.

    Attributes:
        ranges: float32 (all channels of all layers, 2), the smallest and the largest finite value;
            NaN where there is none. `FrameSummarizer.spans` says which rows are a layer's.
        nan: The number of values that are NaN.
        inf: The number of values that are infinite.
    """

    ranges: npt.NDArray[np.float32]
    nan: int
    inf: int


class FrameSummarizer:
    """Summarizes frames of one layout.

    Args:
        layout: What a frame consists of.

    Attributes:
        spans: For each layer, the first of its rows in the ranges and the one after its last.
    """

    def __init__(self, layout: BatchLayout) -> None:
        self._layout = layout
        self.spans: list[tuple[int, int]] = []
        self._groups: list[_LayerGroup] = []
        self._empty: list[int] = []  # layers without a value, which are in no group
        end = 0
        for place, (layer, slot) in enumerate(zip(layout.layers, layout.map_slots, strict=True)):
            span = end, end + layer.channels
            self.spans.append(span)
            end = span[1]
            if slot.stop == slot.start:
                self._empty.append(place)
                continue
            group = self._groups[-1] if self._groups else None
            if group is None or slot.stop - group.start > GROUP:
                group = _LayerGroup(slot.start)
                self._groups.append(group)
            group.add(place, slot.start, slot.stop, span, bool(layer.channel_axis))
        self._rows: list[int] = []  # of the ranges, one for each map of a group
        for group in self._groups:
            group.finish()
            group.maps = slice(len(self._rows), len(self._rows) + len(group.rows))
            group.layers = [
                (place, first + group.maps.start, last + group.maps.start)
                for place, first, last in group.layers
            ]
            self._rows += group.rows
        self._at_rows = _as_slice(self._rows)
        self._channels = end

    def summarize(
        self, frames: npt.NDArray[np.float16], missing: Sequence[Collection[int]]
    ) -> list[FrameSummary]:
        """Summarizes some frames.

        Args:
            frames: The flat buffers, float16 (N, size).
            missing: For each frame, the places of its layers without maps.

        Returns:
            One summary for each frame.
        """
        if not len(frames):
            return []
        ranges = np.empty((len(frames), self._channels, 2), np.float32)
        unfinite: list[tuple[int, int]] = []  # frame, layer
        if self._groups:
            self._summarize_groups(frames, ranges, unfinite)
        unfinite += [(n, place) for n in range(len(frames)) for place in self._empty]
        counts = [[0, 0] for _ in frames]
        for number, place in unfinite:
            if place in missing[number]:
                continue
            slot, layer = self._layout.map_slots[place], self._layout.layers[place]
            maps = frames[number, slot.start : slot.stop].reshape(slot.shape)
            found = schema.summarize(layer.channels_first(maps))
            ranges[number, slice(*self.spans[place])] = found.ranges
            if layer.probe is None and not layer.kind:
                counts[number][0] += found.nan
                counts[number][1] += found.inf
        for number, places in enumerate(missing):
            for place in places:
                ranges[number, slice(*self.spans[place])] = np.nan
        return [FrameSummary(ranges[number], *count) for number, count in enumerate(counts)]

    def _summarize_groups(
        self,
        frames: npt.NDArray[np.float16],
        ranges: npt.NDArray[np.float32],
        unfinite: list[tuple[int, int]],
    ) -> None:
        """Writes the ranges of the layers in groups whose values are all finite.

        Args:
            frames: As for `summarize`.
            ranges: Where to write them, float32 (N, channels of all layers, 2).
            unfinite: Takes the frame and the layer of all others.
        """
        # IEEE 754 orders the bits of one sign like integers: as signed ones the largest value has
        # the largest, as unsigned ones the smallest has, if there are values of both signs.
        highest = np.empty((len(frames), len(self._rows)), np.int16)
        lowest = np.empty_like(highest)
        unsigned = lowest.view(np.uint16)
        for group in self._groups:
            bits = frames[:, group.start : group.end].view(np.int16)
            group.extremes(np.maximum, bits, highest[:, group.maps])
            group.extremes(np.maximum, bits.view(np.uint16), unsigned[:, group.maps])
        all_finite = highest.max() < _INF and unsigned.max() < _NEGATIVE_INF
        finite = None if all_finite else (highest < _INF) & (unsigned < _NEGATIVE_INF)
        if highest.min() < 0 or lowest.max() >= 0:  # of one sign, the smallest signed one is it
            self._of_one_sign(frames, highest, lowest)
        ranges[:, self._at_rows, 0] = lowest.view(np.float16)
        ranges[:, self._at_rows, 1] = highest.view(np.float16)
        if finite is None:
            return
        for group in self._groups:
            for place, first, last in group.layers:
                for number in np.flatnonzero(~finite[:, first:last].all(axis=1)):
                    unfinite.append((int(number), place))

    def _of_one_sign(
        self,
        frames: npt.NDArray[np.float16],
        highest: npt.NDArray[np.int16],
        lowest: npt.NDArray[np.int16],
    ) -> None:
        """Puts in the extremes of maps whose values are all negative, or of which none is."""
        for group in self._groups:
            high, low = highest[:, group.maps], lowest[:, group.maps]
            if high.min() < 0 or low.max() >= 0:
                others = np.empty_like(high)
                group.extremes(
                    np.minimum, frames[:, group.start : group.end].view(np.int16), others
                )
                np.copyto(high, others, where=high < 0)
                np.copyto(low, others, where=low >= 0)


class _LayerGroup:
    """Some layers that lie behind each other in the buffer.

    Args:
        start: Where the first one begins.

    Attributes:
        start: As given.
        end: Where the last one ends.
        rows: Of the ranges, one for each map.
        layers: Place, its first map and the one after its last.
        maps: Which of the maps of all groups are those of this one.
    """

    def __init__(self, start: int) -> None:
        self.start = self.end = self._stop = start
        self.rows: list[int] = []
        self.layers: list[tuple[int, int, int]] = []
        self.maps = slice(0, 0)
        # Values and maps of layers of small maps, and of those whose channels are their last axis.
        self._narrow: list[tuple[int, int, int, int]] = []
        self._channels_last: list[tuple[int, int, int, int]] = []
        self._edges: list[int] = []  # of the maps of all others, and of what lies between
        self._kept: list[int] = []  # of the pieces between the edges, those that are maps
        self._wide: list[int] = []  # which maps those are

    def add(
        self, place: int, start: int, stop: int, span: tuple[int, int], channels_last: bool
    ) -> None:
        """Adds a layer; what lies between it and the one before is skipped.

        Args:
            place: Its place in the layout.
            start: Where it begins in the buffer.
            stop: Where it ends.
            span: Which rows of the ranges are its own.
            channels_last: Whether the channels are its last axis, of several; else its first.
        """
        maps = span[1] - span[0]
        first = len(self.rows)
        start, stop = start - self.start, stop - self.start
        each = (stop - start) // maps
        if channels_last:
            self._channels_last.append((start, stop, first, first + maps))
        elif each <= _NARROW:
            self._narrow.append((start, stop, first, first + maps))
        else:
            if start > self._stop - self.start:
                self._edges.append(self._stop - self.start)
            self._kept += range(len(self._edges), len(self._edges) + maps)
            self._edges += range(start, stop, each)
            self._wide += range(first, first + maps)
            self._stop = stop + self.start
        self.layers.append((place, first, first + maps))
        self.rows += range(*span)
        self.end = stop + self.start

    def finish(self) -> None:
        """Prepares the group, once all its layers are added."""
        if self.end > self._stop and self._edges:
            self._edges.append(self._stop - self.start)
        self._at = np.array(self._edges)
        self._pieces, self._wide_at = _as_slice(self._kept), _as_slice(self._wide)

    def extremes(self, ufunc: np.ufunc, bits: npt.NDArray[Any], found: npt.NDArray[Any]) -> None:
        """Finds the largest or the smallest value of each map.

        Args:
            ufunc: Which of them.
            bits: The values of all layers of the group, integers (frames, values).
            found: Where to write them, of the same dtype, (frames, maps).
        """
        if self._edges:
            found[:, self._wide_at] = ufunc.reduceat(bits, self._at, axis=1)[:, self._pieces]
        for start, stop, first, last in self._narrow:
            turned = bits[:, start:stop].reshape(len(bits) * (last - first), -1).T.copy()
            found[:, first:last] = ufunc.reduce(turned).reshape(len(bits), -1)
        for start, stop, first, last in self._channels_last:
            values = bits[:, start:stop].reshape(len(bits), -1, last - first)
            found[:, first:last] = ufunc.reduce(values, axis=1)


def _as_slice(numbers: list[int]) -> slice | npt.NDArray[np.intp]:
    """Returns a slice where the numbers follow each other, else an index array."""
    first = numbers[0] if numbers else 0
    if numbers == list(range(first, first + len(numbers))):
        return slice(first, first + len(numbers))
    return np.array(numbers)
