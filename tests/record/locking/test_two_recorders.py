"""A second recorder of one file, in the same process and in another one."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from locked_recordings import ROOT, Net, names, python, train

import replay
from record import Recorder
from record.transport.writer_process import WriterProcess
from replay.schema import OutputError

WAYS: list[dict[str, Any]] = [{}, {"overwrite": True}, {"resume": True}, {"resume": 0}]


@pytest.mark.parametrize("options", WAYS)
def test_a_cell_that_is_run_twice_is_told_so(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "run.h5"
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "link.h5").symlink_to("run.h5")
    model = Net()
    first = Recorder(model, path)
    spellings = [path, Path(os.path.relpath(path)), tmp_path / "folder" / "run.h5"]
    for name in [*spellings, tmp_path / "link.h5"]:
        with pytest.raises(OutputError) as caught:
            Recorder(Net(), name, **options)
        said = str(caught.value)
        assert said.startswith(f"{name}: this process records into it already")
        assert "call close() of the first Recorder" in said
        assert "\n" not in said
    train(first, model)
    first.close()
    with replay.open(path) as run:
        assert len(run.frames) == 3
    again = options or {"overwrite": True}
    with Recorder(model, path, **again) as second:
        train(second, model)
    with replay.open(path) as run:
        assert (len(run.frames), run.closed) == (6 if options.get("resume") is True else 3, True)
    assert names(tmp_path) == ["folder", "link.h5", "run.h5"]


def test_a_recorder_out_of_reach_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"

    def cell() -> None:
        model = Net()
        recorder = Recorder(model, path)
        train(recorder, model)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cell()
    with pytest.raises(OutputError, match="this process .* or restart the kernel"):
        Recorder(Net(), path, overwrite=True)


@pytest.mark.parametrize("late", [False, True])
def test_a_cell_that_is_interrupted_while_the_writer_starts_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    path = tmp_path / "run.h5"
    listen = WriterProcess.listen

    class Interrupted:
        def __init__(self, ready: threading.Event) -> None:
            self._real, self.set, self.is_set = ready, ready.set, ready.is_set

        def wait(self, timeout: float) -> bool:
            if late:
                self._real.wait(10)
            raise KeyboardInterrupt

    def interrupted(self: WriterProcess) -> None:
        monkeypatch.setattr(self, "_ready", Interrupted(self._ready))
        listen(self)

    model = Net()
    with Recorder(model, path) as recorder:
        train(recorder, model)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WriterProcess, "listen", interrupted)
        Recorder(Net(), path, resume=True)  # which waits for what the file holds
    assert not list(tmp_path.glob("*.lock"))
    model = Net()
    with Recorder(model, path, overwrite=True) as recorder:
        train(recorder, model)
    with replay.open(path) as run:
        assert len(run.frames) == 3
    assert names(tmp_path) == ["run.h5"]


def test_another_process_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with Recorder(Net(), path) as recorder:
        assert recorder.flush()
        code = (
            "import sys; from test_two_recorders import *\n"
            "for options in WAYS[1:]:\n"
            "    try: Recorder(Net(), sys.argv[1], **options)\n"
            "    except OutputError as error: print(error)\n"
        )
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent))),
        }
        said = python(code, environment, path).splitlines()
        assert len(said) == len(WAYS[1:])
        for line in said:
            assert line.startswith(f"{path}: another process is recording into it (process ")
            assert "end the other" in line


def test_a_recording_behind_a_link_is_written_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    link = tmp_path / "run.h5"
    link.symlink_to(tmp_path / "large" / "this.h5")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        model = Net()
        with Recorder(model, link, **options) as recorder:
            train(recorder, model)
    assert link.is_symlink()
    assert names(tmp_path / "large") == ["this.h5"]
    with replay.open(tmp_path / "large" / "this.h5") as run:
        assert len(run.frames) == 6
