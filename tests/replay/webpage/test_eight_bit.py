"""Eight bits: what is kept of a value, and what comes back."""

import numpy as np
import pytest
from samples import drifting_maps

from replay.maps.adaptive import Shown
from replay.maps.scaling import table
from replay.raster.palette import Range
from replay.webpage.eight_bit import INF, NAN, StoredSteps, color_levels
from replay.webpage.frame_block import pack_frame, pack_picture, unpack_frame, unpack_picture


@pytest.fixture
def maps() -> np.ndarray:
    return drifting_maps(3, 20, 17)(1, 2)


def ends_of(maps: np.ndarray) -> np.ndarray:
    values = np.where(np.isfinite(maps), maps.astype("f8"), np.nan)
    return np.stack([np.nanmin(values, axis=(1, 2)), np.nanmax(values, axis=(1, 2))], axis=1)


def shown(bounds: np.ndarray) -> Shown:
    none = np.zeros(len(bounds), bool)
    return Shown(bounds, np.ones(len(bounds)), none, none)


def test_a_step_is_the_253rd_part_of_the_narrowest_range(maps: np.ndarray) -> None:
    ends = ends_of(maps)
    own = np.diff(ends)[:, 0]
    wide, narrow = ends * 3, np.stack([ends[:, 0], ends[:, 0] + own / 8], axis=1)
    np.testing.assert_allclose(StoredSteps.of(wide, ends).step, own / 253, rtol=1e-6)
    stored = StoredSteps.of(narrow, ends)
    np.testing.assert_allclose(stored.step, own / 8 / 253, rtol=1e-6)
    assert (stored.highest == 8 * 253).all()
    constant = StoredSteps.of(np.array([[0.0, 1.0]]), np.array([[3.0, 3.0]]))
    assert (constant.low[0], constant.highest[0]) == (3.0, 0)
    nothing = StoredSteps.of(np.array([[0.0, 1.0]]), np.full((1, 2), np.nan))
    assert (nothing.low[0], nothing.highest[0]) == (0.0, 0)


@pytest.mark.parametrize("narrower", [0.5, 1.0, 7.9])
def test_no_value_is_off_by_more_than_half_a_step(maps: np.ndarray, narrower: float) -> None:
    ends = ends_of(maps)
    bounds = ends.mean(axis=1, keepdims=True) + np.diff(ends) / narrower * [[-0.5, 0.5]]
    packed, block = pack_frame(maps, ends.astype("f4"), shown(bounds))
    assert (np.abs(block.values - maps) <= block.stored.step[:, None, None] * 0.5001).all()
    back = unpack_frame(packed, maps.shape, 1.0)
    assert (back.levels == block.levels).all()
    np.testing.assert_allclose(back.bounds, bounds, rtol=1e-6, atol=1e-7)


def test_levels_of_a_range_are_those_of_the_values_to_one_or_so(maps: np.ndarray) -> None:
    ends = ends_of(maps)
    _, block = pack_frame(maps, ends.astype("f4"), shown(ends))
    for low, high in ((-0.8, 0.9), (-3.0, 3.0), (0.0, 0.7)):
        found = color_levels(block.levels, None, block.stored, np.tile([[low, high]], (3, 1)))
        direct = table(Range(low, high), 254)[maps.view(np.uint16)].astype(int)
        coarse = block.stored.step.max() * 253 / (high - low)
        assert np.abs(found - direct).max() <= np.ceil(coarse / 2 + 0.5)


def test_nan_and_infinity_stay_what_they_are(maps: np.ndarray) -> None:
    maps[0, 0, :3] = np.nan, np.inf, -np.inf
    ends = ends_of(maps)
    packed, _ = pack_frame(maps, ends.astype("f4"), shown(ends))
    block = unpack_frame(packed, maps.shape, 1.0)
    found = color_levels(block.levels, block.odd, block.stored, block.bounds)
    assert found[0, 0, :3].tolist() == [NAN, INF, INF]
    assert (found[0, 1:] < NAN).all()


def test_a_frame_told_from_the_one_before_is_the_same_and_smaller(maps: np.ndarray) -> None:
    ends = ends_of(maps)
    _, before = pack_frame(maps, ends.astype("f4"), shown(ends))
    later = (maps * 1.01).astype("f2")
    alone, own = pack_frame(later, ends_of(later).astype("f4"), shown(ends))
    packed, block = pack_frame(later, ends_of(later).astype("f4"), shown(ends), before=before)
    assert (block.levels == own.levels).all()
    assert len(packed) < len(alone)
    assert (unpack_frame(packed, maps.shape, 1.0, before).levels == own.levels).all()


def test_pictures_come_back() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (31, 18, 3)).astype(np.uint8)
    assert (unpack_picture(pack_picture(picture), (31, 18), 1.0) == picture).all()
