"""Ranges as steady as the image: percentiles, limits of magnification, gains, constants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from replay.maps.adaptive import (
    AROUND,
    MAGNIFIED,
    AdaptiveRanges,
    percentiles_of,
    steady,
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


def test_no_map_has_no_range() -> None:
    assert percentiles_of(np.empty((0, 4, 4), np.float16)).shape == (0, 2)
    assert np.isnan(percentiles_of(np.empty((2, 0, 4), np.float16))).all()


def widths(*rows: float) -> np.ndarray:
    return np.array(rows, np.float32)[:, None]


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
    ranges = AdaptiveRanges(strength[:, None], epochs)
    early, late = (ranges.show(place, np.array([[0.0, 0.5]])) for place in (0, 99))
    assert early.bounds.tolist() == [[0.0, 0.5]]
    assert np.ptp(late.bounds) == pytest.approx(12.5)
    assert early.gain[0] == pytest.approx(0.5 / 100)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=st.floats(0, 9)),
    st.integers(1, 25),
)
def test_the_widest_range_nearby_is_found_at_every_place(values: np.ndarray, each: int) -> None:
    epochs = np.arange(len(values)) // each
    ranges = AdaptiveRanges(values, epochs.tolist())
    counts = np.unique(epochs, return_counts=True)[1]
    reach = max(AROUND, int(np.ceil(np.median(counts) / 2)))
    for place in range(len(values)):
        expected = values[max(0, place - reach) : place + reach + 1].max(axis=0)
        assert (ranges._nearby[place] == expected).all()


def test_a_constant_channel_and_a_faint_one_are_flat_and_marked() -> None:
    several = np.array([[2.0, 0.0, 0.001, 0.1]] * 3)
    ranges = AdaptiveRanges(several, [0, 0, 0])
    shown = ranges.show(0, np.array([[0.0, 2.0], [5.0, 5.0], [0.0, 0.001], [0.0, 0.1]]))
    assert shown.flat.tolist() == [False, True, True, False]
    assert (np.ptp(shown.bounds, axis=1)[1:3] == 2.0).all()  # nothing of them is magnified
    assert shown.gain[3] == pytest.approx(0.1 / 2.0)
    assert (shown.gain > 0).all()
    assert (shown.gain <= 1).all()


def test_nothing_but_zeros_and_nothing_at_all() -> None:
    dead = AdaptiveRanges(np.zeros((4, 2)), [0, 0, 1, 1]).show(2, np.zeros((2, 2)))
    assert dead.flat.all()
    assert (np.ptp(dead.bounds, axis=1) > 0).all()
    lost = AdaptiveRanges(np.full((1, 1), np.nan), [0]).show(0, np.full((1, 2), np.nan))
    assert lost.flat.all()
    assert np.isfinite(lost.bounds).all()


def test_a_map_that_only_grows_looks_the_same_and_its_gain_moves() -> None:
    pattern = np.random.default_rng(0).normal(size=(1, 16, 16))
    growth = np.geomspace(0.05, 5.0, 60)
    frames = [(pattern * factor).astype(np.float16) for factor in growth]
    sizes = np.array([[np.ptp(frame.astype(float))] for frame in frames])
    ranges = AdaptiveRanges(sizes, np.repeat(np.arange(6), 10).tolist())
    each = [percentiles_of(frame) for frame in frames]
    levels, gains = [], []
    for place, frame in enumerate(frames):
        shown = ranges.show(place, steady(each[max(0, place - AROUND) : place + AROUND + 1]))
        low, high = shown.bounds[0]
        levels.append(np.clip((frame.astype(float) - low) / (high - low), 0, 1) * 255)
        gains.append(shown.gain[0])
    inner = slice(AROUND, -AROUND)
    changes = [np.abs(a - b).mean() for a, b in zip(levels[inner], levels[inner][1:], strict=False)]
    assert max(changes) < 2
    assert (np.diff(gains) > 0).all()
    assert gains[-1] / gains[0] > 50


def test_a_mean_leaves_out_frames_that_have_nothing() -> None:
    found = steady([np.array([[0.0, 2.0]]), np.array([[np.nan, np.nan]]), np.array([[2.0, 4.0]])])
    assert found.tolist() == [[1.0, 3.0]]
    assert np.isnan(steady([np.full((1, 2), np.nan)])).all()
