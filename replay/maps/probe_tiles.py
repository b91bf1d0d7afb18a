"""What is shown of one fixed image among several: its picture, and a tile or more of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from replay.formatting import clean
from replay.maps.answers import Answers
from replay.maps.overlaid import TilePicture
from replay.maps.overlay_series import OverlaySeries
from replay.raster.overlay import blocks
from replay.recording import Recording
from replay.recording.derived import ColourSeries
from replay.schema import Cell, SelectionError

Picture = npt.NDArray[np.uint8]


class ProbeTiles:
    """The tiles of one fixed image.

    Args:
        image: What is shown of it: pictures in colours by layer.
        names: The layers, each with as many tiles in every image.
        cells: The (epoch, batch) of the frames.
        with_input: Whether the image itself is the first tile.

    Attributes:
        name: Its class, or its number.
        labels: What each column is called.
        answers: What the network answered to it.
        size: Height and width of a tile's picture.
        own: Whether each tile has a range of its own.
        signed: Whether ranges are symmetric around zero.
        note: What is shown of its layers, in words.
    """

    def __init__(
        self, image: Recording, names: Sequence[str], cells: Sequence[Cell], with_input: bool
    ) -> None:
        self._series = [_in_colour(image, name) for name in names]
        self.answers = Answers(image)
        number = f"image {image.probe_number}"
        label = self.answers.at(cells[0]).label
        self.name = f"class {label}" if label.isdecimal() else label or number
        self._picture: TilePicture | None = None
        sizes = [each.layer.shape[1:] for each in self._series]
        self.size = max(size[0] for size in sizes), max(size[1] for size in sizes)
        self.labels: list[str] = []
        if with_input and bool(image.inputs):
            self._picture = TilePicture(image, cells, self.size)
            self.size = (
                max(self.size[0], self._picture.size[0]),
                max(self.size[1], self._picture.size[1]),
            )
            self.labels.append("input")
        for series in self._series:
            several = len(series.labels) > 1 or series.labels[0].strip()
            for label in series.labels:
                words = [series.name] if len(names) > 1 or not several else []
                self.labels.append(clean(" ".join([*words, label.strip()]).strip()))
        self.own = any(isinstance(each, OverlaySeries) and each.own_ranges for each in self._series)
        self.signed = any(isinstance(each, OverlaySeries) and each.signed for each in self._series)
        self._kept = [len(series.labels) for series in self._series]
        subjects = {each.subject for each in self._series}
        first = self._series[0].layer.note
        self.note = clean(
            first if len(names) == 1 else subjects.pop() if len(subjects) == 1 else ""
        )

    def keep(self, count: int) -> None:
        """Has only the first tiles shown.

        Args:
            count: How many, that of the image itself included; 1 or more.
        """
        self.labels = self.labels[:count]
        left = count - (self._picture is not None)
        for place, many in enumerate(self._kept):
            self._kept[place] = min(many, max(left, 0))
            left -= many

    def not_finite(self, cell: Cell) -> str:
        """Returns how much of a frame is not finite, in words."""
        shown = [each for each, kept in zip(self._series, self._kept, strict=True) if kept]
        found = [each.not_finite(cell) for each in shown if each.present[cell]]
        return ", ".join(filter(None, found))

    def bar(self, steps: int) -> Picture | None:
        """Returns the colours of the colour bar, uint8 (steps, 3)."""
        return self._series[0].bar(steps)

    def shown(self, cell: Cell) -> tuple[float, float] | None:
        """Returns the values of both ends of the colour bar, where they are those of all tiles."""
        return self._series[0].shown(cell)

    def has_range(self, place: int) -> bool:
        """Returns whether a tile has values, as the image itself has none."""
        return self._picture is None or place > 0

    def highs(self, cell: Cell) -> list[float | None]:
        """Returns the value of the colour bar's high end for each tile; None without one."""
        found: list[float | None] = [] if self._picture is None else [None]
        for series, kept in zip(self._series, self._kept, strict=True):
            there = isinstance(series, OverlaySeries) and series.present[cell]
            if isinstance(series, OverlaySeries) and there:
                found += [each.high for each in series.ranges_at(cell)[:kept]]
            else:
                found += [None] * kept
        return found

    def pictures(self, cell: Cell, shrink: int) -> list[Picture | None]:
        """Returns the tiles of a frame, each uint8 (h, w, 3); None for one that is not there.

        Args:
            cell: Epoch and batch.
            shrink: Rows and columns of the picture that become a pixel.

        Raises:
            DamagedError: What they are made of is damaged.
        """
        found: list[Picture | None] = []
        if self._picture is not None:
            found.append(self._picture.show(cell, shrink))
        for series, kept in zip(self._series, self._kept, strict=True):
            if kept and series.present[cell]:
                size = -(-self.size[0] // shrink), -(-self.size[1] // shrink)
                whole = series.layer.shape[1:] == self.size
                tiles = series.tiles(cell, range(kept), shrink if whole else 1)
                found += [fit_picture(each, size) for each in tiles]
            else:
                found += [None] * kept
        return found


def _in_colour(image: Recording, name: str) -> ColourSeries:
    series = image[name]
    if not isinstance(series, ColourSeries):
        raise SelectionError(f"{name!r} of {image.path} is not shown in colours")
    return series


def fit_picture(picture: Picture, size: tuple[int, int]) -> Picture:
    """Returns a picture at a tile's size: each pixel as a block, or the mean over some of them."""
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    if height > size[0] or width > size[1]:
        return np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BOX))
    return np.moveaxis(blocks(np.moveaxis(picture, 2, 0), size), 0, 2)
