"""float16 values to the levels of a colormap, under one explicit value range.

A float16 has 65,536 bit patterns, so a range is turned into a table with one level for each:
scaling a frame is then a single look-up, exact, and NaN and infinity get levels of their own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from replay.maps.adaptive import OwnRanges, Shown, scale_channels
from replay.maps.axes import (
    JointMaps,
    Maps,
    Source,
    as_source,
    by_epoch,
    select_channels,
    spread,
)
from replay.maps.percentiles import ROBUST, robust_range
from replay.options import OWN_SCALES, SCALES, FilmOptions
from replay.raster.palette import Range
from replay.recording.series import Series
from replay.schema import OptionError
from replay.schema.suggestions import unknown

GAIN_WORDS = "bar: that range against the layer's largest (log)"
_FRAME_GAIN_WORDS = "bar: that range against the frame's largest (log)"

Levels = npt.NDArray[np.uint8]
Values: TypeAlias = "npt.NDArray[np.floating[Any]]"

_SAMPLED_FRAMES = 48
_SAMPLED_VALUES = 4_000_000


def check_clip(clip: tuple[float, float] | None) -> None:
    """Makes sure that a range that was asked for is one.

    Raises:
        OptionError: Its low is not below its high, or one of them is not finite.
    """
    if clip is not None and not (len(clip) == 2 and np.isfinite(clip).all() and clip[0] < clip[1]):
        found = ",".join(f"{value:g}" for value in clip)
        raise OptionError(f"clip {found}: expected two finite values LO,HI with LO below HI")


class Scaler:
    """Scales the frames of one layer; `levels(epoch, batch, maps)` -> uint8, of their shape.

    Level 0 stands for values up to `low`, level `count - 1` for values from `high`, and in
    between `round((value - low) / (high - low) * (count - 1))`. NaN has the level `count`,
    either infinity `count + 1`.

    Args:
        series: The layer, or what else its values come from.
        frames: The frames that will be shown; the ranges are those of their values.
        channels: The channels that will be shown.
        mode: `adaptive` (each map its own, as steady as the image is, see `maps.adaptive`), `map`
            (each map its own, from its least to its greatest value), `run` (one range for all
            frames and channels), `epoch` (one for each epoch), `frame` (each frame its own) or
            `channel` (each channel its own, for all frames). The first two are of one recording.
        clip: An explicit (low, high) instead of a measured one.
        symmetric: Widens each range to be symmetric around zero.
        count: Levels of the colormap, 2 to 254.

    Raises:
        OptionError: An unknown mode, or a clip whose low is not below its high.

    Attributes:
        words: What the range is, in the words of a caption.
        clipped: Whether the range was asked for.
        gain_words: What the bar beside a channel's number is; empty where there is none.
    """

    def __init__(
        self,
        series: Series | Source,
        frames: Sequence[tuple[int, int]],
        channels: Sequence[int],
        mode: str = "run",
        clip: tuple[float, float] | None = None,
        symmetric: bool = False,
        count: int = 240,
    ) -> None:
        if mode not in SCALES:
            raise OptionError(unknown("scale", mode, SCALES))
        check_clip(clip)
        self.mode = "run" if clip is not None else mode
        self.clipped = clip is not None
        self.count = count
        self._source = as_source(series)
        self._frames = list(frames)
        self._channels = list(channels)
        self._symmetric = symmetric
        self._tables: dict[int, npt.NDArray[np.uint8]] = {}
        self._ranges: dict[int, Range] = {}
        self._own: OwnRanges | None = None
        self._of_frame: tuple[tuple[int, int], Range] | None = None  # the last one measured
        self.words = _WORDS[self.mode] if clip is None else "clipped to the range asked for"
        self.gain_words = ""
        if self.mode in OWN_SCALES:
            maps = self._source.each if isinstance(self._source, JointMaps) else [self._source]
            assert len(maps) == 1, "a map has a range of its own in one recording"
            assert isinstance(maps[0], Maps), "what has no file has no ranges in it"
            self._own = OwnRanges(maps[0], self._channels, self.mode, symmetric)
            self.words += ", held while the image stays" if self._own.stays else ""
            self.gain_words = GAIN_WORDS if maps[0].series.unit else _FRAME_GAIN_WORDS
        if symmetric:
            self.words += ", symmetric around 0"
        if isinstance(self._source, JointMaps) and self._source.several:
            self.words += ", the same for all recordings"
        if clip is not None:
            self._ranges[0] = self._finish(Range(*clip))

    def __getstate__(self) -> dict[str, object]:
        """Measures what other processes need, once, before it is sent to them."""
        if self.mode == "run" and self._frames:
            self._range_of_all(0)
        elif self.mode == "channel":
            self.channel_range(0)
        return self.__dict__

    def levels(self, epoch: int, batch: int, maps: npt.NDArray[np.float16]) -> Levels:
        """Returns the levels of one frame's chosen channels.

        Args:
            epoch: The frame's epoch.
            batch: The frame's batch.
            maps: float16 (C, ...), the channels chosen.

        Returns:
            uint8 (C, ...).
        """
        if self._own is not None:
            return scale_channels(maps, self._own.show((epoch, batch)).bounds, self.count)
        bits = np.ascontiguousarray(maps).view(np.uint16)
        # All 65,536 have an entry: with `wrap` numpy need not look for one that has none.
        if self.mode != "channel":
            return self._table(epoch, batch, maps).take(bits, mode="wrap")
        levels = np.empty(bits.shape, np.uint8)
        for place in range(len(bits)):
            if place not in self._tables:
                self._tables[place] = table(self.channel_range(place), self.count)
            self._tables[place].take(bits[place], out=levels[place], mode="wrap")
        return levels

    def describe(self, several: bool = False) -> str:
        """Returns all that a caption says of the ranges and of the bars beside the numbers.

        Args:
            several: Whether several layers are shown, which have ranges of their own.
        """
        if self.gain_words:
            return f"{self.words}; {self.gain_words}"
        text = self.words + (", for each layer" if several else "")
        return text if self.clipped else f"{text}, {ROBUST[0]:g}–{ROBUST[1]:g} % of values"

    @property
    def per_channel(self) -> bool:
        """Whether each channel has a range of its own."""
        return self._own is not None or self.mode == "channel"

    def measure(self, epoch: int, batch: int, maps: npt.NDArray[np.float16]) -> None:
        """Notes a frame that was read anyway, so that its ranges need not read it again.

        In the mode `frame` its range is from then on that of these maps, at whatever size they are
        shown.

        Args:
            epoch: The frame's epoch.
            batch: The frame's batch.
            maps: float16 (C, ...), the channels chosen, in full size.
        """
        if self._own is not None:
            self._own.measure((epoch, batch), maps)
        elif self.mode == "frame":
            self._of_frame = (epoch, batch), self._range_of_frame((epoch, batch), maps)

    def channel_bounds(self, epoch: int, batch: int) -> Shown | None:
        """Returns how each channel of a frame is shown in the modes `adaptive` and `map`.

        None in the other modes.
        """
        return None if self._own is None else self._own.show((epoch, batch))

    def range_of(self, epoch: int, batch: int, maps: npt.NDArray[np.float16]) -> Range | None:
        """Returns the range under which a frame is shown; None where each channel has its own."""
        if self.per_channel:
            return None
        if self.mode != "frame":
            return self._range_of_all(epoch)
        if self._of_frame is not None and self._of_frame[0] == (epoch, batch):
            return self._of_frame[1]
        return self._range_of_frame((epoch, batch), maps)

    def channel_range(self, place: int) -> Range:
        """Returns the range of a channel, by its place in the selection, in the mode `channel`."""
        if not self._ranges:
            for each, values in enumerate(self._sample(self._frames)):
                self._ranges[each] = self._finish(robust_range(values))
        return self._ranges[place]

    def _table(
        self, epoch: int, batch: int, maps: npt.NDArray[np.float16]
    ) -> npt.NDArray[np.uint8]:
        chosen = self.range_of(epoch, batch, maps)
        assert chosen is not None
        if self.mode == "frame":
            return table(chosen, self.count)
        key = epoch if self.mode == "epoch" else 0
        if key not in self._tables:
            self._tables[key] = table(chosen, self.count)
        return self._tables[key]

    def _range_of_frame(self, cell: tuple[int, int], maps: npt.NDArray[np.float16]) -> Range:
        """Returns the range of a frame; of several recordings, that of what all of them have."""
        if isinstance(self._source, JointMaps) and self._source.several:
            maps = select_channels(self._source[cell], self._channels)
        return self._finish(robust_range(maps))

    def _range_of_all(self, epoch: int) -> Range:
        """Returns the range of all frames, or of those of an epoch, and measures it at first."""
        key = epoch if self.mode == "epoch" else 0
        if key not in self._ranges:
            of_these = self._of_epoch.get(epoch, []) if self.mode == "epoch" else self._frames
            self._ranges[key] = self._finish(robust_range(self._sample(of_these)))
        return self._ranges[key]

    @functools.cached_property
    def _of_epoch(self) -> dict[int, list[tuple[int, int]]]:
        return by_epoch(self._frames)

    def _finish(self, measured: Range) -> Range:
        if np.isnan(measured.low):
            return Range.of_none()
        reach = max(abs(measured.low), abs(measured.high))
        if self._symmetric and reach > 0:
            return Range(-reach, reach)
        if measured.high <= measured.low:  # a constant, such as a dead layer: the lowest level
            return Range.of_one(measured.low, self._symmetric)
        return measured

    def _sample(self, frames: Sequence[tuple[int, int]]) -> Values:
        """Returns values of the chosen channels of some frames, of their type, (C, values)."""
        chosen = spread(frames, _SAMPLED_FRAMES)
        parts: list[Values] = [np.empty((len(self._channels), 0), np.float16)]
        for epoch, batch in chosen:
            maps = select_channels(self._source[epoch, batch], self._channels)
            values = maps.reshape(len(maps), -1)
            step = -(-values.size * len(chosen) // _SAMPLED_VALUES)
            while math.gcd(step, maps.shape[-1]) > 1:  # so that no column of pixels is favoured
                step += 1
            parts.append(values[:, ::step].copy())
        return np.concatenate(parts[1:] or parts, axis=1)


def choose_scalers(
    joint: JointMaps,
    frames: Sequence[tuple[int, int]],
    channels: Sequence[int],
    options: FilmOptions,
    count: int,
) -> list[Scaler]:
    """Returns the scaler of a layer in each recording: one for all of them, or one for each.

    Args:
        joint: The layer in every recording.
        frames: As in `Scaler`.
        channels: As in `Scaler`.
        options: The scale that was asked for.
        count: Levels of the colormap.

    Raises:
        OptionError: An unknown scale, or a clip whose low is not below its high.
    """
    scale = options.scale, options.clip, options.symmetric, count
    if options.own_ranges:
        return [Scaler(JointMaps([maps]), frames, channels, *scale) for maps in joint.each]
    return [Scaler(joint, frames, channels, *scale)] * len(joint.each)


_WORDS = {
    "adaptive": "each map on its own range, 1–99 % of its values",
    "map": "each map of each frame by itself, from its least to its greatest value",
    "run": "one scale for the whole run",
    "epoch": "one scale for each epoch",
    "frame": "each frame on its own scale",
    "channel": "each channel on its own scale",
}


def table(chosen: Range, count: int) -> npt.NDArray[np.uint8]:
    """Returns the level of every float16, by its bit pattern: uint8 (65536,)."""
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    with np.errstate(invalid="ignore"):
        place = (values - chosen.low) / (chosen.high - chosen.low) * (count - 1)
        levels = np.clip(np.rint(place), 0, count - 1)
    levels[np.isnan(values)] = count
    levels[np.isinf(values)] = count + 1
    return levels.astype(np.uint8)
