"""A start that was killed keeps nobody from the next one; no recording with frames is taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import replay
from record import Writer
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.writer.recording_file import RecordingFile
from replay.schema import Layer, OutputError

ROOT = Path(__file__).parents[3]
ATTRIBUTES = {"format": "mapreel", "version": 1, "run_id": "x", "created": "now", "meta": "{}"}
LAYOUT = BatchLayout((), (Layer("a", "", (1, 2, 2)),))

# Begins recordings, each in a process that is killed before or behind one of the steps of that.
KILLED = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}]
import numpy as np
import record.writer.recording_file as module
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from replay.schema import Layer

def die_at(step, moment):
    owner = module.FileStructure if step in ("create", "add_layout") else module
    owner = module.RecordingFile if step == "write" else owner
    done = getattr(owner, step)
    def do(*words, **named):
        if moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = done(*words, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, step, do)

for folder in sys.argv[1:]:
    if not os.fork():
        die_at(*os.path.basename(folder).split("-"))
        layout = BatchLayout((), (Layer("a", "", (1, 2, 2)),))
        file = module.RecordingFile(folder + "/run.h5", False, {ATTRIBUTES!r}, durability="flush")
        file.set_layout(layout, 2)
        file.write([FrameHeader(0, 0, 0, 0.0)], np.ones((1, layout.size), np.float16))
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL, folder
"""
STEPS = ("create_file", "create_copy", "open_h5", "create", "put_in_place", "add_layout", "write")


def record(path: Path) -> None:
    file = RecordingFile(str(path), False, ATTRIBUTES, durability="flush")
    file.set_layout(LAYOUT, 2)
    file.write([FrameHeader(0, 0, 0, 0.0)], np.full((1, LAYOUT.size), 7, np.float16))
    file.close(0, 0)


def test_a_start_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    folders = [tmp_path / f"{step}-{when}" for step in STEPS for when in ("before", "behind")]
    for folder in folders:
        folder.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, *map(str, folders)], check=True)
    for folder in folders:
        path = folder / "run.h5"
        assert (folder / "run.h5.lock").exists()
        if folder == folders[-1]:  # as a training does it
            with Writer(path, quiet=True) as writer:
                writer.write(epoch=0, batch=0, maps={"a": np.full((1, 2, 2), 7)})
        else:
            record(path)
        assert os.listdir(folder) == ["run.h5"]
        with replay.open(path) as run:
            assert run.frames == [(0, 0)]
            assert (run["a"][0, 0] == 7).all()


def test_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    """One frame that was committed, one that was closed without any, and what others have made."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock = '{"host": "%s", "space": "", "pid": %d, "began": "", "locked": true}\n'

    def killed(path: Path) -> None:
        file = RecordingFile(str(path), False, ATTRIBUTES, durability="flush")
        file.set_layout(LAYOUT, 2)
        file.write([FrameHeader(0, 0, 0, 0.0)], np.ones((1, LAYOUT.size), np.float16))
        file.commit()
        file._file.close()
        file._lock.release()

    def closed(path: Path) -> None:
        file = RecordingFile(str(path), False, ATTRIBUTES, durability="flush")
        file.close(0, 0)

    def foreign(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["state"] = np.zeros(5, np.int64)
            file["batches/recorded"] = np.zeros((1, 1), np.int64)

    def text(path: Path) -> None:
        path.write_text("mine")

    for make in (killed, closed, foreign, text):
        path = tmp_path / f"{make.__name__}.h5"
        make(path)
        before = path.read_bytes()
        path.with_name(f"{path.name}.lock").write_text(lock % ("gone", ended.pid))
        if make is killed:
            with pytest.raises(OutputError, match=r"exists; choose another .* overwriting \(over"):
                Writer(path)
        else:
            with pytest.raises(FileExistsError):
                RecordingFile(str(path), False, ATTRIBUTES)
        assert path.read_bytes() == before
        assert sorted(os.listdir(tmp_path)) == [path.name]
        path.unlink()


def test_an_empty_file_without_a_lock_beside_it_is_somebodys(tmp_path: Path) -> None:
    (tmp_path / "run.h5").touch()
    with pytest.raises(OutputError, match="exists; choose another name"):
        Writer(tmp_path / "run.h5")
    assert (tmp_path / "run.h5").exists()
