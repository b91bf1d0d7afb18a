"""A map over a picture: colours that mean its values, over a picture without any of its own."""

from __future__ import annotations

import time

import numpy as np
import pytest

from replay.raster.overlay import OverlayColours, enlarge_map, to_gray
from replay.raster.palette import Range
from replay.raster.vision import least_difference
from replay.schema import OptionError


def test_bilinear_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).random((2, 5, 7), dtype=np.float32)
    mode = {"mode": "bilinear", "align_corners": False}
    expected = torch.nn.functional.interpolate(torch.tensor(values)[None], size=(33, 40), **mode)
    assert np.allclose(enlarge_map(values, (33, 40)), expected[0].numpy(), atol=1e-6)


def test_what_becomes_smaller_is_the_mean_over_what_a_pixel_covers() -> None:
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert np.allclose(enlarge_map(values, (2, 2)), [[2.5, 4.5], [10.5, 12.5]])


def test_nearest_makes_blocks_of_equal_pixels() -> None:
    values = np.array([[0, 1], [2, 3]], np.float32)
    shown = enlarge_map(values, (6, 4), "nearest")
    assert np.array_equal(shown, values.repeat(3, 0).repeat(2, 1))


def test_where_nothing_is_the_picture_shows_in_gray() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    gray = to_gray(picture)
    shown = OverlayColours().lay(np.zeros((2, 2)), gray, Range(0, 1))
    assert np.array_equal(shown, np.repeat(gray[..., None], 3, axis=2))


def test_the_gray_is_the_brightness() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    assert np.abs(picture @ np.array([0.2126, 0.7152, 0.0722]) - to_gray(picture)).max() < 1.5
    assert to_gray(np.full((1, 1, 3), 255, np.uint8))[0, 0] == 255


def test_the_colour_bar_is_what_lies_over_a_middle_gray() -> None:
    colours = OverlayColours()
    line = np.linspace(0, 3, 50, dtype=np.float32)[None]
    shown = colours.lay(line, np.full((1, 50), 128, np.uint8), Range(0, 3))[0]
    assert np.array_equal(shown, colours.bar(50))


def test_values_beyond_the_range_are_cut() -> None:
    gray = np.full((1, 3), 90, np.uint8)
    shown = OverlayColours().lay(np.array([[-5, 1, 50]]), gray, Range(0, 1))[0]
    assert shown[0].tolist() == [90, 90, 90]
    assert np.array_equal(shown[1], shown[2])


def test_no_range_at_all_is_no_strength() -> None:
    gray = np.full((2, 2), 90, np.uint8)
    assert (OverlayColours().lay(np.zeros((2, 2)), gray, Range(0, 0)) == 90).all()


def test_signed_values_lie_at_both_sides_of_zero() -> None:
    gray = np.full((1, 3), 100, np.uint8)
    low, zero, high = (
        OverlayColours("RdBu_r", signed=True)
        .lay(np.array([[-2, 0, 2]]), gray, Range(-2, 2))[0]
        .astype(int)
    )
    assert zero.tolist() == [100, 100, 100]
    assert low[2] > low[0] + 40
    assert high[0] > high[2] + 40


def test_nan_and_infinity_are_blocks_of_their_own_and_spoil_nothing_else() -> None:
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0], values[3, 3] = np.nan, np.inf
    gray = np.full((16, 16), 128, np.uint8)
    colours = OverlayColours()
    shown = colours.lay(values, gray, Range(0, 1))
    kinds, counts = np.unique(shown.reshape(-1, 3), axis=0, return_counts=True)
    assert (shown[:4, :4] == shown[0, 0]).all()
    assert (shown[12:, 12:] == shown[15, 15]).all()
    assert not np.array_equal(shown[0, 0], shown[15, 15])
    half = colours.lay(np.full((4, 4), 0.5), gray, Range(0, 1))[0, 0]
    assert np.array_equal(shown[4, 12], half)
    assert counts.sum() == 256
    assert len(kinds) > 3


def test_several_maps_at_once_are_each_alone() -> None:
    values = np.random.default_rng(3).random((3, 2, 4, 4), dtype=np.float32)
    gray = to_gray(np.random.default_rng(4).integers(0, 256, (20, 24, 3)).astype(np.uint8))
    colours = OverlayColours("viridis")
    together = colours.lay(values, gray, Range(0, 1))
    assert together.shape == (3, 2, 20, 24, 3)
    assert np.array_equal(together[2, 1], colours.lay(values[2, 1], gray, Range(0, 1)))


def test_a_colour_tells_its_value_apart_from_every_gray() -> None:
    """Whatever the picture is, what is strong is nobody's gray, to anyone's eyes."""
    gray = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    strong = OverlayColours().bar(256)[128:]
    assert least_difference(strong, gray).min() > 10


def test_the_usual_colours_grow_brighter_with_the_value() -> None:
    brightness = to_gray(OverlayColours().bar(64)[None])[0].astype(int)[32:]
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] > brightness[0] + 60


def test_an_unknown_colormap_is_said() -> None:
    with pytest.raises(OptionError, match="unknown colormap 'plasm'"):
        OverlayColours("plasm")


def test_a_frame_of_twelve_takes_little_time() -> None:
    values = np.random.default_rng(5).random((12, 14, 14), dtype=np.float32)
    gray = np.zeros((224, 224), np.uint8)
    colours, shown = OverlayColours(), Range(0, 1)
    times = []
    for _ in range(7):
        started = time.perf_counter()
        colours.lay(values, gray, shown)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05  # 6 ms where nothing else runs


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("cmap", [None, "viridis", "RdBu_r", "coolwarm"])
def test_nan_and_infinity_are_no_colour_of_a_value_over_any_gray(
    cmap: str | None, signed: bool
) -> None:
    colours = OverlayColours(cmap, signed)
    shown = Range(-1 if signed else 0, 1)
    values, gray = np.linspace(shown.low, 1, 64), np.arange(0, 256, 5, dtype=np.uint8)
    seen = [colours.lay(np.full((1, gray.size), value), gray[None], shown) for value in values]
    odd = colours.lay(np.array([[np.nan, np.inf]]), np.zeros((1, 2), np.uint8), shown)[0]
    assert least_difference(odd, np.concatenate(seen).reshape(-1, 3)).min() > 9
    assert least_difference(odd[:1], odd[1:]).min() > 10
    assert np.array_equal(colours.table(254)[-2:], odd)
