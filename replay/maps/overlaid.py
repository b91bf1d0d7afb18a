"""What lies over a picture in a tile: values by place, and the range under which each is shown."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from replay.maps.axes import by_epoch, spread
from replay.maps.input_picture import InputPicture
from replay.maps.planes import Planes
from replay.maps.scaling import check_clip
from replay.maps.unfinite import count_unfinite
from replay.options import SCALES, FilmOptions
from replay.raster.palette import Pixels, Range
from replay.recording import Recording
from replay.recording.cam_frames import CamFrames
from replay.recording.class_activation import SIGNED
from replay.schema import Cell, DamagedError, OptionError
from replay.schema.faces import spell
from replay.schema.suggestions import unknown

Values = npt.NDArray[np.float32]
Highs = npt.NDArray[np.float64]

_AROUND = 4  # frames before and after one over whose greatest values a steady image's are averaged
_STEADY = 1.5  # but a range is within so many times a frame's own
_SAMPLED = 64  # frames from which the range of a run is measured
_KEPT = 2 * _AROUND + 2


class Overlaid(Protocol):
    """Values that lie over a picture, a tile or several: `overlaid[epoch, batch]` -> (n, h, w).

    Attributes:
        labels: What each tile is called.
        signed: Whether values may be below zero.
        damaged: By (epoch, batch), what is wrong with a frame that was asked for.
    """

    labels: list[str]
    signed: bool
    damaged: dict[Cell, str]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""

    def __getitem__(self, cell: Cell) -> Values:
        """Returns the values of a frame, float32 (n, h, w); all NaN where it is damaged."""


_HELD = ", the mean over nine frames of one image"
_SCALES = {
    "adaptive": "each tile up to its own greatest value",
    "map": "each tile up to its own greatest value",
    "frame": "up to the greatest value of the frame",
    "epoch": "up to the greatest value of the epoch",
    "run": "up to the greatest value of the run",
    "channel": "each tile up to its greatest value of the run",
}


def describe_scale(options: FilmOptions, steady: bool) -> str:
    """Returns what the range of values is, in words.

    Args:
        options: The scale, and a clip.
        steady: Whether the image is the same in every frame.
    """
    if options.clip is not None:
        return "a range that was given"
    held = steady and options.scale == "adaptive"
    return _SCALES.get(options.scale, "") + (_HELD if held else "")


def describe_unfinite(values: npt.NDArray[np.floating]) -> str:
    """Returns how many values are not finite, in words: `3 NaN, 1 infinite`; empty without any."""
    counts = zip(count_unfinite(values), ("NaN", "infinite"), strict=True)
    return ", ".join(f"{count:,} {kind}" for count, kind in counts if count)


def drawn_as_given(options: FilmOptions) -> FilmOptions:
    """Returns the options of what has its colours already, so that nothing is measured again.

    Raises:
        OptionError: Something is to be shown beside it that only maps have, an unknown scale, or a
            clip whose low is not below its high.
    """
    words = options.show.split(",") if isinstance(options.show, str) else options.show
    beside = [word.strip() for word in words if word.strip() not in ("", "loss")]
    if beside:
        raise OptionError(
            f"{spell('show', beside[0])} goes with maps; expected loss alone with "
            f"{spell('view', options.view)}"
        )
    check_clip(options.clip)
    if options.scale not in SCALES:
        raise OptionError(unknown("scale", options.scale, SCALES))
    return replace(
        options, scale="run", clip=(0.0, 1.0), symmetric=False, channels=None, order="number"
    )


class CamTile:
    """Class activation of a fixed image, as one tile; see `Overlaid`.

    Args:
        cam: The maps.
    """

    def __init__(self, cam: CamFrames) -> None:
        self.cam, self.labels, self.signed = cam, [" "], cam.method in SIGNED
        self.damaged: dict[Cell, str] = {}

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self.cam.present

    def __getitem__(self, cell: Cell) -> Values:
        try:
            return self.cam[cell][None]
        except DamagedError as error:
            self.damaged[cell] = str(error)
            return np.full((1, *self.cam.size), np.nan, np.float32)


class ChannelTiles:
    """Some channels of a layer, or heads, each as a tile; see `Overlaid`.

    Args:
        planes: The layer.
        channels: Which ones.
        label: What is written before each number, such as `head `.
    """

    def __init__(self, planes: Planes, channels: Sequence[int], label: str = "") -> None:
        self._planes, self._channels = planes, list(channels)
        self.labels = [f"{label}{channel}" for channel in channels]
        self.damaged = planes.damaged
        self.signed = self._has_negative()

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self._planes.series.present

    def __getitem__(self, cell: Cell) -> Values:
        return self._planes[cell][self._channels].astype(np.float32)

    def _has_negative(self) -> bool:
        series = self._planes.series
        if series.has_ranges:
            low = series.ranges()[..., self._channels, 0]
            return bool((low < 0).any())
        return any(bool((self[cell] < 0).any()) for cell in spread(series.frames, _SAMPLED))


class Strengths:
    """The ranges under which tiles are shown, all from zero, or symmetric around it.

    `adaptive`, the usual one: each tile up to its own greatest value, where the image stays the
    mean of that over nine frames around, so that nothing flickers; within 1.5 times its own.
    `map`: up to its own in the frame. `frame`: up to the greatest of all tiles. `channel`, `epoch`
    and `run` likewise over frames all over the run, or the epoch.

    Args:
        tiles: All that is shown together.
        cells: The (epoch, batch) of the frames.
        options: The scale, and a clip.
        steady: Whether the image is the same in every frame.

    Attributes:
        signed: Whether the ranges are symmetric around zero.
        own: Whether each tile has a range of its own.
    """

    def __init__(
        self,
        tiles: Sequence[Overlaid],
        cells: Sequence[Cell],
        options: FilmOptions,
        steady: bool,
    ) -> None:
        self._tiles, self._cells = list(tiles), list(cells)
        self._clip, self._mode = options.clip, options.scale
        if options.clip is not None and options.symmetric:
            reach = max(map(abs, options.clip))
            self._clip = -reach, reach
        self.signed = options.symmetric or any(each.signed for each in tiles)
        self.own = options.clip is None and options.scale in ("adaptive", "map", "channel")
        self._steady = steady
        self._places = {cell: place for place, cell in enumerate(self._cells)}
        self._found: dict[tuple[int, Cell], Highs] = {}
        self._values: dict[tuple[int, Cell], Values] = {}
        self._fixed: dict[int, list[Highs]] = {}

    def values(self, which: int, cell: Cell) -> Values:
        """Returns the values of some tiles in a frame, (n, h, w); those of a few frames are kept.

        Args:
            which: The place of the tiles among all.
            cell: Epoch and batch, where there is a frame.
        """
        key = which, cell
        if key not in self._values:
            while len(self._values) >= _KEPT * len(self._tiles):
                del self._values[next(iter(self._values))]
            self._values[key] = self._tiles[which][cell]
        return self._values[key]

    def ranges(self, which: int, cell: Cell) -> list[Range]:
        """Returns the range of each of some tiles in a frame.

        Args:
            which: As in `values`.
            cell: As in `values`.
        """
        if self._clip is not None:
            return [Range(*self._clip)] * len(self._tiles[which].labels)
        return [self._range(float(high)) for high in self._highest(which, cell)]

    def _range(self, high: float) -> Range:
        return Range(-high if self.signed else 0.0, high)

    def _highest(self, which: int, cell: Cell) -> Highs:
        if self._mode == "adaptive" and self._steady:
            at = self._places[cell]
            around = self._cells[max(0, at - _AROUND) : at + _AROUND + 1]
            own, damaged = self._own(which, cell), self._tiles[which].damaged
            found = ((each, self._own(which, each)) for each in around if self._has(which, each))
            near = [high for each, high in found if each == cell or each not in damaged]
            steady: Highs = np.clip(np.mean(near, axis=0), own / _STEADY, own * _STEADY)
            return steady
        if self._mode in ("adaptive", "map"):
            return self._own(which, cell)
        if self._mode == "frame":
            shown = [self._own(i, cell) for i in range(len(self._tiles)) if self._has(i, cell)]
        else:
            shown = self._of_many(cell[0] if self._mode == "epoch" else -1)
            if self._mode == "channel":
                return shown[which]
        most = max((float(each.max(initial=0.0)) for each in shown), default=0.0)
        return np.full(len(self._tiles[which].labels), most)

    def _of_many(self, epoch: int) -> list[Highs]:
        """Returns the greatest values of all tiles over the run (-1), or over an epoch."""
        if epoch not in self._fixed:
            some = self._cells if epoch < 0 else self._of_epoch[epoch]
            self._fixed[epoch] = [
                np.max(
                    [self._own(i, c) for c in spread(some, _SAMPLED) if self._has(i, c)]
                    or [np.zeros(len(each.labels))],
                    axis=0,
                )
                for i, each in enumerate(self._tiles)
            ]
        return self._fixed[epoch]

    @functools.cached_property
    def _of_epoch(self) -> dict[int, list[Cell]]:
        return by_epoch(self._cells)

    def _has(self, which: int, cell: Cell) -> bool:
        present = self._tiles[which].present
        return cell[0] < present.shape[0] and cell[1] < present.shape[1] and bool(present[cell])

    def _own(self, which: int, cell: Cell) -> Highs:
        """Returns the greatest value, or magnitude, of each tile of a frame; 0 without any."""
        key = which, cell
        if key not in self._found:
            values = self.values(which, cell)
            sized = np.abs(values) if self.signed else values
            flat = np.where(np.isfinite(sized), sized, 0.0).reshape(len(values), -1)
            self._found[key] = flat.max(axis=1, initial=0.0).astype(np.float64)
        return self._found[key]


class TilePicture:
    """The picture that lies below, in the size that a tile shows.

    Args:
        recording: Where it is.
        cells: The (epoch, batch) of the frames.
        size: Height and width of what stands in for it where no picture was recorded.

    Attributes:
        size: Height and width of the largest picture.
    """

    def __init__(self, recording: Recording, cells: Sequence[Cell], size: tuple[int, int]) -> None:
        self._recording = recording
        self._steady = recording.probe_number is not None
        self._cells = list(cells[:1] if self._steady else cells)
        self._possible = InputPicture.possible(recording)
        self.size = size
        if self._possible:
            shapes = recording.inputs.shapes
            self.size = max(shape[1] for shape in shapes), max(shape[2] for shape in shapes)
        self._source: InputPicture | None = None  # made when it is first needed
        self._last: tuple[object, Pixels] | None = None

    def show(self, cell: Cell, shrink: int) -> Pixels:
        """Returns the picture of a frame, uint8 (h, w, 3).

        Args:
            cell: Epoch and batch.
            shrink: Rows and columns of the picture that become a pixel.
        """
        key = shrink, None if self._steady else cell
        if self._last is None or self._last[0] != key:
            self._last = key, self._draw(cell, shrink)
        return self._last[1]

    def _draw(self, cell: Cell, shrink: int) -> Pixels:
        picture: Pixels = np.full((*self.size, 3), 128, np.uint8)
        if self._possible:
            if self._source is None:
                self._source = InputPicture(self._recording, self._cells)
            picture = self._source.show(*cell)
        if shrink == 1:
            return picture
        height, width = (-(-side // shrink) for side in picture.shape[:2])
        small = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
        return np.array(small)
