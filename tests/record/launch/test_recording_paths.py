"""Where the models of a script are recorded, and in which order the closing lines name them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from record import short_path
from record.launch.closing_lines import ClosedRecording, RecordingCount, closing_lines
from record.launch.recording_paths import RecordingPaths
from record.protocol.layout import BatchLayout
from replay.schema import Layer
from replay.schema.faces import python


def names(paths: RecordingPaths, kind: str, count: int = 1) -> list[str]:
    return [path.name for path in islice(paths.choices(kind), count)]


def test_models_of_one_class_are_numbered_and_those_of_another_have_its_name() -> None:
    paths = RecordingPaths(Path("folder/run.h5"))
    assert names(paths, "Net") == ["run.h5"]
    assert names(paths, "Net") == ["run.2.h5"]
    assert names(paths, "Head[int]") == ["run.Head_int_.h5"]
    assert names(paths, "Head[int]") == ["run.Head_int_.2.h5"]
    assert names(paths, "Net") == ["run.3.h5"]


def test_a_name_that_is_taken_is_not_offered_again() -> None:
    paths = RecordingPaths(Path("run.h5"))
    assert names(paths, "Net", 3) == ["run.h5", "run.2.h5", "run.3.h5"]
    assert names(paths, "Net") == ["run.4.h5"]


def recording(number: int, batches: int = 3, doubts: tuple[str, ...] = ()) -> ClosedRecording:
    layout = BatchLayout((), (Layer("conv", "Conv2d", (1, 2, 2)),))
    path = Path(f"{number}.h5")
    return ClosedRecording(number, f"Net{number % 2}", path, batches, layout, doubts=doubts)


def test_lines_come_in_the_order_in_which_recordings_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(short_path, "_FOLDER", str(tmp_path))
    for number in range(2):
        (tmp_path / f"{number}.h5").write_bytes(bytes(1200))
    lines = closing_lines([recording(1), recording(2, batches=0), recording(0, batches=1)])
    assert lines == [
        f"recorded 1 batch of Net0, 1 layer, 1.2 kB: 0.h5; {python()} -m replay animate 0.h5",
        f"recorded 3 batches of Net1, 1 layer, 1.2 kB: 1.h5; {python()} -m replay animate 1.h5",
    ]


def test_many_recordings_are_named_by_their_first_and_last() -> None:
    lines = closing_lines([recording(number) for number in reversed(range(20))])
    assert len(lines) == 13
    assert lines[-1].startswith("recorded 8 more trainings of Net0, Net1, in their order: ")
    assert lines[-1].endswith("19.h5")


def test_a_doubt_is_said_once_for_all_that_have_it() -> None:
    doubt = ("no DataLoader gave them out",)
    lines = closing_lines([recording(1, doubts=doubt), recording(0, doubts=doubt), recording(2)])
    assert len(lines) == 4
    assert lines[0].startswith("Net0, Net1: nothing says where an epoch")


def test_a_count_is_of_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAPREEL_RUN_TALLY", raising=False)
    assert RecordingCount().total() == 0
    first = RecordingCount(str(tmp_path / "count"))
    first.add(2)
    RecordingCount().add(1)  # as in a child, which knows the file by its environment
    assert first.total() == 3
    first.remove()
    assert not (tmp_path / "count").exists()
    monkeypatch.delenv("MAPREEL_RUN_TALLY")
