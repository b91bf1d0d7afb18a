from __future__ import annotations

import numpy as np
import pytest

from replay.maps.axes import shrink_maps
from replay.raster.arrangement import Space, arrange
from replay.raster.mosaic import Mosaic, paint
from replay.raster.palette import reduce, widen
from replay.schema import OptionError

ROOM = Space(1072, 860, beside=328, above=120, least=560)


SHAPES = """1x2x2 3x224x224 12x128x128 64x56x56 64x224x224 512x2x2 512x14x14 2048x7x7
24x1x300 2048x224x224 7x50x200"""


@pytest.mark.parametrize("shape", SHAPES.split())
def test_every_size_finds_a_legible_arrangement(shape: str) -> None:
    count, height, width = (int(size) for size in shape.split("x"))
    mosaic = arrange(count, height, width, ROOM)
    assert mosaic.width <= ROOM.width
    assert mosaic.height <= 1.3 * ROOM.height
    assert mosaic.empty < mosaic.columns
    assert mosaic.zoom == 1 or mosaic.shrink == 1
    assert 950 <= mosaic.width + ROOM.beside <= 1400
    corners = [mosaic.corner(place) for place in range(count)]
    tile_height, tile_width = mosaic.tile
    assert max(y for y, _ in corners) + tile_height <= mosaic.height
    assert max(x for _, x in corners) + tile_width <= mosaic.width


def test_the_maps_of_the_post_stand_in_three_rows_of_four_at_zoom_2() -> None:
    mosaic = arrange(12, 128, 128, ROOM)
    assert (mosaic.columns, mosaic.rows, mosaic.zoom, mosaic.shrink) == (4, 3, 2, 1)
    assert list(mosaic.numbered()) == list(range(12))


@pytest.mark.parametrize(("count", "side", "columns"), [(12, 128, 4), (64, 56, 8), (6, 128, 3)])
def test_a_mosaic_fills_the_height_of_what_stands_beside_it(
    count: int, side: int, columns: int
) -> None:
    room = Space(1100, 620, beside=328, above=120, least=576)
    assert arrange(count, side, side, room, zoom=1).columns == columns


def test_small_tiles_are_numbered_by_row() -> None:
    mosaic = arrange(512, 2, 2, ROOM)
    assert mosaic.numbers == "row"
    assert list(mosaic.numbered()) == list(range(0, 512, mosaic.columns))
    dense = arrange(2048, 7, 7, Space(1072, 200))
    rows = [dense.corner(place)[0] for place in dense.numbered()]
    assert min(np.diff(rows)) >= 15


def test_zoom_and_columns_are_obeyed_and_checked() -> None:
    mosaic = arrange(12, 8, 8, ROOM, zoom=3, columns=5)
    assert (mosaic.zoom, mosaic.columns, mosaic.rows) == (3, 5, 3)
    assert arrange(64, 224, 224, ROOM, zoom=1).shrink == 1
    with pytest.raises(OptionError, match="zoom 0"):
        arrange(12, 8, 8, ROOM, zoom=0)
    with pytest.raises(OptionError, match="columns -1"):
        arrange(12, 8, 8, ROOM, columns=-1)


def test_maps_that_are_too_large_are_averaged_and_it_is_said() -> None:
    mosaic = arrange(64, 224, 224, ROOM)
    assert mosaic.shrink == 2
    assert mosaic.in_words() == "shown at 1/2"
    assert arrange(12, 128, 128, ROOM).in_words() == ""


def test_shrinking_averages_whole_blocks_and_keeps_what_is_not_finite() -> None:
    maps = np.arange(35, dtype=np.float16).reshape(1, 5, 7)
    maps[0, 4, 0] = np.nan
    maps[0, 0, 6] = np.inf
    small = shrink_maps(maps, 2)
    assert small.shape == (1, 3, 4)
    assert small.dtype == np.float16
    assert small[0, 0, 0] == np.mean([0, 1, 7, 8])
    assert small[0, 2, 1] == np.mean([30, 31])
    assert np.isnan(small[0, 2, 0])
    assert np.isinf(small[0, 0, 3])
    assert shrink_maps(maps, 1) is maps


@pytest.mark.parametrize("zoom", [1, 2, 5])
def test_a_pixel_becomes_a_block_and_nothing_else_is_touched(zoom: int) -> None:
    levels = np.random.default_rng(0).integers(0, 200, (5, 3, 4), dtype=np.uint8)
    mosaic = Mosaic(5, 2, 3, 4, zoom)
    canvas = np.full((mosaic.height + 9, mosaic.width + 7), 255, np.uint8)
    paint(canvas, 6, 4, levels, mosaic)
    expected = np.full_like(canvas, 255)
    for place, tile in enumerate(levels):
        y, x = mosaic.corner(place)
        block = np.kron(tile, np.ones((zoom, zoom), np.uint8))
        expected[6 + y : 6 + y + 3 * zoom, 4 + x : 4 + x + 4 * zoom] = block
    np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize("by", [1, 2, 3, 4, 8])
def test_pixels_are_widened_in_any_order_of_memory(by: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for laid_out in (pixels, np.asfortranarray(pixels), pixels.transpose(1, 2, 0)[::-1]):
        assert (widen(laid_out, by) == np.repeat(laid_out, by, axis=-1)).all()


@pytest.mark.parametrize("count", [1, 8, 40])
@pytest.mark.parametrize("shape", [(4, 2000), (2000, 4), (1, 2000), (2000, 1), (16, 2000)])
def test_long_maps_are_drawn_out_like_signals(count: int, shape: tuple[int, int]) -> None:
    space = Space(1072, 860)
    mosaic = arrange(count, *shape, space)
    assert mosaic.width <= space.width
    assert mosaic.height <= space.stretch * space.height
    short = shape.index(min(shape))
    assert mosaic.tile[short] >= (8 if min(shape) == 1 else 32)
    assert mosaic.blocks[short] == 1  # no row of a map is mixed with another
    levels = np.arange(count * min(shape)).reshape(count, -1, 1).astype(np.uint8)
    levels = levels.repeat(-(-max(shape) // mosaic.shrink) * mosaic.zoom, 2)
    levels = levels[..., :: mosaic.zoom]
    if short == 1:
        levels = np.ascontiguousarray(levels.transpose(0, 2, 1))
    canvas = np.full((mosaic.height, mosaic.width), 255, np.uint8)
    paint(canvas, 0, 0, levels, mosaic)
    each = mosaic.tile[short] // min(shape)
    for place in {0, count - 1}:
        y, x = mosaic.corner(place)
        tile = canvas[y : y + mosaic.tile[0], x : x + mosaic.tile[1]]
        across = tile[:, 0] if short == 0 else tile[0]
        values = levels[place][:, 0] if short == 0 else levels[place][0]
        np.testing.assert_array_equal(across, values.repeat(each))
        assert (tile == tile[:, :1] if short == 0 else tile == tile[:1]).all()


def test_captions_say_how_long_maps_are_drawn() -> None:
    mosaic = arrange(8, 4, 2000, Space(1072, 860))
    assert mosaic.in_words() == "rows 12 pixels high, shown at 1/2 of their length"
    mosaic = arrange(4, 300, 4, Space(1072, 860))
    assert mosaic.in_words().startswith("columns 12 pixels wide")
    assert arrange(8, 64, 64, Space(1072, 860)).in_words() == ""


def test_blocks_of_other_shapes_are_averaged() -> None:
    maps = np.arange(24, dtype=np.float16).reshape(1, 4, 6)
    np.testing.assert_array_equal(shrink_maps(maps, (1, 3)), maps.reshape(1, 4, 2, 3).mean(3))
    np.testing.assert_array_equal(shrink_maps(maps, (2, 1)), maps.reshape(1, 2, 2, 6).mean(2))


def test_a_picture_narrower_than_a_block_keeps_a_pixel() -> None:
    thin = np.arange(10, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    assert reduce(thin, 5).tolist() == [[[2] * 3, [7] * 3]]
    assert reduce(thin.transpose(1, 0, 2), 5).shape == (2, 1, 3)
