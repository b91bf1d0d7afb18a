"""The first image of a batch, or a fixed image, as a colour picture of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from replay.maps.axes import spread
from replay.raster.palette import is_blank, no_picture, whitest
from replay.recording import Recording
from replay.schema import DamagedError

Picture = npt.NDArray[np.uint8]


NO_PICTURE, DAMAGED_PICTURE = "no picture in this batch", "damaged picture"


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
        side: Largest width; the height may be 1.25 times that; None for their own size.

    Attributes:
        shape: Height and width of the largest pictures before enlarging.
        zoom: Whole number of pixels, in each direction, that a pixel becomes.
        channels: Channels of an image.
        zero: What the value 0 is on the scale of the picture, 0 to 255, where it may lie outside;
            for each colour, or for all of them.
    """

    def __init__(
        self, recording: Recording, frames: Sequence[tuple[int, int]], side: int | None = None
    ) -> None:
        self._inputs = recording.inputs
        self.channels = self._inputs.shapes[0][0]
        height, width = (max(shape[axis] for shape in self._inputs.shapes) for axis in (1, 2))
        if side is None:
            side = max(width, -(-height * 4 // 5))
        tallest = side * 5 // 4
        self.zoom = max(1, min(side // width, tallest // height))
        factor = min(1.0, side / width, tallest / height)
        self._factor = factor
        self.shape = self._shrunk(height, width)
        self._last: tuple[tuple[int, int], npt.NDArray[np.float16] | str] | None = None
        gain, offset = self._find_gain(frames)
        self.zero = tuple((offset.astype(np.float64) * 255).tolist())
        self._table = self._brightness(gain, offset)

    @staticmethod
    def possible(recording: Recording) -> bool:
        """Returns whether the recording has input images of shape (C, H, W)."""
        shapes = recording.inputs.shapes
        return bool(shapes) and all(len(shape) == 3 and min(shape) >= 1 for shape in shapes)

    @property
    def channels_in_words(self) -> str:
        """Which channels are shown, behind a comma; empty where that is all of them."""
        if self.channels in (1, 3):
            return ""
        return ", channel 0 of 2" if self.channels == 2 else f", channels 0–2 of {self.channels}"

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
            return DAMAGED_PICTURE
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
