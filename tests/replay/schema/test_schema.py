import numpy as np
import pytest

from replay import schema


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("layer1.0.conv1", "layer1.0.conv1"),
        ("conv#1", "conv#1"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("%2F", "%252F"),
        ("a\nb", "a%0Ab"),
        (".", "%2E"),
        ("..", "%2E2E"),
        ("", "%"),
        ("convé", "convé"),
    ],
)
def test_names_survive_the_file(name: str, link: str) -> None:
    assert schema.encode_name(name) == link
    assert schema.decode_name(link) == name


def test_a_layer_survives_encoding() -> None:
    layer = schema.Layer("conv1", "Conv2d(3, 12)", (12, 8, 8), (12, 3, 3, 3))
    assert schema.Layer.decode(layer.encode()) == layer
    assert layer.nbytes == 2 * (12 * 64 + 12 * 27)
    noted = schema.Layer("fft", "Fft()", (12, 8, 8), note="magnitude of complex values")
    assert schema.Layer.decode(noted.encode()) == noted
    before = {name: value for name, value in layer.encode().items() if name != "note"}
    assert schema.Layer.decode(before).note == ""


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_meta_that_is_no_object_is_empty(text: str) -> None:
    assert schema.decode_meta(text) == {}


def test_summary_of_finite_values_is_that_of_numpy() -> None:
    frame = np.random.default_rng(0).standard_normal((5, 7, 9)).astype(np.float16)
    frame[2] = -0.0
    found = schema.summarize(frame)
    flat = frame.reshape(5, -1).astype(np.float32)
    np.testing.assert_array_equal(found.ranges, np.stack([flat.min(1), flat.max(1)], 1))
    assert (found.nan, found.inf) == (0, 0)


def test_summary_counts_what_is_not_finite() -> None:
    frame = np.ones((3, 2, 2), np.float16)
    frame[0, 0] = np.nan, -np.inf
    frame[1] = np.nan
    frame[2, 0, 0] = np.inf
    found = schema.summarize(frame)
    np.testing.assert_array_equal(found.ranges, [[1, 1], [np.nan, np.nan], [1, 1]])
    assert (found.nan, found.inf) == (5, 2)


@pytest.mark.parametrize(
    ("numbers", "words"), [([], "none"), ([3], "3"), ([0, 1, 2, 8, 10, 11], "0-2, 8, 10-11")]
)
def test_numbers_in_words(numbers: list[int], words: str) -> None:
    assert schema.format_intervals(numbers) == words
