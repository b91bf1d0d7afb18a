from __future__ import annotations

import re
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_names import resnet_names

from replay.raster.names import in_lines, lines_at, tell_apart, tell_apart_at
from replay.raster.text import width_of

DENSE = [
    f"features.denseblock{block}.denselayer{layer}.conv{place}"
    for block in range(1, 4)
    for layer in range(1, 6)
    for place in (1, 2)
]


def matches(text: str, name: str) -> bool:
    """Whether a name can be what a text stands for, an ellipsis for anything."""
    return bool(re.fullmatch(".*".join(map(re.escape, text.split("…"))), name))


@pytest.mark.parametrize("width", [12, 18, 24, 30, 40, 60])
@pytest.mark.parametrize("names", [resnet_names()[1:17], resnet_names(), DENSE])
def test_each_short_name_is_that_of_one_layer_only(names: list[str], width: int) -> None:
    texts = tell_apart(names, width)
    assert len(set(texts)) == len(names)
    for name, text in zip(names, texts, strict=True):
        assert len(text) <= width
        if width >= 18:
            assert [each for each in names if matches(text, each)] == [name]


def test_common_parts_go_and_the_middle_that_differs_stays() -> None:
    names = resnet_names()
    texts = tell_apart(names, 30)
    assert texts[names.index("resnet.encoder.stages.2.layers.0.layer.1.convolution")] == (
        "…stages.2.layers.0.layer.1…"
    )
    assert texts[0] == "…embedder.embedder.convolution"
    assert tell_apart(DENSE, 20)[0] == "…1.denselayer1.conv1"
    assert tell_apart(["a.conv1", "b.conv1"], 7) == ["a.conv1", "b.conv1"]
    assert tell_apart(["one.long.name.conv1"] * 2, 12) == ["…name.conv1"] * 2


def test_letters_differ_where_words_are_too_long_and_numbers_where_letters_are() -> None:
    assert tell_apart(["x" * 50 + "1" + "y" * 50, "x" * 50 + "2" + "y" * 50], 3) == ["…1…", "…2…"]
    texts = tell_apart(["x" * length for length in range(1, 60)], 6)
    assert len(set(texts)) == 59
    assert all(len(text) <= 6 for text in texts)
    assert texts[-1].startswith("59 …")


PARTS = st.lists(st.sampled_from(["layer", "conv", "0", "1", "12", "a_b", "ConvBN", "…", ""]))
NAMES = st.one_of(PARTS.map(".".join), st.text("ab.1_…", max_size=20), st.text(max_size=30))


@settings(max_examples=300, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=12, unique=True), st.integers(5, 40))
def test_distinct_names_have_distinct_texts_that_fit(names: list[str], width: int) -> None:
    texts = tell_apart(names, width)
    assert len(set(texts)) == len(names)
    assert all(len(text) <= width for text in texts)
    assert tell_apart([*names, names[0]], width)[-1] == texts[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(PARTS.map(".".join), min_size=1, max_size=8, unique=True), st.integers(60, 300))
def test_texts_fit_in_pixels(names: list[str], width: int) -> None:
    texts = tell_apart_at(names, 14, width, bold=True, before="of ")
    assert len(set(texts)) == len(names)
    assert all(width_of(text, 14, True) <= width for text in texts)
    assert all(text.startswith("of ") for text in texts)


def test_a_long_heading_is_broken_where_names_have_joints() -> None:
    name = "resnet.encoder.stages.0.layers.0.layer.0.convolution"
    assert in_lines(name, 30, len) == ["resnet.encoder.stages.0.", "layers.0.layer.0.convolution"]
    assert in_lines(name, 100, len) == [name]
    assert in_lines(name, 18, len) == ["…0.layers.0.layer.", "0.convolution"]
    assert in_lines("a heading of many words", 12, len) == ["a heading of", "many words"]
    assert in_lines("a heading of many words", 9, len) == ["a heading", "of many…"]
    assert in_lines("", 9, len) == []


@settings(max_examples=100, deadline=None)
@given(st.text("ab. …_", max_size=60), st.integers(20, 200))
def test_lines_fit(text: str, width: int) -> None:
    lines = lines_at(text, 12, width)
    assert len(lines) <= 2
    assert all(partial(width_of, size=12)(line) <= width for line in lines)
