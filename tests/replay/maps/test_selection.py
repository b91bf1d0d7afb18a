from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.maps.axes import choose_channels, spread
from replay.maps.selection import choose, choose_frames, choose_layers
from replay.schema import FileError, OptionError, SelectionError

TENS = [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, TENS),
        ("10", [10]),
        ("-1", [30]),
        (-2, [20]),
        ("30,0", [30, 0]),
        ("0,-1", [0, 30]),
        (":", TENS),
        ("10:", [10, 20, 30]),
        ("-2:", [20, 30]),
        (":-1", [0, 10, 20]),
        ("-9:", TENS),
        ("::-1", TENS[::-1]),
        ("::20", [0, 20]),
        (slice(5, 25), [10, 20]),
        (np.int64(20), [20]),
        ([0, 20], [0, 20]),
    ],
)
def test_choose(wanted: object, chosen: list[int]) -> None:
    assert choose(wanted, TENS, "batch") == chosen  # type: ignore[arg-type]


def test_spans_include_their_end() -> None:
    assert choose("0,8-11", range(12), "channel") == [0, 8, 9, 10, 11]


@pytest.mark.parametrize("wanted", ["5", "-5", 99, [0, 5], "1:9", [], "9999999999999999999:"])
def test_what_is_not_there_is_refused_with_what_is(wanted: object) -> None:
    with pytest.raises(SelectionError, match=r"no batch.* there: 0, 10, 20, 30"):
        choose(wanted, TENS, "batch")  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", ["x", "1-", "3-1", "::0", "1:2:3:4", "", 1.5, [0.5], ["1"]])
def test_what_cannot_be_read_is_refused(wanted: object) -> None:
    with pytest.raises(OptionError):
        choose(wanted, TENS, "batch")  # type: ignore[arg-type]


def test_frames_skip_what_was_not_recorded(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"a": drifting_maps(2, 4, 4), "b.1": drifting_maps(2, 4, 4)},
        recorded=lambda e, b: (e, b) != (1, 3),
    )
    with replay.open(path) as run:
        assert len(choose_frames(run)) == 7
        assert choose_frames(run, "1", "-1") == [(1, 2)]
        assert choose_frames(run, None, "3") == [(0, 3)]
        assert choose_layers(run) == ["a"]
        assert choose_layers(run, ["all", "a"]) == ["a", "b.1"]
        assert choose_layers(run, "b*") == ["b.1"]
        with pytest.raises(SelectionError, match=r"recorded: a, b\.1"):
            choose_layers(run, ["c*"])


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"a": drifting_maps(2, 4, 4)}, recorded=lambda e, b: False
    )
    with replay.open(path) as run, pytest.raises(FileError, match="no frame was committed"):
        choose_frames(run)


def test_top_channels_are_those_that_vary_in_one_order(tmp_path: Path) -> None:
    strength = np.array([0.1, 3, 0, 2])[:, None, None]
    path = write_recording(
        tmp_path / "run.h5", {"a": lambda e, b: drifting_maps(4, 8, 8)(e, b) * strength}
    )
    with replay.open(path) as run:
        assert choose_channels(run["a"], "top:2", run.frames) == [1, 3]
        assert choose_channels(run["a"], "top:99", run.frames) == [0, 1, 2, 3]
        with pytest.raises(OptionError):
            choose_channels(run["a"], "top:0", run.frames)


def test_spread_keeps_both_ends() -> None:
    frames = [(0, b) for b in range(100)]
    some = spread(frames, 7)
    assert (some[0], some[-1], len(set(some))) == (frames[0], frames[-1], 7)
    assert spread(frames, 1) == [(0, 99)]
