"""What the layouts of all films share: margins, the space for mosaics, the plane, input pictures.

`FrameLayout` and `ComparisonLayout` say where everything stands. Here is how it is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.film.facts import Count, InputCaption, LayerPanel
from replay.formatting import clean
from replay.raster.mosaic import NUMBER_SIZE, Box, Space
from replay.raster.palette import Palette
from replay.raster.text import height_of, width_of, wrap
from replay.raster.widgets import SMALL, Pen, Slot
from replay.schema import OptionError

SIDE = 256  # pixels: the width of the column with the input picture
MARGIN, GUTTER = 24, 24
BARE = 12  # margin and gutter of a frame without captions
SECTION_HEAD = 38
LABEL_SIZE = 13  # pixels: the font of labels and predictions
_WIDEST = 1400
_USUAL = 860  # height of the mosaics of a usual frame
_HEAD_AND_FOOT = 132  # of a frame with captions, as a rule
_LEAST = 64  # pixels: encoders want no less
_LARGEST = 16_000  # what H.264 and WebP take, rounded down


class BaseLayout:
    """A plane of palette indices, and what is written on it in the same way in every film.

    Args:
        panels: The layers, from top to bottom.
        palette: The colours.
        inputs: What the network saw, for each recording whose input is shown.

    Attributes:
        plane: uint8 (H, W), both even.
        input_corners: Row and column of each input picture.
    """

    plane: npt.NDArray[np.uint8]

    def __init__(
        self, panels: Sequence[LayerPanel], palette: Palette, inputs: Sequence[InputCaption]
    ) -> None:
        self._panels, self._palette, self._inputs = panels, palette, inputs
        self.input_corners: list[tuple[int, int]] = []
        self._input_slots: list[tuple[Slot, str]] = []  # and what is usually written there
        self._class_slots: list[tuple[Slot, InputCaption, npt.NDArray[np.int64]]] = []

    @property
    def boxes(self) -> list[Box]:
        """(top, left, bottom, right) of every text."""
        return self._pen.boxes

    def take_touched(self) -> list[Box]:
        """Returns (top, left, bottom, right) of what has changed since the last call."""
        touched, self._pen.touched = self._pen.touched, []
        return touched

    def _start(self, height: int, width: int) -> None:
        """Makes the empty plane, padded to even sizes: 4:2:0 colour needs them."""
        height, width = max(height, _LEAST), max(width, _LEAST)
        if max(height, width) > _LARGEST:
            raise OptionError(
                f"frames of {width}×{height} pixels are too large for a video; choose fewer "
                "channels, a smaller zoom or another number of columns"
            )
        self.plane = np.full(
            (height + height % 2, width + width % 2), self._palette.paper, np.uint8
        )
        self._pen = Pen(self.plane, self._palette)

    def _write_inputs(self, top: int) -> int:
        """Writes the captions of the input pictures, and returns the row below the last one."""
        for caption in self._inputs:
            self.input_corners.append((top, MARGIN))
            self._write_input(caption, top)
            top += input_height(caption)
        return top

    def _write_input(self, caption: InputCaption, row: int) -> None:
        pen = self._pen
        if caption.size:
            row += caption.size[0] + 6
            for place, line in enumerate(wrap(caption.text, SMALL, SIDE)):
                if place:
                    pen.write(line, row, MARGIN, SMALL, "muted")
                else:
                    self._input_slots.append((pen.reserve(row, MARGIN, SIDE, SMALL), line))
                row += height_of(SMALL)
            row += 4
        words = [width_of(f"{word}  ", LABEL_SIZE) for word, _ in caption.fields]
        indent = max(words, default=0)
        for word, numbers in caption.fields:
            pen.write(word, row + 2, MARGIN, LABEL_SIZE, "muted")
            slot = pen.reserve(row + 2, MARGIN + indent, SIDE - indent, LABEL_SIZE)
            self._class_slots.append((slot, caption, numbers))
            row += height_of(LABEL_SIZE) + 2

    def _update_inputs(self, place: int, problems: Sequence[str]) -> None:
        """Writes the label and the prediction of a frame, and why a picture is not there."""
        for (slot, usual), problem in zip(self._input_slots, problems, strict=False):
            self._pen.refill(slot, (problem, "warning") if problem else (usual, "muted"))
        for slot, caption, numbers in self._class_slots:
            name = caption.class_name(int(numbers[place]))
            self._pen.refill(slot, (clean(name), "ink"))

    def _write_count(self, slot: Slot, count: Count, alarming: bool) -> None:
        """Writes how many values are NaN and infinite, or why there is no frame.

        Args:
            slot: Where.
            count: The two numbers, or the reason.
            alarming: Whether the reason is something to be warned of.
        """
        if isinstance(count, str):
            self._pen.refill(slot, (count, "warning" if alarming else "muted"))
            return
        nan, inf = count
        self._pen.refill(
            slot,
            *([("■ ", "nan"), (f"{nan:,} NaN   ", "warning")] if nan else []),
            *([("■ ", "inf"), (f"{inf:,} inf", "warning")] if inf else []),
        )

    def _write_numbers(self, panel: LayerPanel, top: int, left: int) -> None:
        """Writes the numbers of the channels below or beside the tiles of a mosaic."""
        mosaic = panel.mosaic
        for place in mosaic.numbered():
            y, x = mosaic.corner(place)
            text = panel.labels[place]
            if mosaic.numbers == "tile":
                row, column = top + y + mosaic.tile[0] + 2, left + x
            else:
                row = top + y + max(0, (mosaic.tile[0] - height_of(NUMBER_SIZE)) // 2)
                column = left + mosaic.indent - 6 - width_of(text, NUMBER_SIZE)
            self._pen.write(text, row, column, NUMBER_SIZE, "muted")


def input_height(caption: InputCaption) -> int:
    """Returns the rows of an input picture, of its caption, and of a distance below."""
    rows = 0
    if caption.size:
        rows += caption.size[0] + 6 + 4
        rows += len(wrap(caption.text, SMALL, SIDE)) * height_of(SMALL)
    rows += len(caption.fields) * (height_of(LABEL_SIZE) + 2)
    return rows + (14 if rows else 0)


def surroundings(
    mosaics: int, captions: bool, pictures: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Returns the pixels of a frame beside its mosaics, and above and below them.

    Args:
        mosaics: Number of mosaics under one another.
        captions: Whether there is more than mosaics and input pictures.
        pictures: Height and width of each input picture.
    """
    if not captions:
        beside = 2 * BARE + (max(size[1] for size in pictures) + BARE if pictures else 0)
        return beside, (mosaics + 1) * BARE
    above = _HEAD_AND_FOOT + (mosaics * SECTION_HEAD if mosaics > 1 else 0)
    return 2 * MARGIN + SIDE + GUTTER, above


def mosaic_space(
    mosaics: int,
    captions: bool,
    pictures: Sequence[tuple[int, int]],
    bounds: tuple[int, int] | None = None,
) -> Space:
    """Returns the space for each of some mosaics in a frame about 1,000 to 1,400 pixels wide.

    Args:
        mosaics: Number of mosaics under one another.
        captions: Whether there is more than mosaics and input pictures.
        pictures: Height and width of each input picture.
        bounds: Greatest width and height of the frame, instead of the usual ones.
    """
    if bounds is not None:
        beside, above = surroundings(mosaics, captions, pictures)
        width, height = max(1, bounds[0] - beside), max(1, (bounds[1] - above) // mosaics)
        return Space(width, height, beside, bounds[1] - height, bounds[1] - above, 1.0)
    if not captions:
        beside, _ = surroundings(mosaics, captions, pictures)
        least = sum(size[0] + BARE for size in pictures)
        return Space(_WIDEST - beside, _USUAL // mosaics, beside, 2 * BARE, least)
    beside, _ = surroundings(mosaics, captions, pictures)
    if mosaics == 1:
        least = sum(size[0] for size in pictures) + 320
        return Space(_WIDEST - beside, _USUAL, beside, 120, least)
    height = max(60, (_USUAL + 140 - mosaics * SECTION_HEAD) // mosaics)
    return Space(_WIDEST - beside, height, beside, _USUAL + 140 - height)
