"""What a kill or a full disk leaves of a recording is removed, or taken up, by the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import replay
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.writer.recording_file import RecordingFile
from replay.schema import Layer

ATTRIBUTES = {"format": "mapreel", "version": 1, "run_id": "x", "created": "now", "meta": "{}"}
LAYOUT = BatchLayout((), (Layer("a", "", (1, 2, 2)),))
ROOT = Path(__file__).parents[3]
LEAST, MOST = 0, 40_000  # bytes of a file: of none at all, and of one that is begun

# Begins recordings on a disk that is full after so many bytes, each in a process of its own.
FULL = f"""
import os, resource, signal, sys
sys.path[:0] = [{str(ROOT)!r}]
from record.protocol.layout import BatchLayout
from record.writer.recording_file import RecordingFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, overwrite = sys.argv[1], sys.argv[2] == "True"
for size in range({LEAST}, {MOST}, 1_500):
    if not os.fork():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            RecordingFile(path, overwrite, {ATTRIBUTES!r}, durability="flush")
        except BaseException as error:
            print(size, type(error).__name__, flush=True)
        os._exit(0)
    os.wait()
    left = sorted(os.listdir(os.path.dirname(path)))
    expected = [os.path.basename(path)] if overwrite else []
    if left != expected and left != [os.path.basename(path), os.path.basename(path) + ".lock"]:
        print("left", size, left)
    for name in left:
        if name not in expected:
            os.unlink(os.path.join(os.path.dirname(path), name))
"""

# Records, and is killed where something is done to a copy of the file.
KILLED = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}]
import record.writer.recording_file as module
from record.protocol.layout import BatchLayout
from replay.schema import Layer
number, seen = int(sys.argv[2]), 0
open_h5 = module.open_h5
def open_or_die(path, mode):
    global seen
    file = open_h5(path, mode)
    seen += path.endswith(".copying")
    if seen == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return file
module.open_h5 = open_or_die
file = module.RecordingFile(sys.argv[1], sys.argv[3] == "True", {ATTRIBUTES!r}, durability="flush")
file.set_layout(BatchLayout((), (Layer("a", "", (1, 2, 2)),)), 2)
"""


def record(path: Path, overwrite: bool = False, resume: int | None = None) -> None:
    file = RecordingFile(str(path), overwrite, ATTRIBUTES, resume, durability="flush")
    file.set_layout(LAYOUT, 2)
    file.write([FrameHeader(resume or 0, 0, 0, 0.0)], np.ones((1, LAYOUT.size), np.float16))
    file.close(0, 0)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_is_full_at_the_beginning_leaves_nothing(
    overwrite: bool, tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    if overwrite:
        record(path)
    before = path.read_bytes() if overwrite else b""
    words = [sys.executable, "-c", FULL, str(path), str(overwrite)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    said = [line.split() for line in done.stdout.splitlines()]
    assert [line for line in said if line[0] == "left"] == []
    assert len(said) > 5, done.stderr  # it failed where the disk was full
    if overwrite:
        assert path.read_bytes() == before or replay.open(path).frames == []
    record(path, overwrite or path.exists())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("number", "overwrite"), [(2, False), (1, True), (2, True)])
@pytest.mark.parametrize("again", ["overwrite", "resume", "removed"])
def test_a_killed_writer_leaves_nothing_once_another_has_run(
    number: int, overwrite: bool, again: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    if overwrite:
        record(path)
    words = [sys.executable, "-c", KILLED, str(path), str(number), str(overwrite)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert {each.name for each in tmp_path.iterdir()} == {
        *("run.h5", "run.h5.lock", "run.h5.copying")
    }
    if again == "removed":
        path.unlink()
    record(path, again == "overwrite", 1 if again == "resume" else None)
    assert os.listdir(tmp_path) == ["run.h5"]
    assert replay.verify(path)
    with replay.open(path) as run:
        assert run.frames[-1] == (1 if again == "resume" else 0, 0)
