"""Maps that are told from the input picture."""

from fractions import Fraction
from operator import mul
from pathlib import Path

import h5py
import numpy as np
from pages import frame_of, is_told, read
from samples import convolve, drifting_maps, smooth_image, write_recording

import replay
from replay.webpage.document import page
from replay.webpage.picture_filters import (
    Picture,
    apply_filters,
    filters_possible,
    fit_filters,
    nearest_beyond,
    sums_are_exact,
)

MEAN, STD = 0.485, 0.229
SIDE = 48


def kernels(epoch: int, batch: int, channels: int = 3) -> np.ndarray:
    first, last = (np.random.default_rng(seed).normal(size=(6, channels, 3, 3)) for seed in (1, 2))
    done = (10 * epoch + batch) / 40
    return (1 - done) * first + done * last


def image(epoch: int, batch: int, channels: int = 3) -> np.ndarray:
    return smooth_image(10 * epoch + batch, channels, SIDE, MEAN, STD)


def first_layer(epoch: int, batch: int) -> np.ndarray:
    return convolve(image(epoch, batch), kernels(epoch, batch)) + np.float16(0.5)


def recorded(path: Path, maps=first_layer, **more) -> Path:
    held = smooth_image(99, 3, SIDE, MEAN, STD)
    write_recording(
        path,
        {"conv1": maps, "conv2": drifting_maps(8, 12, 12)},
        epochs=4,
        batches=10,
        **{
            "images": image,
            "probes": [(held, {"conv1": lambda e, b: convolve(held, kernels(e, b))})],
            **more,
        },
    )
    with h5py.File(path, "r+") as file:
        for name in ("inputs", *(f"probe/{number}/input" for number in file.get("probe", ()))):
            file[name].attrs["mean"] = np.full(3, MEAN, "f4")
            file[name].attrs["std"] = np.full(3, STD, "f4")
    return path


def test_a_convolution_of_the_picture_is_told_to_the_level() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (3, 20, 31)).astype(np.int32)
    picture = Picture(planes, tuple(map(nearest_beyond, (123.675, 116.28, 103.53))))
    each = np.array(picture.beyond)[:, None, None]
    levels = convolve((planes - each) / 255, kernels(0, 0)).astype(float) * 40 + 300
    filters = fit_filters(levels, picture)
    assert (filters.dtype, filters.shape) == (np.float32, (6, 28))
    assert np.abs(apply_filters(filters, picture) - levels).max() < 1


def test_a_picture_of_one_colour_has_filters_too() -> None:
    picture = Picture(np.full((3, 16, 16), 90, np.int32), (0.0, 0.0, 0.0))
    filters = fit_filters(np.full((2, 16, 16), 41.0), picture)
    assert np.isfinite(filters).all()
    assert (apply_filters(filters, picture) == 41).all()


def test_what_a_browser_would_take_long_for_is_not_told() -> None:
    def picture(side: int, beyond: float = 0.0) -> Picture:
        return Picture(np.zeros((3, side, side), np.int32), (nearest_beyond(beyond),) * 3)

    assert filters_possible((12, 128, 128), picture(128))
    assert not filters_possible((12, 64, 64), picture(128))
    assert not filters_possible((64, 224, 224), picture(224))
    assert not filters_possible((12, 128, 128), picture(128, 1e6))  # sums would not be exact


def test_what_is_told_does_not_depend_on_the_order_of_adding_up() -> None:
    """A browser adds up one product after the other, a matrix product in blocks."""
    random = np.random.default_rng(0)
    planes = random.integers(0, 256, (3, 9, 14)).astype(np.int32)
    picture = Picture(planes, tuple(map(nearest_beyond, (-511.3, 116.28, 511.9))))
    filters = random.uniform(-511, 511, (5, 28)).round(4).astype(np.float32)
    filters[:, -1] *= 4000
    filters = (np.rint(filters * 2.0**21) / 2.0**21).astype(np.float32)
    assert sums_are_exact(filters)
    assert not sums_are_exact(filters * 2)
    sums = filters.astype(float) @ picture.columns
    columns = [list(map(Fraction, column)) for column in picture.columns.T.tolist()]
    exact = [
        [sum(map(mul, map(Fraction, row), column)) for column in columns]
        for row in filters.astype(float).tolist()
    ]
    assert [[Fraction(each) for each in row] for row in sums.tolist()] == exact


def test_a_page_that_loses_detail_tells_a_first_convolution_from_its_picture(
    tmp_path: Path,
) -> None:
    path = recorded(tmp_path / "run.h5")
    whole = page(path, tmp_path / "whole.html", max_mb=20)
    _, reader = read(whole.path)
    assert not is_told(reader.blocks, 0, 0)  # nothing has to be lost
    small = page(path, tmp_path / "small.html", max_mb=whole.bytes / 1e6 * 0.62)
    assert small.frames == 40
    manifest, reader = read(small.path)
    assert [is_told(reader.blocks, 0, place, 0) for place in range(40)] == [True] * 40
    assert [is_told(reader.blocks, 0, place, 1) for place in range(40)] == [True] * 40
    assert not is_told(reader.blocks, 1, 0)
    assert manifest["sources"][0]["layers"][0]["beyond"] == [round(MEAN * 255 * 256) / 256] * 3
    with replay.open(path) as run:
        for source, recording in enumerate((run, run.probe(0))):
            for place in (0, 11, 39):
                block = frame_of(manifest, reader.blocks, 0, place, source)
                maps = recording["conv1"][divmod(place, 10)].astype(float)
                off = np.abs(block.values - maps) / block.stored.step[:, None, None]
                assert off.max() <= 1.51


def changed(epoch: int, batch: int) -> np.ndarray:
    return np.maximum(first_layer(epoch, batch), 0)  # behind a ReLU: not linear


def odd(epoch: int, batch: int) -> np.ndarray:
    maps = first_layer(epoch, batch)
    maps[0, 3, 4] = np.nan if batch % 2 else 1.0
    return maps


def test_maps_that_are_not_linear_in_the_picture_are_stored(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.h5", changed, probes=[])
    whole = page(path, tmp_path / "whole.html", max_mb=20).bytes
    small = page(path, tmp_path / "small.html", max_mb=whole / 1e6 * 0.6)
    manifest, reader = read(small.path)
    assert not any(is_told(reader.blocks, 0, place) for place in range(small.frames))
    assert "beyond" not in manifest["sources"][0]["layers"][0]


def test_a_frame_that_is_not_told_is_stored_among_others_that_are(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.h5", odd, probes=[])
    whole = page(path, tmp_path / "whole.html", max_mb=20).bytes
    small = page(path, tmp_path / "small.html", max_mb=whole / 1e6 * 0.7)
    manifest, reader = read(small.path)
    told = [is_told(reader.blocks, 0, place) for place in range(small.frames)]
    if any(told):
        assert not all(told)
    with replay.open(path) as run:
        for place in (0, 1):
            cell = divmod(place, 10)
            block = frame_of(manifest, reader.blocks, 0, place)
            off = (block.values - run["conv1"][cell]) / np.diff(block.bounds)[..., None] * 253
            assert np.sqrt(np.nanmean(off**2)) < 8
            assert (block.odd is not None) == bool(np.isnan(run["conv1"][cell]).any())
