"""Principal components as colours: one basis for the run, and the same colours for all of it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from replay.maps.components import find_components


def frames_of(channels: int, height: int = 9, width: int = 11):
    """Frames of a few strong directions: a sum of patterns, moved a little from frame to frame."""
    make = np.random.default_rng(7)
    directions = np.linalg.qr(make.standard_normal((channels, min(3, channels))))[0]
    strengths = np.array([9.0, 4.0, 1.5])[: min(3, channels)]

    def read(cell: tuple[int, int]) -> np.ndarray:
        noise = np.random.default_rng(cell)
        places = noise.standard_normal((directions.shape[1], height * width))
        values = directions @ (strengths[:, None] * places) + 0.05 * noise.standard_normal(
            (channels, height * width)
        )
        return (values + 3).reshape(channels, height, width).astype(np.float16)

    return read, directions, strengths


CELLS = [(e, b) for e in range(3) for b in range(5)]


def test_the_basis_is_that_of_an_independent_decomposition() -> None:
    read, *_ = frames_of(20)
    found = find_components(read, CELLS)
    values = np.concatenate([read(c).reshape(20, -1).astype(float) for c in CELLS], axis=1)
    left, sizes, _ = np.linalg.svd(values - values.mean(axis=1, keepdims=True))
    for mine, theirs in zip(found.basis, left.T[:3], strict=True):
        assert abs(mine @ theirs) > 0.9999
    shares = sizes**2 / (sizes**2).sum()
    assert np.allclose(found.shares, shares[:3], atol=0.01)
    assert np.allclose(found.basis @ found.basis.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(9, 11), (64, 64), (128, 128)])
def test_positions_from_all_over_a_map_are_looked_at(height: int, width: int) -> None:
    """Not from a few of its columns, as where a step divides the width."""

    def read(cell: tuple[int, int]) -> np.ndarray:
        row, column = np.mgrid[:height, :width].astype(np.float32)
        return np.stack([row, column])

    found = find_components(read, [(0, 0)])
    reach = found.high - found.low
    assert reach.min() > 0.8 * (min(height, width) - 1)


def test_signs_hold_whichever_way_the_decomposition_turns() -> None:
    read, *_ = frames_of(12)
    found = find_components(read, CELLS)
    turned = find_components(lambda cell: read(cell).astype(np.float64) * (1 + 1e-7), CELLS)
    assert np.allclose(found.basis, turned.basis, atol=1e-3)
    assert (np.power(found.basis.astype(float), 3).sum(axis=1) > 0).all()


def test_a_basis_is_the_same_whatever_is_shown_and_however_often() -> None:
    read, *_ = frames_of(12)
    first, second = find_components(read, CELLS), find_components(read, CELLS)
    assert np.array_equal(first.colours(read((2, 1))), second.colours(read((2, 1))))
    assert first.shares == second.shares


def test_equal_values_have_equal_colours_in_every_frame() -> None:
    read, *_ = frames_of(8)
    found = find_components(read, CELLS)
    one, other = read((0, 0)), read((2, 4))
    other[:, 3, 3] = one[:, 0, 0]
    assert np.array_equal(found.colours(one)[0, 0], found.colours(other)[3, 3])


def test_the_colours_use_the_whole_range_and_are_cut_beyond() -> None:
    read, *_ = frames_of(8)
    found = find_components(read, CELLS)
    colours = np.stack([found.colours(read(cell)) for cell in CELLS])
    for place in range(3):
        shown = colours[..., place]
        assert shown.min() == 0
        assert shown.max() == 255
        assert 90 < shown.mean() < 165


@pytest.mark.parametrize("channels", [1, 2])
def test_fewer_than_three_channels(channels: int) -> None:
    read, *_ = frames_of(channels)
    found = find_components(read, CELLS)
    colours = found.colours(read((1, 1)))
    assert len(found.shares) == channels
    assert sum(found.shares) == pytest.approx(1)
    if channels == 1:
        assert (colours == colours[..., :1]).all()
        assert found.in_words.startswith("brightness")
    else:
        assert (colours[..., 2] == 128).all()
        assert "blue" not in found.in_words
    assert colours[..., 0].std() > 20


def test_a_frame_far_beyond_all_others_does_not_take_the_colours_of_these() -> None:
    read, *_ = frames_of(8)
    found = find_components(lambda c: read(c) * (100 if c == (1, 1) else 1), CELLS)
    colours = found.colours(read((2, 3)))
    assert colours.std(axis=(0, 1)).max() > 40


def test_what_grows_in_all_places_alike_takes_no_colour() -> None:
    read, *_ = frames_of(8)
    plain = find_components(read, CELLS)
    grown = find_components(lambda c: read(c) + np.float16(4 * c[0]), CELLS)
    assert np.allclose(np.abs(np.diag(plain.basis @ grown.basis.T)), 1, atol=1e-3)


def test_nan_has_a_colour_of_its_own_and_is_not_in_the_basis() -> None:
    read, *_ = frames_of(6)

    def spoiled(cell: tuple[int, int]) -> np.ndarray:
        maps = read(cell)
        if cell[0] == 1:
            maps[...] = np.nan
        maps[2, 0, 0] = np.inf
        return maps

    found = find_components(spoiled, CELLS)
    colours = found.colours(spoiled((0, 1)), (1, 2, 3))
    assert np.isfinite(found.basis).all()
    assert colours[0, 0].tolist() == [1, 2, 3]
    assert (colours[1:] != (1, 2, 3)).any(axis=-1).all()
    assert (found.colours(spoiled((1, 0)), (1, 2, 3)) == (1, 2, 3)).all()


def test_nothing_finite_in_the_whole_run() -> None:
    found = find_components(lambda cell: np.full((4, 3, 3), np.nan, np.float16), CELLS)
    assert (found.colours(np.full((4, 3, 3), np.nan), (9, 9, 9)) == 9).all()
    assert found.in_words == "no finite value"


def test_what_is_constant_is_gray_not_magnified_rounding() -> None:
    constant = np.full((5, 4, 4), 1234.5, np.float16)
    found = find_components(lambda cell: constant, CELLS)
    assert (found.colours(constant) == 128).all()
    flat = np.zeros((5, 4, 4), np.float32)
    flat[0] = np.arange(16).reshape(4, 4)  # one direction, and nothing beside it
    found = find_components(lambda cell: flat, CELLS)
    colours = found.colours(flat)
    assert colours[..., 0].max() == 255
    assert (colours[..., 1:] == 128).all()


def test_few_frames_are_read_of_many() -> None:
    read, *_ = frames_of(4)
    asked: list[tuple[int, int]] = []

    def counted(cell: tuple[int, int]) -> np.ndarray:
        asked.append(cell)
        return read(cell)

    find_components(counted, [(e, b) for e in range(50) for b in range(100)])
    assert len(set(asked)) == 24
    assert {(0, 0), (49, 99)} < set(asked)


def test_the_shares_are_said() -> None:
    read, *_ = frames_of(20)
    found = find_components(read, CELLS)
    assert found.in_words.startswith("red 8")
    assert found.in_words.endswith(" %")


@pytest.mark.parametrize(("channels", "height", "width"), [(513, 9, 11), (700, 3, 3), (2048, 7, 7)])
def test_thousands_of_channels_have_the_axes_of_an_independent_decomposition(
    channels: int, height: int, width: int
) -> None:
    read, *_ = frames_of(channels, height, width)
    began = time.process_time()
    found = find_components(read, CELLS)
    assert time.process_time() - began < 10
    frames = [read(cell).reshape(channels, -1).astype(float) for cell in CELLS]
    moved = [each - each.mean(axis=1, keepdims=True) for each in frames]
    values = np.concatenate([each / np.linalg.norm(each) for each in moved], axis=1)
    sizes, right = np.linalg.eigh(values.T @ values)
    for place in range(3):
        theirs = values @ right[:, -1 - place]
        theirs /= np.linalg.norm(theirs)
        assert abs(found.basis[place] @ theirs) > 0.9999
        assert found.shares[place] == pytest.approx(sizes[-1 - place] / sizes.sum(), abs=1e-4)
    assert np.allclose(found.basis @ found.basis.T, np.eye(3), atol=1e-5)
    assert (np.power(found.basis.astype(float), 3).sum(axis=1) > 0).all()
    again = find_components(read, CELLS)
    assert np.array_equal(found.basis, again.basis)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_thousands_of_channels_with_one_direction_or_none(value: float) -> None:
    def read(cell: tuple[int, int]) -> np.ndarray:
        made = np.full((600, 4, 4), 2.0, np.float16)
        made[5] += value * np.arange(16).reshape(4, 4).astype(np.float16)
        return made

    found = find_components(read, CELLS)
    assert np.isfinite(found.basis).all()
    assert found.shares == pytest.approx((value, 0, 0), abs=1e-6)
    assert (found.colours(read((0, 0)))[..., 1:] == 128).all()
    if value:
        assert abs(found.basis[0][5]) == pytest.approx(1)
    else:
        assert found.in_words == "constant"


def test_a_spectrum_without_a_gap_is_decomposed_as_a_whole() -> None:
    def read(cell: tuple[int, int]) -> np.ndarray:
        return np.random.default_rng(cell).standard_normal((520, 24, 24))

    found = find_components(read, CELLS)
    assert np.allclose(found.basis @ found.basis.T, np.eye(3), atol=1e-5)
    assert found.shares[0] >= found.shares[1] >= found.shares[2] > 0
