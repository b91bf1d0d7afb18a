"""The ranges of what lies over pictures: those of an epoch, found once for all epochs."""

from __future__ import annotations

import numpy as np
from counted_cells import Counted

from replay.maps.overlaid import Strengths
from replay.options import FilmOptions

EPOCHS, BATCHES = 60, 4


class Tiles:
    """Two tiles, whose values tell the frame."""

    labels = ("a", "b")
    signed = False
    damaged: dict = {}  # noqa: RUF012
    present = np.ones((EPOCHS, BATCHES), bool)

    def __getitem__(self, cell: tuple[int, int]) -> np.ndarray:
        epoch, batch = cell
        return np.full((2, 3, 3), 10 * epoch + batch, np.float32)


def test_the_frames_of_an_epoch_are_found_once_for_all_epochs() -> None:
    cells = [Counted((e, b)) for e in range(EPOCHS) for b in range(BATCHES)]
    strengths = Strengths([Tiles()], cells, FilmOptions(scale="epoch"), steady=False)
    Counted.looked = 0
    ranges = [strengths.ranges(0, cells[BATCHES * epoch]) for epoch in range(EPOCHS)]
    assert Counted.looked <= 8 * len(cells)
    assert [[one.high for one in each] for each in ranges] == [
        [10 * epoch + BATCHES - 1] * 2 for epoch in range(EPOCHS)
    ]


def test_a_damaged_frame_nearby_moves_no_range() -> None:
    """It counted as a frame whose greatest value is 0."""

    class Damaged(Tiles):
        def __init__(self) -> None:
            self.damaged = {}

        def __getitem__(self, cell: tuple[int, int]) -> np.ndarray:
            if cell == (0, 2):
                self.damaged[cell] = "damaged"
            return np.full((2, 3, 3), np.nan if cell == (0, 2) else 6.0, np.float32)

    cells = [(e, b) for e in range(2) for b in range(BATCHES)]
    strengths = Strengths([Damaged()], cells, FilmOptions(), steady=True)
    assert {one.high for cell in cells for one in strengths.ranges(0, cell)} == {6.0, 0.0}
    assert [one.high for one in strengths.ranges(0, (0, 3))] == [6.0, 6.0]
