"""Eight bits: what is kept of a value, and what comes back."""

import numpy as np
import pytest
from samples import drifting_maps

from replay.maps.scaling import table
from replay.raster.palette import Range
from replay.webpage.eight_bit import INF, NAN, pack, quantize, rescale, stored_range, unpack, widen

RUN = Range(-0.8, 0.9)


@pytest.fixture
def maps() -> np.ndarray:
    return drifting_maps(3, 20, 17)(1, 2)


def test_a_frame_is_stored_between_its_extremes_cut_to_the_widest_scale(maps: np.ndarray) -> None:
    low, high = float(maps.min()), float(maps.max())
    wide = Range(-50.0, 50.0)
    assert stored_range(maps, [RUN, wide]) == Range(low, high)
    assert stored_range(maps, [RUN]) == Range(-0.9, 0.9)  # its symmetric form is on offer too
    assert stored_range(np.full((1, 2, 2), 3.0, np.float16), [RUN, Range(3.0, 4.0)]).low == 3.0
    assert stored_range(np.full((1, 2, 2), np.nan, np.float16), [RUN]) == Range(0.0, 1.0)


def test_no_value_on_show_is_off_by_more_than_half_a_step(maps: np.ndarray) -> None:
    stored = stored_range(maps, [RUN])
    levels = quantize(maps, stored)
    step = (stored.high - stored.low) / 253
    values = stored.low + levels * step
    clipped = np.clip(maps.astype(np.float64), stored.low, stored.high)
    assert np.abs(values - clipped).max() <= step / 2 + 1e-12


def test_a_scale_from_stored_levels_is_the_scale_from_values_to_a_level_or_so(
    maps: np.ndarray,
) -> None:
    for shown in (RUN, widen(RUN)):
        stored = stored_range(maps, [RUN])
        derived = rescale(stored, shown)[quantize(maps, stored)].astype(int)
        direct = table(shown, 254)[maps.view(np.uint16)].astype(int)
        step = (stored.high - stored.low) / (shown.high - shown.low)
        assert np.abs(derived - direct).max() <= np.ceil(step / 2 + 0.5)


def test_nan_and_infinity_stay_what_they_are(maps: np.ndarray) -> None:
    maps[0, 0, :3] = np.nan, np.inf, -np.inf
    levels = quantize(maps, RUN)
    assert levels[0, 0, :3].tolist() == [NAN, INF, INF]
    assert rescale(RUN, Range(0, 1))[[NAN, INF]].tolist() == [NAN, INF]


def test_the_same_range_changes_nothing() -> None:
    for stored in (RUN, Range(0.1, 0.1000001), Range(-65504.0, 65504.0)):
        assert (rescale(stored, stored) == np.arange(256)).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 9), (2, 9, 1), (5, 31, 17)])
def test_packing_loses_nothing(shape: tuple[int, int, int]) -> None:
    levels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    back, more = unpack(pack(levels, b"more"), shape)
    assert (back == levels).all()
    assert more == b"more"
