"""Flashes that may harm viewers: WCAG 2.2, success criterion 2.3.1, measured while frames pass.

Where no frame rate was asked for, that of a film that would flash is lowered once its frames have
passed: the file then says so of the frames that it has.

A flash is a pair of opposing changes in relative luminance of 10 % of the maximum or more, the
darker image below 0.80; more than three in a second, over more than a quarter of any 10 degree
field of view, are too many. The approximations made here, all but the last on the strict side:

- the frame is taken to be as wide as a screen of 1024 pixels, a third of which is 10 degrees;
- it is measured in squares of a 48th of its width, each as the mean of some of its pixels;
- more than six changes within a second count, and the changes of different squares need not be
  at the same moment of it;
- saturated red has no measure of its own.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from replay.output import EncodeOptions, Format, Target, encode
from replay.raster.frame import Frame, FrameSource, Overlay
from replay.raster.palette import Palette
from replay.schema import Cell, OptionError
from replay.schema.faces import spell

_SQUARES = 48  # across the frame
_FIELD = (_SQUARES // 4, _SQUARES // 3)  # 256 x 341 of 1024 pixels
_AREA = 0.25
_CHANGE, _DARK = 0.10, 0.80
_MAX_CHANGES = 6  # in a second: three flashes
_SAMPLES = 4  # pixels of a square that are measured, in each direction

Grid = npt.NDArray[np.float32]
_Part: TypeAlias = tuple[slice, slice]
_EVEN = np.full(_SAMPLES, 1 / _SAMPLES**2, np.float32)  # what each sample weighs in its square


class Flashes:
    """Counts flashes in the frames of an animation.

    Args:
        palette: The colours of the frames.
        options: How they are encoded: at how many frames a second, and whether that may be lowered.

    Attributes:
        worst: Seconds from the beginning to the first harmful flash; None if there is none.
        fps: Frames a second; after `settle` at most as many as do not flash, where it is lowered.
    """

    def __init__(self, palette: Palette, options: EncodeOptions) -> None:
        self.worst: float | None = None
        self.fps = options.fps
        self._usual, self._calm = options.fps, options.calm
        self._table = luminance(palette.table)
        self._second = max(1, round(options.fps))  # frames in which a flash too many was not found
        self._window: deque[npt.NDArray[np.bool_]] = deque()
        self._extreme: Grid | None = None  # the last light or dark of each square
        self._rising: Grid | None = None  # 1, -1 or, before its first change, 0
        self._count: npt.NDArray[np.int16] | None = None
        self._seen = 0
        self._in_picture = False
        self._samples: _Samples | None = None

    def watch(self, frames: Iterable[Frame], before: int = 0) -> Iterator[Frame]:
        """Yields the same frames, and measures them meanwhile.

        Args:
            frames: The frames.
            before: So many are measured and not yielded, since they belong to another part.
        """
        self._seen = -before
        for frame in frames:
            if self._second > _MAX_CHANGES and self.worst is None:
                self._measure(frame)
            self._seen += 1
            if self._seen > 0:
                yield frame

    def merge(self, other: Flashes, start: float) -> None:
        """Adds the flashes of a part that begins at `start` seconds."""
        self._second = min(self._second, other._second)
        if other.worst is not None and (self.worst is None or start + other.worst < self.worst):
            self.worst, self._in_picture = start + other.worst, other._in_picture

    def settle(self, format: Format[Any]) -> float:
        """Returns the frame rate once all frames have passed: one that does not flash, if lowered.

        Args:
            format: What is written, which may not have every frame rate.
        """
        if self._calm and self._second < round(self._usual):
            rates = map(format.frame_rate, range(self._second, 0, -1))
            self.fps = next(rate for rate in rates if rate <= self._second)
        return self.fps

    def note(self) -> str:
        """Returns what was chosen, in words: a lower frame rate than usual; else nothing."""
        if self.fps == self._usual:
            return ""
        return (
            f"{self.fps:.3g} frames a second, since it would flash more than three times a second "
            f"at {self._usual:.3g} (WCAG 2.3.1); {spell('fps')} sets another rate"
        )

    def remark(self) -> str | None:
        """Returns a warning, or None if there is no harmful flash."""
        if self.worst is None:
            return None
        minutes, seconds = divmod(int(self.worst), 60)
        where, less = (
            (", in the input picture", spell("input", False)) if self._in_picture else ("", "")
        )
        ways = ", ".join(
            filter(None, [f"{spell('fps', 6)} or lower", f"a fixed image ({spell('probe')})", less])
        )
        return (
            f"more than three flashes a second at {minutes}:{seconds:02}{where}: this can cause "
            f"seizures (WCAG 2.3.1); choose {ways.replace(', ', ' or ')}"
        )

    def _measure(self, frame: Frame) -> None:
        light = self._grid(frame)
        if self._extreme is None or self._rising is None or self._count is None:
            self._extreme = light
            self._rising = np.zeros(light.shape, np.float32)
            self._count = np.zeros(light.shape, np.int16)
            return
        extreme, rising = self._extreme, self._rising
        step = light - extreme
        large = (np.abs(step) >= _CHANGE) & (np.minimum(light, extreme) < _DARK)
        onwards = step * rising  # positive where a square goes on in its direction
        changed = large & (onwards <= 0)
        np.copyto(rising, np.sign(step), where=large)
        # A square that goes on in its direction moves its extreme along.
        np.copyto(extreme, light, where=changed | (onwards > 0))
        self._window.append(changed)
        self._count += changed
        self._forget(self._count)
        while _covers(flashing := self._count > _MAX_CHANGES):
            if not self._calm:
                self._in_picture = not _covers(flashing & ~self._pictures(frame, flashing.shape))
                self.worst = max(0, self._seen) / self._usual
                break
            self._second -= 1
            self._forget(self._count)

    def _forget(self, count: npt.NDArray[np.int16]) -> None:
        """Takes the changes that are more than a second old from the count."""
        while len(self._window) > self._second:
            count -= self._window.popleft()

    @staticmethod
    def _pictures(frame: Frame, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Returns which squares lie on input pictures, bool (rows, columns)."""
        inside = np.zeros(shape, bool)
        down, across = (n / size for n, size in zip(shape, frame.plane.shape, strict=True))
        for picture in frame.pictures:
            height, width = (side * picture.zoom for side in picture.pixels.shape[:2])
            rows = slice(int(picture.top * down), math.ceil((picture.top + height) * down))
            columns = slice(int(picture.left * across), math.ceil((picture.left + width) * across))
            inside[rows, columns] = True
        return inside

    def _grid(self, frame: Frame) -> Grid:
        """Returns the mean relative luminance of each square, float32 (rows, columns)."""
        if self._samples is None or self._samples.shape != frame.plane.shape:
            self._samples = _Samples(frame.plane.shape)
        samples = self._samples
        light = self._table.take(frame.plane.ravel().take(samples.places, mode="wrap"))
        for picture in frame.pictures:
            under, places = samples.under(picture)
            pixels = picture.pixels.reshape(-1, 3)
            light[under] = luminance(pixels.take(places, axis=0, mode="wrap"))
        lines = light.reshape(samples.rows, _SAMPLES, -1).sum(axis=1)
        mean: Grid = (lines.reshape(-1, _SAMPLES) @ _EVEN).reshape(samples.rows, -1)
        return mean


class _Samples:
    """The pixels of a frame that are measured.

    Args:
        shape: Height and width of the frame.

    Attributes:
        shape: Height and width of the frame.
        rows: Rows of squares.
        places: The place of each pixel in the flattened frame, intp (rows, columns).
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        height, width = shape
        self.rows = max(1, round(height / (width / _SQUARES)))
        down, across = _places(height, self.rows), _places(width, _SQUARES)
        self.places = down[:, None] * width + across

    def under(self, picture: Overlay) -> tuple[_Part, npt.NDArray[np.intp]]:
        """Returns the samples that a picture covers, and the place of each in its own pixels."""
        height, width = picture.pixels.shape[:2]
        rows, y = _along(self.shape[0], self.rows, picture.top, picture.zoom, height)
        columns, x = _along(self.shape[1], _SQUARES, picture.left, picture.zoom, width)
        return (rows, columns), y[:, None] * width + x


def encode_watched(
    film: FrameSource,
    cells: Sequence[Cell],
    target: Target,
    options: EncodeOptions,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, Flashes]:
    """Writes frames to the target in this process, and looks for flashes while they pass.

    Args:
        film: What draws the frames.
        cells: The (epoch, batch) of the frames, of those of the film.
        target: From `choose_target`.
        options: How to encode.
        progress: Called with (frames done, frames in all).

    Returns:
        Number of frames written, and the flashes in them.

    Raises:
        LimitError: It becomes larger than it may be; the target is as it was before.
        EncodeError: The encoder failed; the target is as it was before.
    """
    report = None if progress is None else lambda done: progress(done, len(cells))
    flashes = Flashes(film.palette, options)
    frames = flashes.watch(film.frames(cells))
    settle = functools.partial(flashes.settle, target.format)
    return encode(frames, target, film.palette, film.size, options, report, settle), flashes


def choose_fps(fps: float | None, frames: int, format: Format[Any]) -> float:
    """Returns the frame rate that will be used, unless the film flashes at one of our choice.

    Args:
        fps: The one asked for; None for one at which the whole lasts about 25 seconds, with no
            fewer than 4 and no more than 30 frames a second.
        frames: Number of frames.
        format: What is written. A GIF counts in hundredths of a second and takes 50 at most.

    Raises:
        OptionError: Not a number above 0 and up to 240.
    """
    if fps is None:
        fps = float(min(30, max(4, round(frames / 25))))
    if not (math.isfinite(fps) and 0 < fps <= 240):
        raise OptionError(f"fps {fps:g}: expected a number above 0 and up to 240")
    return format.frame_rate(fps)


def luminance(colours: npt.NDArray[np.uint8]) -> Grid:
    """Returns the relative luminance, 0 to 1, of sRGB colours (..., 3), as WCAG 2.2 defines it."""
    return _LINEAR.take(colours) @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def _linear() -> Grid:
    """Returns the linear value, 0 to 1, of each of the 256 values of a channel."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


_LINEAR = _linear()


def _places(length: int, squares: int) -> npt.NDArray[np.intp]:
    """Returns the rows (or columns) of the frame that are measured, those of all squares."""
    number = squares * _SAMPLES
    places: npt.NDArray[np.intp] = ((np.arange(number) + 0.5) * length / number).astype(np.intp)
    return places


@functools.lru_cache(maxsize=16)  # for the few pictures of a frame, which stay where they are
def _along(
    length: int, squares: int, start: int, zoom: int, pixels: int
) -> tuple[slice, npt.NDArray[np.intp]]:
    """Returns which of the places a picture covers, and which of its pixels each one shows."""
    places = _places(length, squares)
    first, last = np.searchsorted(places, (start, start + pixels * zoom))
    return slice(first, last), (places[first:last] - start) // zoom


def _covers(flashing: npt.NDArray[np.bool_]) -> bool:
    """Returns whether any field of view has too many squares that flash."""
    least = _AREA * _FIELD[0] * _FIELD[1]
    if np.count_nonzero(flashing) < least:
        return False
    sums = np.pad(flashing, ((1, 0), (1, 0))).cumsum(0).cumsum(1, dtype=np.int32)
    height, width = (min(size, side) for size, side in zip(flashing.shape, _FIELD, strict=True))
    fields = sums[height:, width:] - sums[:-height, width:]
    fields = fields - (sums[height:, :-width] - sums[:-height, :-width])
    return bool(fields.max() >= least)
