"""What lies over a picture in a tile: values by place, and the range under which each is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from replay.maps.axes import Maps, spread
from replay.maps.input_picture import InputPicture
from replay.options import FilmOptions
from replay.raster.palette import Pixels, Range
from replay.recording import Recording
from replay.recording.cam_frames import CamFrames
from replay.recording.class_activation import SIGNED
from replay.schema import Cell, DamagedError

Values = npt.NDArray[np.float32]

_AROUND = 4  # frames before and after one over whose greatest values a steady image's are averaged
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


class CamTile:
    """Class activation of a fixed image, as one tile; see `Overlaid`.

    Args:
        cam: The maps.
    """

    def __init__(self, cam: CamFrames) -> None:
        self.cam, self.labels, self.signed = cam, [cam.name], cam.method in SIGNED
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
        maps: The layer.
        channels: Which ones.
        labels: What each is called.
    """

    def __init__(self, maps: Maps, channels: Sequence[int], labels: Sequence[str]) -> None:
        self.maps, self._channels, self.labels = maps, list(channels), list(labels)
        self.damaged = maps.damaged
        self.signed = self._has_negative()

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self.maps.series.present

    def __getitem__(self, cell: Cell) -> Values:
        frame = self.maps[cell]  # (C, S, H, W)
        return frame[self._channels, frame.shape[1] // 2].astype(np.float32)

    def _has_negative(self) -> bool:
        series = self.maps.series
        if series.has_ranges and self.maps.channels == series.layer.channels:
            low = series.ranges()[..., self._channels, 0]
            return bool((low < 0).any())
        return any(bool((self[cell] < 0).any()) for cell in spread(series.frames, _SAMPLED))


class Strengths:
    """The ranges under which tiles are shown, all from zero, or symmetric around it.

    `adaptive`, the usual one: each tile up to its own greatest value, where the image stays the
    mean of that over nine frames around, so that nothing flickers. `map`: up to its own in the
    frame. `frame`: up to the greatest of all tiles. `channel`, `epoch` and `run` likewise over
    frames all over the run, or the epoch.

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
        self.signed = options.symmetric or any(each.signed for each in tiles)
        self.own = options.clip is None and options.scale in ("adaptive", "map", "channel")
        self._steady = steady
        self._places = {cell: place for place, cell in enumerate(self._cells)}
        self._found: dict[tuple[int, Cell], npt.NDArray[np.float64]] = {}
        self._values: dict[tuple[int, Cell], Values] = {}
        self._fixed: dict[int, list[npt.NDArray[np.float64]]] = {}

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

    def _highest(self, which: int, cell: Cell) -> npt.NDArray[np.float64]:
        if self._mode == "adaptive" and self._steady:
            at = self._places[cell]
            around = self._cells[max(0, at - _AROUND) : at + _AROUND + 1]
            near = [self._own(which, each) for each in around if self._has(which, each)]
            return np.mean(near, axis=0)
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

    def _of_many(self, epoch: int) -> list[npt.NDArray[np.float64]]:
        """Returns the greatest values of all tiles over the run (-1), or over an epoch."""
        if epoch not in self._fixed:
            some = [cell for cell in self._cells if epoch in (-1, cell[0])]
            self._fixed[epoch] = [
                np.max(
                    [self._own(i, c) for c in spread(some, _SAMPLED) if self._has(i, c)]
                    or [np.zeros(len(each.labels))],
                    axis=0,
                )
                for i, each in enumerate(self._tiles)
            ]
        return self._fixed[epoch]

    def _has(self, which: int, cell: Cell) -> bool:
        present = self._tiles[which].present
        return cell[0] < present.shape[0] and cell[1] < present.shape[1] and bool(present[cell])

    def _own(self, which: int, cell: Cell) -> npt.NDArray[np.float64]:
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
        self._source: InputPicture | None = None
        self.size = size
        if InputPicture.possible(recording):
            shapes = recording.inputs.shapes
            height, width = (max(shape[axis] for shape in shapes) for axis in (1, 2))
            self._source = InputPicture(recording, cells, max(width, -(-height * 4 // 5)))
            self.size = height, width
        self._steady = recording.probe_number is not None
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
        if self._source is None:
            picture: Pixels = np.full((*self.size, 3), 128, np.uint8)
        else:
            picture = self._source.show(*cell)
        if shrink == 1:
            return picture
        height, width = (-(-side // shrink) for side in picture.shape[:2])
        small = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
        return np.array(small)
