"""The ranges of a whole batch at once are those of each layer by itself."""

from __future__ import annotations

import numpy as np
import pytest

from record.summaries import Summaries
from record.wire import Layout
from replay.schema import Layer, summarize


def layer(name: str, shape: tuple[int, ...], axes: str = "", **more: object) -> Layer:
    return Layer(name, "Module()", shape, axes=axes, **more)  # type: ignore[arg-type]


LAYOUT = Layout(
    ((3, 9, 7),),
    (
        layer("one", (1, 5, 5), kernel=(1, 3, 3, 3)),
        layer("many", (513, 2, 2)),
        layer("large", (12, 128, 120), kernel=(12, 3, 3, 3)),
        layer("last", (7, 6, 5), "HWC"),
        layer("tokens", (4, 4), "TC"),
        layer("number", (6,), "T"),
        layer("signal", (4, 33), "CL"),
        layer("vector", (10,), "C"),
        layer("deep", (64, 70, 70)),
    ),
)


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_says_what_a_pass_for_each_layer_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(LAYOUT.size) * 10.0 ** rng.integers(-7, 5)).astype(np.float16)
    slots = LAYOUT.map_slots
    if seed:
        values[slots[1].start + 9] = np.nan
        values[slots[3].start] = -np.inf
        values[slots[8].start : slots[8].start + 4900] = np.nan
        values[slots[6].start : slots[6].stop] = -0.0
    missing = {4} if seed == 2 else set()
    found = Summaries(LAYOUT).of(values, missing)
    assert set(found) == set(range(len(slots))) - missing
    for place, summary in found.items():
        slot, what = slots[place], LAYOUT.layers[place]
        right = summarize(what.channels_first(values[slot.start : slot.stop].reshape(slot.shape)))
        np.testing.assert_array_equal(summary.ranges, right.ranges)
        assert summary.ranges.dtype == np.float32
        assert (summary.nan, summary.inf) == (right.nan, right.inf)


def test_all_values_of_float16_as_extremes() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = values[np.isfinite(values)]
    layout = Layout((), (layer("conv", (finite.size, 1, 1)),))
    found = Summaries(layout).of(np.ascontiguousarray(finite), set())[0]
    np.testing.assert_array_equal(found.ranges, np.stack([finite, finite], 1).astype(np.float32))
