"""Ranges as steady as the image: percentiles, limits of magnification, gains, constants."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from replay.maps.adaptive import AROUND, MAGNIFIED, AdaptiveRanges, scale_channels
from replay.maps.extremes import greatest_around
from replay.maps.percentiles import (
    FEW,
    PERCENTILES,
    Measured,
    as_float32,
    moments_of,
    percentiles_of,
    steady,
    widened,
    widening,
)

MAPS = arrays(np.uint16, array_shapes(min_dims=3, max_dims=3, max_side=9)).map(
    lambda bits: bits.view(np.float16)
)


@given(MAPS)
def test_percentiles_are_those_of_numpy_over_finite_values(maps: np.ndarray) -> None:
    found = percentiles_of(maps)
    for channel, values in enumerate(maps):
        finite = values[np.isfinite(values)].astype(np.float64)
        expected = np.percentile(finite, (1, 99)) if finite.size else [np.nan, np.nan]
        np.testing.assert_allclose(found[channel], expected, rtol=1e-12, atol=1e-12)


LARGE = {
    "noise": lambda noise: noise,
    "behind a ReLU": lambda noise: np.maximum(noise, 0),
    "behind a negative ReLU": lambda noise: np.minimum(noise, 0),
    "few values": lambda noise: np.rint(2 * noise),
    "one value": lambda noise: noise * 0 + 3,
    "ascending": lambda noise: np.sort(noise.reshape(len(noise), -1)).reshape(noise.shape),
    "a slope": lambda noise: noise * 0 + np.arange(noise.shape[-1]),
    "one corner": lambda noise: np.where(np.indices(noise.shape)[1:].sum(0) < 9, noise - 9, noise),
    "subnormal": lambda noise: noise * 1e-6,
    "not finite": lambda noise: np.where(noise > 2, np.inf, np.where(noise < -2, np.nan, noise)),
    "one of each": lambda noise: np.stack([noise[0], np.maximum(noise[1], 0), noise[2] * 0 - 1]),
}


@pytest.mark.parametrize("side", [22, 23, 56, 64, 128])
@pytest.mark.parametrize("kind", LARGE)
def test_percentiles_of_large_maps_are_those_of_numpy(kind: str, side: int) -> None:
    noise = np.random.default_rng(side).standard_normal((3, side, side))
    maps = LARGE[kind](noise).astype(np.float16)
    found = percentiles_of(maps)
    for channel, values in enumerate(maps.astype(np.float64)):
        expected = np.percentile(values[np.isfinite(values)], PERCENTILES)
        np.testing.assert_allclose(found[channel], expected, rtol=1e-12, atol=1e-12)


def test_every_float16_becomes_the_float32_of_its_value() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    for values in (every, every[np.isfinite(every)]):
        found, finite = as_float32(values)
        assert finite == (len(values) < len(every))
        np.testing.assert_array_equal(found, values.astype(np.float32))
        assert (np.signbit(found) == np.signbit(values)).all()


def test_no_map_has_no_range() -> None:
    assert percentiles_of(np.empty((0, 4, 4), np.float16)).shape == (0, 2)
    assert np.isnan(percentiles_of(np.empty((2, 0, 4), np.float16))).all()


def ends(widths: np.ndarray) -> np.ndarray:
    """Returns extremes (frames, C, 2) of these widths, symmetric around zero."""
    return np.stack([-widths / 2, widths / 2], axis=-1)


def widths(*rows: float) -> np.ndarray:
    return ends(np.array(rows, np.float32)[:, None])


def test_a_map_fills_its_range_unless_that_magnifies_it_too_much() -> None:
    ranges = AdaptiveRanges(widths(*[8.0] * 4), [0, 0, 1, 1])
    wide = ranges.show(1, np.array([[-1.0, 3.0]]))
    assert wide.bounds.tolist() == [[-1.0, 3.0]]
    narrow = ranges.show(1, np.array([[0.9, 1.1]]))  # 40 times narrower than its channel
    low, high = narrow.bounds[0]
    assert (low + high) / 2 == pytest.approx(1.0)
    assert high - low == pytest.approx(8.0 / MAGNIFIED)
    assert not narrow.flat.any()


def test_what_is_nearby_counts_and_not_what_is_far_away() -> None:
    epochs = np.repeat(np.arange(10), 10)
    strength = np.where(epochs < 5, 1.0, 100.0)
    ranges = AdaptiveRanges(ends(strength[:, None]), epochs)
    early, late = (ranges.show(place, np.array([[0.0, 0.5]])) for place in (0, 99))
    assert early.bounds.tolist() == [[0.0, 0.5]]
    assert np.ptp(late.bounds) == pytest.approx(12.5)
    assert early.gain[0] == pytest.approx(0.5 / 100)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=st.floats(-9, 9)),
    st.integers(0, 25),
)
def test_the_greatest_value_around_is_found_at_every_place(values: np.ndarray, reach: int) -> None:
    found = greatest_around(values, reach)
    for place in range(len(values)):
        expected = values[max(0, place - reach) : place + reach + 1].max(axis=0)
        assert (found[place] == expected).all()


@given(st.integers(1, 70), st.integers(1, 30))
def test_ranges_are_read_in_pieces_that_make_no_difference(frames: int, each: int) -> None:
    """The limit of magnification is that of half an epoch around, wherever a piece ends."""
    rng = np.random.default_rng(frames * 31 + each)
    values = rng.uniform(1, 1000, (frames, 2))
    epochs = np.arange(frames) // each
    counts = np.unique(epochs, return_counts=True)[1]
    reach = max(AROUND, int(np.ceil(np.median(counts) / 2)))
    ranges = AdaptiveRanges(ends(values), epochs.tolist())
    for place in rng.permutation(frames):
        nearby = values[max(0, place - reach) : place + reach + 1].max(axis=0)
        bounds = ranges.show(int(place), np.array([[0.0, 1e-9]] * 2)).bounds
        np.testing.assert_allclose(np.ptp(bounds, axis=1), nearby / MAGNIFIED)


def test_a_constant_channel_and_a_faint_one_are_flat_and_marked() -> None:
    several = np.array([[2.0, 0.0, 0.001, 0.1]] * 3)
    ranges = AdaptiveRanges(ends(several), [0, 0, 0])
    shown = ranges.show(0, np.array([[-1.0, 1.0], [0.0, 0.0], [0.0, 0.001], [0.0, 0.1]]))
    assert shown.constant.tolist() == [False, True, False, False]
    assert shown.faint.tolist() == [False, False, True, False]
    assert (shown.bounds[1:3] == [-1.0, 1.0]).all()  # on the range of the layer
    assert shown.gain[[1, 3]].tolist() == [0.0, pytest.approx(0.1 / 2.0)]


def test_one_constant_map_of_a_channel_that_lives_is_marked_and_not_the_others() -> None:
    ranges = AdaptiveRanges(ends(np.array([[2.0], [0.0], [2.0]])), [0, 0, 0])
    marks = [ranges.show(place, np.array([[0.0, 0.0]])).constant.tolist() for place in range(3)]
    assert marks == [[False], [True], [False]]


def test_what_is_widened_stays_within_what_the_channel_has() -> None:
    """A map behind a ReLU that is zero nearly everywhere is dark, not gray."""
    ends_of_relu = np.array([[[0.0, 8.0]], [[0.0, 0.5]], [[0.0, 8.0]]])
    ranges = AdaptiveRanges(ends_of_relu, [0, 0, 0])
    low, high = ranges.show(1, np.array([[0.0, 0.01]])).bounds[0]
    assert (low, high) == (0.0, 1.0)


def test_nothing_but_zeros_and_nothing_at_all() -> None:
    dead = AdaptiveRanges(np.zeros((4, 2, 2)), [0, 0, 1, 1]).show(2, np.zeros((2, 2)))
    assert dead.constant.all()
    assert (dead.bounds == [0.0, 1.0]).all()
    lost = AdaptiveRanges(np.full((1, 1, 2), np.nan), [0]).show(0, np.full((1, 2), np.nan))
    assert not lost.constant.any()
    assert lost.gain.tolist() == [0.0]
    assert np.isfinite(lost.bounds).all()
    assert (np.ptp(lost.bounds, axis=1) > 0).all()


def test_a_symmetric_range_has_zero_in_its_middle() -> None:
    ranges = AdaptiveRanges(np.array([[[-1.0, 3.0]]]), [0], symmetric=True)
    assert ranges.show(0, np.array([[-1.0, 3.0]])).bounds.tolist() == [[-3.0, 3.0]]


@given(MAPS, st.integers(2, 254))
def test_levels_are_the_nearest_ones_and_what_is_not_finite_has_its_own(
    maps: np.ndarray, count: int
) -> None:
    bounds = np.tile([-1.5, 2.5], (len(maps), 1))
    with np.errstate(over="ignore", invalid="ignore"):
        place = np.clip((maps.astype(float) + 1.5) / 4 * (count - 1), 0, count - 1)
    found = scale_channels(maps, bounds, count)
    finite = np.isfinite(maps)
    assert (np.abs(found[finite] - place[finite]) <= 0.5 + 1e-4).all()
    assert (found[np.isnan(maps)] == count).all()
    assert (found[np.isinf(maps)] == count + 1).all()


@pytest.mark.parametrize("side", [2, 4, 7, 16])
def test_a_map_that_only_grows_looks_the_same_and_its_gain_moves(side: int) -> None:
    pattern = np.random.default_rng(0).normal(size=(1, side, side))
    growth = np.geomspace(0.05, 5.0, 60)
    frames = [(pattern * factor).astype(np.float16) for factor in growth]
    sizes = np.array([[np.ptp(frame.astype(float))] for frame in frames])
    ranges = AdaptiveRanges(ends(sizes), np.repeat(np.arange(6), 10).tolist())
    each = [measured(frame) for frame in frames]
    levels, gains = [], []
    for place, frame in enumerate(frames):
        around = each[max(0, place - AROUND) : place + AROUND + 1]
        shown = ranges.show(place, steady(around, min(place, AROUND)), widening(side * side))
        low, high = shown.bounds[0]
        levels.append(np.clip((frame.astype(float) - low) / (high - low), 0, 1) * 255)
        gains.append(shown.gain[0])
    changes = [np.abs(a - b).mean() for a, b in itertools.pairwise(levels)]
    assert max(changes) < 2
    assert (np.diff(gains) > 0).all()
    assert gains[-1] / gains[0] > 50


def measured(maps: np.ndarray) -> Measured:
    return Measured.of(maps, PERCENTILES, averaged=True)


def test_a_mean_leaves_out_frames_that_have_nothing() -> None:
    rng = np.random.default_rng(1)
    first, last = (rng.normal(size=(1, 10, 10)).astype(np.float16) for _ in range(2))
    nothing = np.full((1, 10, 10), np.nan, np.float16)
    constant = np.ones((1, 10, 10), np.float16)
    alone = steady([measured(first), measured(last)], 0)
    for between in (nothing, constant):
        frames = [measured(first), measured(between), measured(last)]
        np.testing.assert_allclose(steady(frames, 0), alone)
    assert np.isnan(steady([measured(nothing), measured(first)], 0)).all()
    assert steady([measured(constant), measured(first)], 0).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("side", [3, 4, 5, 6, 7, 8, 9])
def test_a_map_of_few_values_has_the_percentiles_that_many_would_have(side: int) -> None:
    maps = np.random.default_rng(3).normal(size=(4000, side, side)).astype(np.float16)
    found = widened(percentiles_of(maps), side * side).mean(axis=0)
    np.testing.assert_allclose(found, (-2.326, 2.326), rtol=0.1 if side == 3 else 0.05)


def test_widening_keeps_a_zero_at_either_end_and_leaves_maps_of_many_values() -> None:
    ends = np.array([[0.0, 8.0], [-8.0, 0.0], [-4.0, 4.0], [np.nan, np.nan]])
    found = widened(ends, 16)
    assert found[:3].tolist() == [[0.0, 11.0], [-11.0, 0.0], [-5.5, 5.5]]
    assert np.isnan(found[3]).all()
    assert widened(ends, 2)[0].tolist() == [0.0, 12.0]
    for values in (1, FEW, 4096):
        np.testing.assert_array_equal(widened(ends, values), ends)


def test_what_percentiles_have_of_chance_is_averaged_out() -> None:
    rng = np.random.default_rng(2)
    frames = [measured(rng.normal(size=(1, 10, 10)).astype(np.float16)) for _ in range(9)]
    deviations = np.array([each.moments[0, 1] for each in frames])
    own = np.array([np.ptp(each.percentiles) for each in frames]) / deviations
    held = np.array([np.ptp(steady(frames, place)) for place in range(9)]) / deviations
    assert held.std() < own.std() / 100
    assert held.mean() == pytest.approx(own.mean())


@given(MAPS)
def test_moments_are_those_of_numpy_over_finite_values(maps: np.ndarray) -> None:
    for channel, (mean, deviation) in zip(maps, moments_of(maps), strict=True):
        finite = channel[np.isfinite(channel)].astype(np.float64)
        assert mean == pytest.approx(finite.mean() if finite.size else 0, rel=1e-3, abs=1e-3)
        assert deviation == pytest.approx(finite.std() if finite.size else 0, rel=1e-2, abs=1e-2)
