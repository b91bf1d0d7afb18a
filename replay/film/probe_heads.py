"""What stands at the rows of a grid of fixed images: class, answer, whether it is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.formatting import format_number
from replay.maps.answers import Answer
from replay.maps.probe_tiles import ProbeTiles
from replay.raster.block_mosaic import LINE, BlockMosaic
from replay.raster.text import fit, width_of
from replay.raster.widgets import SMALL, Pen, Slot
from replay.schema import Cell

_APART = 10  # columns between a text and the tiles


class HeadWriter:
    """Writes what stands around the tiles of some fixed images.

    Args:
        pen: Writes; None where there are no captions.
        mosaic: Where the tiles are.
        corner: Row and column of the mosaic.
        tiles: The images, a block each.
    """

    def __init__(
        self,
        pen: Pen | None,
        mosaic: BlockMosaic,
        corner: Cell,
        tiles: Sequence[ProbeTiles],
    ) -> None:
        self._pen, self._tiles = pen, tiles
        self._answers: list[list[Slot]] = []
        self._values: list[list[Slot | None]] = []
        if pen is None or not mosaic.head:
            self._pen = None
            return
        top, left = corner
        across = mosaic.tile[1]
        for block in range(min(mosaic.across, len(tiles))):
            _, column = mosaic.block_corner(block)
            for place, label in enumerate(tiles[0].labels):
                at = left + column + mosaic.head + place * mosaic.pitch[1]
                short = label.rpartition(" ")[2]
                text = label if width_of(label, SMALL) <= across else short
                pen.write(fit(text, SMALL, across, middle=True), top, at, SMALL, "muted")
        width = mosaic.head - _APART
        for block, image in enumerate(tiles):
            y, x = mosaic.block_corner(block)
            name = fit(image.name, SMALL, width, bold=True)
            pen.write(name, top + y, left + x, SMALL, bold=True)
            rows = (top + y + LINE, top + y + 2 * LINE)
            self._answers.append([pen.reserve(row, left + x, width, SMALL) for row in rows])
            slots: list[Slot | None] = []
            for place in range(mosaic.each):
                row, column = mosaic.corner(block * mosaic.each + place)
                row, column = top + row + mosaic.tile[0] + 2, left + column
                has = bool(mosaic.below) and image.has_range(place)
                slots.append(pen.reserve(row, column, across, SMALL) if has else None)
            self._values.append(slots)

    def update(self, cell: Cell) -> None:
        """Writes what belongs to one frame."""
        if self._pen is None:
            return
        for image, answers, values in zip(self._tiles, self._answers, self._values, strict=True):
            answer = image.answers.at(cell)
            for slot, (text, tone) in zip(answers, _in_words(answer), strict=True):
                if width_of(text, SMALL) > slot.width:
                    text = text.partition(" (")[0]
                self._pen.refill(slot, (text, tone))
            highs = image.highs(cell) if any(values) else []
            for below, high in zip(values, highs, strict=False):
                if below is not None:
                    text = "" if high is None else _reach(high, image.signed, below.width)
                    self._pen.refill(below, (text, "muted"))


def _reach(high: float, signed: bool, width: int) -> str:
    """Returns how far a tile reaches with as many digits as there is space for; never cut off."""
    sign = "±" if signed else ""
    numbers = [f"{sign}{format_number(high, digits)}" for digits in (3, 2, 1)]
    texts = numbers if signed else [f"to {numbers[0]}", *numbers]
    return next((text for text in texts if width_of(text, SMALL) <= width), "")


def _in_words(answer: Answer) -> list[tuple[str, str]]:
    """Returns two lines, each with its tone: the answer, and whether it is right."""
    words: list[str] = []
    tone = "muted"
    if answer.right is not None:
        words, tone = (["right"], "accent") if answer.right else (["wrong"], "warning")
    if answer.prediction and not np.isnan(answer.probability):
        words.append(f"{answer.probability:.2f}")
    if answer.right is False and not np.isnan(answer.label_probability):
        words.append(f"(label {answer.label_probability:.2f})")
    said = f"→ {answer.prediction}" if answer.prediction else ""
    return [(said, "ink"), (" ".join(words), tone)]
