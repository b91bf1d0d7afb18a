"""Planes of whole numbers to bytes and back."""

import numpy as np
import pytest

from replay.webpage.plane_codec import HIGHEST, REACH, decode_planes, encode_planes, planes_before
from replay.webpage.wavelet import analyse, synthesise

SHAPES = [(1, 1, 1), (3, 1, 9), (2, 9, 1), (5, 31, 17), (4, 64, 64), (4, 5, 200), (3, 5, 5)]


def planes(shape: tuple[int, int, int]) -> np.ndarray:
    """Planes that are alike but for a factor and noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[: shape[1], : shape[2]]
    wave = np.sin(x / 7 + y / 9) * 200 + 400
    made = wave * random.random((shape[0], 1, 1)) * 5 + random.integers(0, 30, shape)
    return made.clip(0, 4000).astype(np.int32)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_transform_loses_nothing(shape: tuple[int, int, int]) -> None:
    made = planes(shape)
    assert (synthesise(*analyse(made)) == made).all()


@pytest.mark.parametrize("step", [1, 3.0, 24.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_decoded_is_what_the_encoder_said(shape: tuple[int, int, int], step: float) -> None:
    made = planes(shape)
    highest = made.max(axis=(1, 2)).astype(np.int32)
    nearby = (made + np.random.default_rng(1).integers(-3, 4, shape)).astype(np.int32)
    for expected in (None, nearby):
        data, said = encode_planes(made, step, highest, expected)
        back, used = decode_planes(data + b"more", shape, step, highest, expected)
        assert (back == said).all()
        assert used == len(data)
        assert np.abs(said - made).max() <= (0 if step == 1 else 3 * step)
        assert (said.max(axis=(1, 2)) <= highest).all()


def test_planes_that_are_alike_are_told_from_each_other() -> None:
    made = planes((6, 64, 64))
    made[1:] = made[0] // 2 + np.arange(5)[:, None, None]
    assert planes_before(made.shape) == 5
    highest = made.max(axis=(1, 2)).astype(np.int32)
    data, said = encode_planes(made, 1, highest)
    assert (said == made).all()
    alone, _ = encode_planes(made[:1], 1, highest[:1])
    pairs = len(data) - 4 * 21 - 6 * 64 * 32  # what does not fit into half a byte
    assert pairs < 2 * (len(alone) - 4 - 64 * 32)


def test_numbers_of_any_size_are_kept() -> None:
    made = np.zeros((1, 9, 9), np.int32)
    made[0, 4, 4], made[0, 0, 0] = HIGHEST, 700
    expected, highest = np.full_like(made, -REACH), np.array([HIGHEST], np.int32)
    data, said = encode_planes(made, 1, highest, expected)
    assert (said == made).all()
    assert (decode_planes(data, made.shape, 1, highest, expected)[0] == made).all()
