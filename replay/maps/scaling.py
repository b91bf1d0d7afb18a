"""float16 values to the levels of a colormap, under one explicit value range.

A float16 has 65,536 bit patterns, so a range is turned into a table with one level for each:
scaling a frame is then a single look-up, exact, and NaN and infinity get levels of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from replay.maps.adaptive import OwnRanges, Shown, scale_channels
from replay.maps.axes import JointMaps, Maps, Source, as_source, select_channels, spread
from replay.maps.percentiles import ROBUST, robust_range
from replay.options import OWN_SCALES, SCALES, FilmOptions
from replay.raster.palette import Range, is_blank, no_picture, whitest
from replay.recording import Recording
from replay.recording.series import Series
from replay.schema import DamagedError, OptionError
from replay.schema.suggestions import unknown

GAIN_WORDS = "bar: that range against the layer's largest (log)"

Levels = npt.NDArray[np.uint8]
Values: TypeAlias = "npt.NDArray[np.floating[Any]]"

_SAMPLED_FRAMES = 48
_SAMPLED_VALUES = 4_000_000


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
        if clip is not None and not (
            len(clip) == 2 and np.isfinite(clip).all() and clip[0] < clip[1]
        ):
            found = ",".join(f"{end:g}" for end in clip)
            raise OptionError(f"clip {found}: expected two finite values LO,HI with LO below HI")
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
        self.words = _WORDS[self.mode] if clip is None else "clipped to the range asked for"
        self.gain_words = ""
        if self.mode in OWN_SCALES:
            maps = self._source.each if isinstance(self._source, JointMaps) else [self._source]
            assert len(maps) == 1, "a map has a range of its own in one recording"
            assert isinstance(maps[0], Maps), "what has no file has no ranges in it"
            self._own = OwnRanges(maps[0], self._channels, self.mode, symmetric)
            self.words += ", held while the image stays" if self._own.stays else ""
            self.gain_words = GAIN_WORDS
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

        Args:
            epoch: The frame's epoch.
            batch: The frame's batch.
            maps: float16 (C, ...), the channels chosen, in full size.
        """
        if self._own is not None:
            self._own.measure((epoch, batch), maps)

    def channel_bounds(self, epoch: int, batch: int) -> Shown | None:
        """Returns how each channel of a frame is shown in the modes `adaptive` and `map`.

        None in the other modes.
        """
        return None if self._own is None else self._own.show((epoch, batch))

    def range_of(self, epoch: int, batch: int, maps: npt.NDArray[np.float16]) -> Range | None:
        """Returns the range under which a frame is shown; None where each channel has its own."""
        if self.per_channel:
            return None
        if self.mode == "frame":
            if isinstance(self._source, JointMaps) and self._source.several:
                maps = select_channels(self._source[epoch, batch], self._channels)
            return self._finish(robust_range(maps))
        return self._range_of_all(epoch)

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

    def _range_of_all(self, epoch: int) -> Range:
        """Returns the range of all frames, or of those of an epoch, and measures it at first."""
        key = epoch if self.mode == "epoch" else 0
        if key not in self._ranges:
            of_these = [cell for cell in self._frames if self.mode == "run" or cell[0] == epoch]
            self._ranges[key] = self._finish(robust_range(self._sample(of_these)))
        return self._ranges[key]

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


Picture = npt.NDArray[np.uint8]


NO_PICTURE = "no picture in this batch"


_SAMPLED = 16  # images from which a range is measured where mean and std are unknown


class InputPicture:
    """The first image of every batch as a colour picture of one fixed size.

    With a recorded mean and std the normalisation is undone; without them, one range (that of
    the middle 99 % of the values of sampled images) holds for the whole animation, so that
    brightness does not flicker. One channel is shown in gray, of more than three the first three.
    Values of 0 to 1, and whole ones of 0 to 255, are taken for a picture as it is. Pictures of
    several shapes are all enlarged (or reduced) alike, and begin at one corner. One that is not
    there, or damaged, is crossed out.

    Args:
        recording: Where the images are.
        frames: The (epoch, batch) that will be shown.
        side: Largest width; the height may be 1.25 times that.

    Attributes:
        shape: Height and width of the largest pictures before enlarging.
        zoom: Whole number of pixels, in each direction, that a pixel becomes.
        channels: Channels of an image.
    """

    def __init__(self, recording: Recording, frames: Sequence[tuple[int, int]], side: int) -> None:
        self._inputs = recording.inputs
        self.channels = self._inputs.shapes[0][0]
        height, width = (max(shape[axis] for shape in self._inputs.shapes) for axis in (1, 2))
        tallest = side * 5 // 4
        self.zoom = max(1, min(side // width, tallest // height))
        factor = min(1.0, side / width, tallest / height)
        self._factor = factor
        self.shape = self._shrunk(height, width)
        self._last: tuple[tuple[int, int], npt.NDArray[np.float16] | str] | None = None
        self._table = self._brightness(*self._find_gain(frames))

    @staticmethod
    def possible(recording: Recording) -> bool:
        """Returns whether the recording has input images of shape (C, H, W)."""
        shapes = recording.inputs.shapes
        return bool(shapes) and all(len(shape) == 3 and min(shape) >= 1 for shape in shapes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in the frame."""
        return self.shape[0] * self.zoom, self.shape[1] * self.zoom

    def show(self, epoch: int, batch: int) -> Picture:
        """Returns the picture of one batch, uint8 (height, width, 3), not enlarged yet."""
        colours = self._colours(epoch, batch)
        if isinstance(colours, str):
            return no_picture(*self.shape)
        bits = colours.view(np.uint16)  # (1 or 3, H, W)
        picture = np.empty((*bits.shape[1:], 3), np.uint8)
        for place in range(3):
            shown = self._table[min(place, len(self._table) - 1)]
            picture[..., place] = shown.take(bits[min(place, len(bits) - 1)])
        if self._factor < 1.0:
            size = self._shrunk(*picture.shape[:2])[::-1]
            picture = np.array(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
        return picture

    def problem(self, epoch: int, batch: int) -> str:
        """Returns why there is no picture of a batch, in words; empty where there is one."""
        colours = self._colours(epoch, batch)
        return colours if isinstance(colours, str) else ""

    def _shrunk(self, height: int, width: int) -> tuple[int, int]:
        return max(1, round(height * self._factor)), max(1, round(width * self._factor))

    def _colours(self, epoch: int, batch: int) -> npt.NDArray[np.float16] | str:
        """Returns the channels that are shown, or why there are none."""
        if self._last is None or self._last[0] != (epoch, batch):
            self._last = (epoch, batch), self._read(epoch, batch)
        return self._last[1]

    def _read(self, epoch: int, batch: int) -> npt.NDArray[np.float16] | str:
        try:
            image = self._inputs[epoch, batch]  # (C, H, W)
        except DamagedError:  # rather than something that was never seen
            return "damaged picture"
        if is_blank(image):
            return NO_PICTURE
        return np.ascontiguousarray(image[: 3 if len(image) >= 3 else 1])

    @staticmethod
    def _brightness(
        gain: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.uint8]:
        """Returns the brightness of every float16 by its bits, uint8 (1 or 3, 65536)."""
        values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
        with np.errstate(invalid="ignore"):
            image = values * gain[:, None] + offset[:, None]
        image = np.clip(np.nan_to_num(image, nan=0.0), 0.0, 1.0)
        brightness: npt.NDArray[np.uint8] = np.rint(image * 255).astype(np.uint8)
        return brightness

    def _find_gain(
        self, frames: Sequence[tuple[int, int]]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Returns the factors and the summands that bring an image's values to 0..1."""
        shown = 3 if self.channels >= 3 else 1
        mean, std = self._inputs.mean, self._inputs.std
        if mean is not None and std is not None and min(len(mean), len(std)) >= shown:
            return np.asarray(std[:shown], np.float32), np.asarray(mean[:shown], np.float32)
        some = [self._read(*at) for at in spread(frames, _SAMPLED)]
        values = np.concatenate(
            [colours.ravel() for colours in some if not isinstance(colours, str)]
            or [np.zeros(0, np.float16)]
        )
        values = values[np.isfinite(values)].astype(np.float32)
        low, high = np.percentile(values, (0.5, 99.5)) if values.size else (0.0, 1.0)
        white = whitest(values)
        if low >= 0.0 and 0.0 < high <= 1.0:
            white = 1.0  # all but a few values, which are cut
        if white is not None:  # a picture that was never normalised
            low, high = 0.0, white
        gain = 1.0 / (high - low) if high > low else 1.0
        return np.array([gain], np.float32), np.array([-low * gain], np.float32)
