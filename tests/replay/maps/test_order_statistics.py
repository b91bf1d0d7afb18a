"""What stands where in rows of values, whichever way is the quicker one on this processor."""

import numpy as np
import numpy.typing as npt
import pytest

from replay.maps import order_statistics as of_rows
from replay.maps.percentiles import percentiles_of

ROWS = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "behind a ReLU": lambda rng, size: np.maximum(rng.standard_normal(size), 0),
    "zero nearly everywhere": lambda rng, size: (
        rng.standard_normal(size) * (rng.random(size) < 0.01)
    ),
    "one value": lambda rng, size: np.full(size, -1.5),
    "five values": lambda rng, size: rng.integers(-2, 3, size),
    "tiny and huge": lambda rng, size: (
        rng.standard_normal(size) * 10.0 ** rng.integers(-9, 4, size)
    ),
    "both zeros": lambda rng, size: np.where(rng.random(size) < 0.5, 0.0, -0.0),
    "descending": lambda rng, size: -np.sort(rng.standard_normal(size), axis=1),
}


@pytest.fixture(params=[True, False], ids=["sorted", "outermost"])
def sorts_quickly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    quickly = bool(request.param)
    monkeypatch.setattr(of_rows, "_sorts_quickly", lambda: quickly)
    return quickly


@pytest.mark.parametrize("columns", [1, 2, 9, 64, 511, 512, 3_136, 20_000])
@pytest.mark.parametrize("percents", [(1.0, 99.0), (0.5, 99.5), (0.0, 100.0), (25.0, 75.0)])
@pytest.mark.parametrize("rows", ROWS)
def test_percentiles_are_those_of_numpy_either_way(
    rows: str, percents: tuple[float, float], columns: int, sorts_quickly: bool
) -> None:
    maps: npt.NDArray[np.float16] = ROWS[rows](np.random.default_rng(3), (5, columns)).astype("f2")
    expected = np.percentile(maps.astype(np.float64), percents, axis=1).T
    np.testing.assert_allclose(percentiles_of(maps, percents), expected, rtol=1e-12, atol=1e-12)


def test_which_way_is_the_quicker_one_is_tried_once() -> None:
    of_rows._sorts_quickly.cache_clear()
    assert of_rows._sorts_quickly() in (True, False)
    assert of_rows._sorts_quickly() is of_rows._sorts_quickly()
    assert of_rows._sorts_quickly.cache_info().misses == 1
