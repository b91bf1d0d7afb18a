"""The ends of every map, read from the file's ranges."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.maps.axes import Maps
from replay.maps.extremes import RecordedExtremes
from replay.recording.series import Series
from replay.schema import checksum_cells


def test_any_piece_has_the_ends_of_its_frames_and_reads_little_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a piece lies across the borders of long epochs."""
    path = write_recording(
        tmp_path / "run.h5", {"conv": drifting_maps(3, 4, 5)}, epochs=4, batches=30
    )
    cells = 0
    read = Series.ranges

    def counted(
        self: Series, epochs: range | None = None, batches: range | None = None
    ) -> np.ndarray:
        nonlocal cells
        found = read(self, epochs, batches)
        cells += found.shape[0] * found.shape[1]
        return found

    with replay.open(path) as run:
        series = run["conv"]
        expected = np.stack(
            [
                [maps.min(axis=(1, 2)), maps.max(axis=(1, 2))]
                for maps in map(series.__getitem__, series.frames)
            ]
        ).transpose(0, 2, 1)
        ends = RecordedExtremes(Maps(series), series.frames)
        monkeypatch.setattr(Series, "ranges", counted)
        borders = [0, 1, 29, 30, 31, 45, 60, 89, 90, 119, 120]
        for start, stop in itertools.combinations(borders, 2):
            cells = 0
            np.testing.assert_array_equal(ends[start:stop], expected[start:stop].astype("f4"))
            assert cells == stop - start


@pytest.mark.parametrize("count", [0, 1, 31, 511, 512, 513])
@pytest.mark.parametrize(
    ("shape", "dtype"), [((), "u1"), ((), "f8"), ((0,), "f4"), ((3,), "f2"), ((16, 2), "f4")]
)
def test_a_checksum_of_each_cell_is_that_of_its_bytes(
    count: int, shape: tuple[int, ...], dtype: str
) -> None:
    values = np.random.default_rng(count).integers(0, 255, (count, *shape)).astype(dtype)
    for given in (values, values[::-1], np.asfortranarray(values)):
        found = checksum_cells(given)
        assert found.dtype == np.uint32
        assert found.tolist() == [zlib.crc32(cell.tobytes()) for cell in given]
