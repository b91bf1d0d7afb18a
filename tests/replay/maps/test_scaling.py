from pathlib import Path

import numpy as np
import pytest
from counted_cells import Counted
from samples import drifting_maps, write_recording

import replay
from replay.maps.percentiles import ROBUST, robust_range
from replay.maps.scaling import Scaler, table
from replay.raster.palette import Range
from replay.recording import Recording
from replay.schema import OptionError


def make(path: Path, maps: object = None) -> Recording:
    return replay.open(write_recording(path / "run.h5", {"a": maps or drifting_maps(3, 9, 15)}))


def test_the_table_is_the_formula_for_every_float16() -> None:
    levels = table(Range(-1.5, 2.25), 240)
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(values)
    place = (values[finite].astype(np.float64) + 1.5) / 3.75 * 239
    np.testing.assert_array_equal(levels[finite], np.clip(np.rint(place), 0, 239))
    assert set(levels[np.isnan(values)]) == {240}
    assert set(levels[np.isinf(values)]) == {241}


def test_the_range_of_a_run_is_that_of_its_robust_values(tmp_path: Path) -> None:
    with make(tmp_path) as run:
        scaler = Scaler(run["a"], run.frames, [0, 1, 2])
        every = np.stack([run["a"][frame] for frame in run.frames]).astype(np.float32)
        found = scaler.range_of(0, 0, run["a"][0, 0])
        assert found is not None
        np.testing.assert_allclose((found.low, found.high), np.percentile(every, (0.5, 99.5)))
        assert scaler.range_of(1, 3, run["a"][1, 3]) == found


def test_modes(tmp_path: Path) -> None:
    with make(tmp_path) as run:
        series, maps = run["a"], run["a"][1, 0]
        epoch = Scaler(series, run.frames, [0, 1, 2], "epoch")
        assert epoch.range_of(0, 0, maps) != epoch.range_of(1, 0, maps)
        frame = Scaler(series, run.frames, [0, 1, 2], "frame")
        assert frame.range_of(1, 0, maps) != frame.range_of(1, 0, maps * 2)
        channel = Scaler(series, run.frames, [2, 0], "channel")
        assert channel.range_of(1, 0, maps) is None
        expected = [
            table(channel.channel_range(i), 240)[maps[c].view(np.uint16)]
            for i, c in enumerate([2, 0])
        ]
        np.testing.assert_array_equal(channel.levels(1, 0, maps[[2, 0]]), expected)
        clip = Scaler(series, run.frames, [0], clip=(-1, 3), symmetric=True)
        assert clip.range_of(0, 0, maps) == Range(-3, 3)


@pytest.mark.parametrize(
    ("value", "symmetric", "low", "high"),
    [(0, False, 0, 1), (0, True, -1, 1), (2, False, 2, 3), (np.nan, False, 0, 1)],
)
def test_a_constant_layer_has_a_range(
    tmp_path: Path, value: float, symmetric: bool, low: float, high: float
) -> None:
    with make(tmp_path, lambda e, b: np.full((2, 3, 3), value, "f2")) as run:
        scaler = Scaler(run["a"], run.frames, [0, 1], symmetric=symmetric)
        shown = scaler.range_of(0, 0, run["a"][0, 0])
    assert shown is not None
    assert (shown.low, shown.high, bool(shown.word)) == (low, high, True)


def test_a_mode_or_clip_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with make(tmp_path) as run:
        with pytest.raises(OptionError, match="expected one of adaptive, map, run, epoch"):
            Scaler(run["a"], run.frames, [0], "runs")
        for clip in [(1, 1), (2, 1), (0, np.inf), (np.nan, 1), (1, 2, 3)]:
            with pytest.raises(OptionError, match="LO,HI"):
                Scaler(run["a"], run.frames, [0], clip=clip)  # type: ignore[arg-type]


def test_percentiles_by_counting_are_numpys() -> None:
    rng = np.random.default_rng(1)
    for number in range(300):
        size = 1 + number % 37 * (1 + number % 11 * 40)
        values = (rng.standard_normal(size) * 10.0 ** rng.integers(-6, 5)).astype("f2")
        if number % 3 == 0:
            values = np.round(values)
        if number % 4 == 0:
            values[rng.random(size) < 0.2] = np.nan
            values[rng.random(size) < 0.1] = np.inf
        finite = values[np.isfinite(values)].astype("f4")
        found = robust_range(values)
        if not finite.size:
            assert np.isnan([found.low, found.high]).all()
            continue
        low, high = np.percentile(finite, ROBUST).tolist()
        expected = (low, high) if low < high else (finite.min(), finite.max())
        assert (found.low, found.high) == expected


def test_the_frames_of_an_epoch_are_found_once_for_all_epochs(tmp_path: Path) -> None:
    """Of a thousand epochs each was looked for among the frames of all."""
    epochs, batches = 60, 4
    layers = {"conv": drifting_maps(2, 4, 4)}
    path = write_recording(tmp_path / "run.h5", layers, epochs=epochs, batches=batches)
    cells = [Counted((e, b)) for e in range(epochs) for b in range(batches)]
    with replay.open(path) as run:
        scaler = Scaler(run["conv"], cells, [0, 1], "epoch")
        first = Scaler(run["conv"], cells[: 2 * batches], [0, 1], "epoch")
        maps = [run["conv"][e, 0] for e in (0, 1)]
        Counted.looked = 0
        ranges = [scaler.range_of(e, 0, run["conv"][e, 0]) for e in range(epochs)]
        assert Counted.looked <= 4 * len(cells)
        assert ranges[:2] == [first.range_of(e, 0, maps[e]) for e in (0, 1)]
        values = np.concatenate([run["conv"][7, b].ravel() for b in range(batches)])
        assert ranges[7] == robust_range(values[None])
