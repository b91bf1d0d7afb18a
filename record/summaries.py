"""The ranges of all maps of a batch at once: one pass over the flat buffer instead of one a layer.

A network's later layers have hundreds of small maps, for which the calls cost more than the values.
What is not finite, and layers whose channels are not their first axis, `schema.summarize` looks at.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from record.wire import Layout
from replay import schema
from replay.schema import FrameSummary

_GROUP = 1 << 17  # values that are looked at together: their keys stay in the processor's cache
_HIGHEST, _LOWEST = 0x7C00, -0x7C01  # keys of the infinities: see `schema.summarize`


class Summaries:
    """Summarizes frames of one layout.

    Args:
        layout: What a frame consists of.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._groups: list[_Group] = []
        for place, (layer, slot) in enumerate(zip(layout.layers, layout.map_slots, strict=True)):
            if slot.stop == slot.start or layer.channel_axis:
                continue
            group = self._groups[-1] if self._groups else None
            if group is None or slot.stop - group.start > _GROUP:
                group = _Group(slot.start)
                self._groups.append(group)
            group.add(place, slot.start, slot.stop, layer.channels)
        for group in self._groups:
            group.finish()

    def of(
        self, values: npt.NDArray[np.float16], missing: Collection[int]
    ) -> dict[int, FrameSummary]:
        """The summary of each layer that has a frame, by its place in the layout.

        Args:
            values: The whole frame, flat.
            missing: Places of the layers without a frame.
        """
        found: dict[int, FrameSummary] = {}
        for group in self._groups:
            group.summarize(values, found)
        for place, slot in enumerate(self._layout.map_slots):
            if place in missing:
                found.pop(place, None)
            elif place not in found:
                maps = values[slot.start : slot.stop].reshape(slot.shape)
                layer = self._layout.layers[place]
                found[place] = schema.summarize(layer.channels_first(maps))
        return found


class _Group:
    """Some layers that lie behind each other in the buffer."""

    def __init__(self, start: int) -> None:
        self.start = self._stop = start
        self._places: list[tuple[int, int, int]] = []  # layer, its first and last result
        self._edges: list[int] = []

    def add(self, place: int, start: int, stop: int, channels: int) -> None:
        """Takes a layer in; what lies before it is skipped."""
        if start > self._stop:
            self._edges.append(self._stop - self.start)
        first = len(self._edges)
        each = (stop - start) // channels
        self._edges += range(start - self.start, stop - self.start, each)
        self._places.append((place, first, len(self._edges)))
        self._stop = stop

    def finish(self) -> None:
        """Is called once all layers are in."""
        self._at = np.array(self._edges)

    def summarize(self, values: npt.NDArray[np.float16], found: dict[int, FrameSummary]) -> None:
        """Adds the summaries of those layers whose values are all finite."""
        bits = values[self.start : self._stop].view(np.int16)
        keys = bits >> 15
        keys &= 0x7FFF
        keys ^= bits
        extremes = np.empty((len(self._at), 2), np.int16)
        np.minimum.reduceat(keys, self._at, out=extremes[:, 0])
        np.maximum.reduceat(keys, self._at, out=extremes[:, 1])
        ranges = (extremes ^ ((extremes >> 15) & 0x7FFF)).view(np.float16).astype(np.float32)
        finite = (extremes[:, 1] < _HIGHEST) & (extremes[:, 0] > _LOWEST)
        for place, first, last in self._places:
            if finite[first:last].all():
                found[place] = FrameSummary(ranges[first:last], 0, 0)
