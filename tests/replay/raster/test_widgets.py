"""What stands beside the maps."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from replay.raster.loss_curve import thinned


def curve(count: int, width: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 4, count)
    return np.stack([np.linspace(0, width, count), 50 + 30 * np.cos(np.arange(count)) + noise], 1)


@pytest.mark.parametrize("count", [1_000, 30_000])
def test_a_thinned_line_looks_the_same(count: int) -> None:
    points = curve(count, 200)
    few = thinned(points)
    assert len(few) <= 4 * 201
    assert len(few) < len(points)
    assert (np.diff(few[:, 0]) >= 0).all()
    drawn = []
    for line in (points, few):
        image = Image.new("L", (201, 100))
        ImageDraw.Draw(image).line([tuple(at) for at in line.tolist()], fill=255, width=3)
        drawn.append(np.array(image))
    assert np.count_nonzero(drawn[0] != drawn[1]) <= 0.002 * drawn[0].size


def test_what_each_column_shows_is_kept() -> None:
    points = curve(5_000, 100)
    few = thinned(points)
    for column in range(100):
        all_of_it = points[np.floor(points[:, 0]) == column]
        kept = few[np.floor(few[:, 0]) == column]
        np.testing.assert_array_equal(kept[[0, -1]], all_of_it[[0, -1]])
        assert (kept[:, 1].min(), kept[:, 1].max()) == (
            all_of_it[:, 1].min(),
            all_of_it[:, 1].max(),
        )


def test_a_line_of_few_points_stays() -> None:
    points = curve(400, 200)
    assert thinned(points) is points
