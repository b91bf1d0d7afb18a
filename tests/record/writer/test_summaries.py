"""The ranges of a whole batch at once are those of each layer by itself."""

from __future__ import annotations

import numpy as np
import pytest

from record.protocol.layout import BatchLayout
from record.writer.summaries import FrameSummarizer
from replay.schema import Layer, summarize


def layer(name: str, shape: tuple[int, ...], axes: str = "", **more: object) -> Layer:
    return Layer(name, "Module()", shape, axes=axes, **more)  # type: ignore[arg-type]


LAYOUT = BatchLayout(
    ((3, 9, 7),),
    (
        layer("one", (1, 5, 5), kernel=(1, 3, 3, 3)),
        layer("many", (513, 2, 2)),
        layer("narrow", (9, 4, 4), kernel=(9, 1, 1, 1)),
        layer("large", (12, 128, 120), kernel=(12, 3, 3, 3)),
        layer("last", (7, 6, 5), "HWC"),
        layer("tokens", (4, 4), "TC"),
        layer("number", (6,), "T"),
        layer("signal", (4, 33), "CL"),
        layer("vector", (10,), "C"),
        layer("deep", (64, 70, 70)),
        layer("folded", (2, 3, 2, 2, 4)),  # axes that have no names: one map
    ),
)


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_says_what_a_pass_for_each_layer_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(LAYOUT.size) * 10.0 ** rng.integers(-7, 5)).astype(np.float16)
    slots = LAYOUT.map_slots
    if seed:
        values[slots[1].start + 9] = np.nan
        values[slots[4].start] = -np.inf
        values[slots[9].start : slots[9].start + 4900] = np.nan
        values[slots[7].start : slots[7].stop] = -0.0
    missing = [{5}, {1, 2, 4}, set()] if seed == 2 else [set()] * 3
    frames = np.stack([values, values[::-1], -values])
    summaries = FrameSummarizer(LAYOUT)
    for frame, without, found in zip(
        frames, missing, summaries.summarize(frames, missing), strict=True
    ):
        nan = inf = 0
        for place, (slot, what) in enumerate(zip(slots, LAYOUT.layers, strict=True)):
            ranges = found.ranges[slice(*summaries.spans[place])]
            if place in without:
                assert np.isnan(ranges).all()
                continue
            maps = what.channels_first(frame[slot.start : slot.stop].reshape(slot.shape))
            right = summarize(maps)
            np.testing.assert_array_equal(ranges, right.ranges)
            nan, inf = nan + right.nan, inf + right.inf
        assert (found.nan, found.inf) == (nan, inf)
        assert found.ranges.dtype == np.float32


def test_all_values_of_float16_as_extremes() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = values[np.isfinite(values)]
    layout = BatchLayout((), (layer("conv", (finite.size, 1, 1)),))
    found = FrameSummarizer(layout).summarize(np.ascontiguousarray(finite)[None], [set()])[0]
    np.testing.assert_array_equal(found.ranges, np.stack([finite, finite], 1).astype(np.float32))


@pytest.mark.parametrize("sign", [1, -1])
def test_maps_of_one_sign_beside_maps_of_both(sign: int) -> None:
    layout = BatchLayout((), (layer("wide", (6, 12, 12)), layer("narrow", (6, 4, 4))))
    values = np.random.default_rng(0).standard_normal((3, layout.size)).astype(np.float16)
    for slot in layout.map_slots:
        maps = values[:, slot.start : slot.stop].reshape(3, 6, -1)
        maps[:, :2] = sign * np.abs(maps[:, :2])
        maps[:, 2] = sign * np.maximum(maps[:, 2], 0)  # as behind a ReLU
        maps[:, 3] = sign * 0.25
        values[:, slot.start : slot.stop] = maps.reshape(3, -1)
    summaries = FrameSummarizer(layout)
    for frame, found in zip(values, summaries.summarize(values, [set()] * 3), strict=True):
        for slot, span in zip(layout.map_slots, summaries.spans, strict=True):
            maps = frame[slot.start : slot.stop].reshape(6, -1).astype(np.float32)
            right = np.stack([maps.min(axis=1), maps.max(axis=1)], axis=1)
            np.testing.assert_array_equal(found.ranges[slice(*span)], right)
