"""What is asked of the disk, and in which order: files, then their names."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.writer.fsync import BackgroundFsync
from record.writer.recording_file import RecordingFile
from replay.recording.structures import SUPERBLOCK_BYTES, being_written
from replay.schema import Layer

ATTRIBUTES = {"format": "mapreel", "version": 1, "meta": "{}", "created": ""}
LAYERS = [Layer(name, "Conv2d", (1, 2, 2)) for name in ("conv", "late")]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was asked of the system, one after the other."""
    found: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            name = "the folder"
        elif being_written((tmp_path / name).read_bytes()[:SUPERBLOCK_BYTES]):
            name += ", open"
        found.append(f"sync {name}")
        fsync(descriptor)

    def noted_replace(old: str, new: str) -> None:
        found.append(f"{os.path.basename(old)} becomes {os.path.basename(new)}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(BackgroundFsync, "request", lambda self, descriptor: None)
    return found


def write(file: RecordingFile, layers: int, epoch: int) -> None:
    header = messages.FrameHeader(epoch, 0, 0, 0.0)
    file.write([header], np.zeros((1, 4 * layers), np.float16))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no names of open files")
def test_a_copy_and_its_name_are_on_the_disk(tmp_path: Path, done: list[str]) -> None:
    path = tmp_path / "run.h5"
    # What was written since the last sync is on the disk before the file says that it was closed,
    # the copy before it has the name, and the name before anything counts on it.
    exchanged = [
        "sync run.h5, open",
        "sync run.h5.copying, open",
        "run.h5.copying becomes run.h5",
        "sync the folder",
    ]
    file = RecordingFile(str(path), False, ATTRIBUTES)
    assert done == exchanged[1:]
    for number in (1, 2):
        done.clear()
        file.set_layout(BatchLayout((), tuple(LAYERS[:number])), 2)
        assert done == exchanged
        write(file, number, number - 1)
    done.clear()
    file.thin(2)
    thinned = ["sync run.h5.copying", *exchanged[2:]]
    assert done == [exchanged[0], *thinned, *exchanged[1:]]
    done.clear()
    file.close(0, 0)
    assert done == ["sync run.h5, open", "sync run.h5"]
    done.clear()
    RecordingFile(str(path), False, ATTRIBUTES, resume=0)
    assert done == [*thinned, *exchanged[1:]]


def test_nothing_is_asked_for_while_a_run_is_flushed_alone(tmp_path: Path, done: list[str]) -> None:
    file = RecordingFile(str(tmp_path / "run.h5"), False, ATTRIBUTES, durability="flush")
    file.set_layout(BatchLayout((), tuple(LAYERS)), 2)
    write(file, 2, 0)
    file.commit()
    assert done == ["run.h5.copying becomes run.h5"] * 2  # at the start, and with the layers


@pytest.mark.parametrize(("number", "ends"), [(errno.EIO, True), (errno.EINVAL, False)])
def test_a_disk_that_has_not_kept_what_was_written_ends_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ends: bool
) -> None:
    """One behind a network says so no earlier; one that cannot be asked at all has lost nothing."""
    file = RecordingFile(str(tmp_path / "run.h5"), False, ATTRIBUTES)
    file.set_layout(BatchLayout((), tuple(LAYERS)), 2)
    write(file, 2, 0)

    def failing(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    file.commit()
    file.sync()
    deadline = time.monotonic() + 5
    while file._fsync._busy.is_set() and time.monotonic() < deadline:
        time.sleep(0.001)
    if ends:
        with pytest.raises(OSError, match="Input/output error"):
            file.sync()
    else:
        file.sync()


def test_what_is_asked_for_while_the_disk_is_busy_is_done_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    goes_on = threading.Semaphore(0)

    def slow(descriptor: int) -> None:
        asked.append(descriptor)
        assert goes_on.acquire(timeout=5)

    def await_asked(count: int) -> None:
        deadline = time.monotonic() + 5
        while len(asked) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(asked) == count

    monkeypatch.setattr(os, "fsync", slow)
    with (tmp_path / "file").open("wb") as file:
        disk = BackgroundFsync()
        disk.request(file.fileno())
        await_asked(1)
        for _ in range(3):  # what was written meanwhile may be missed by the first: once more
            disk.request(file.fileno())
        goes_on.release()
        await_asked(2)
        goes_on.release()
        deadline = time.monotonic() + 5
        while disk._busy.is_set() and time.monotonic() < deadline:
            time.sleep(0.001)
    assert not disk._busy.is_set()
    assert len(asked) == 2
