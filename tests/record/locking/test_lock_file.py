"""The lock file keeps a second writer out, also where the file system has no locks."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from locked_recordings import ABOUT, ROOT, names, record_frames
from samples import drifting_maps, write_recording

from record.locking import holder_of, lock
from record.writer import __main__ as writer
from record.writer import recording_file
from record.writer.recording_file import RecordingFile


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    monkeypatch.setattr(lock, "_SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(lock, "_WATCH_SECONDS", 0.5)


def forge(path: Path, age: float = 0.0, **words: Any) -> Path:
    """Leaves a lock file of somebody else's."""
    file = path.with_name(f"{path.name}.lock")
    lock.Lock(str(path)).release()
    file.write_bytes(dataclasses.replace(lock.Holder.this_process(False), **words).encode())
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_the_lock_file_keeps_a_second_writer_out(tmp_path: Path, no_flock: None) -> None:
    path = tmp_path / "run.h5"
    first = RecordingFile(str(path), False, ABOUT)
    with pytest.raises(lock.BusyError, match=rf"another process .*process {os.getpid()} on "):
        RecordingFile(str(path), True, ABOUT)
    first.close()
    assert names(tmp_path) == ["run.h5"]
    record_frames(path, overwrite=True)
    assert names(tmp_path) == ["run.h5"]


@pytest.mark.parametrize(
    "words", [{"pid": 1 << 22}, {"pid": 1 << 70}, {"pid": 0}, {"began": "before"}, {"pid": -1}]
)
def test_a_writer_of_this_machine_that_was_killed_holds_nothing(
    tmp_path: Path, no_flock: None, words: dict[str, Any]
) -> None:
    path = tmp_path / "run.h5"
    forge(path, **words)
    record_frames(path)
    assert names(tmp_path) == ["run.h5"]


def test_a_process_that_has_ended_and_was_not_waited_for_holds_nothing(
    tmp_path: Path, no_flock: None
) -> None:
    path = tmp_path / "run.h5"
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        forge(path, pid=child.pid, began="")
        record_frames(path)
    assert names(tmp_path) == ["run.h5"]


def test_a_writer_of_another_machine_holds_it_while_its_time_moves_on(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.h5"
    file = forge(path, host="elsewhere", space="another")
    with pytest.raises(lock.BusyError, match="on elsewhere, there less than a minute ago"):
        RecordingFile(str(path), False, ABOUT)
    assert names(tmp_path) == ["run.h5.lock"]

    os.utime(file, (time.time() - 3600,) * 2)  # its clock is an hour late, but it is there
    sleep = time.sleep

    def alive(seconds: float) -> None:
        os.utime(file, (time.time() - 3600,) * 2)
        sleep(seconds)

    with monkeypatch.context() as patch, pytest.raises(lock.BusyError):
        patch.setattr(lock.time, "sleep", alive)
        RecordingFile(str(path), False, ABOUT)
    record_frames(path)  # and now it is not
    assert names(tmp_path) == ["run.h5"]


def test_a_holder_shows_that_it_is_there(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.h5"
    held = lock.Lock(str(path))
    file = tmp_path / "run.h5.lock"
    os.utime(file, (1.0, 1.0))
    held.renew()
    assert file.stat().st_mtime == 1.0  # not at each turn
    monkeypatch.setattr(lock, "RENEW_SECONDS", 0.0)
    held.renew()
    assert abs(file.stat().st_mtime - time.time()) < 60
    held.release()
    assert names(tmp_path) == []


def test_of_several_that_take_over_at_once_one_gets_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from record.locking import lock\n"
        "def refuse(*_): raise OSError(37, 'No locks available')\n"
        "lock.fcntl.flock = refuse\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "try: lock.Lock(sys.argv[1]); print('mine', flush=True); input()\n"
        "except lock.BusyError: print('busy', flush=True)\n"
    )
    path = tmp_path / "run.h5"
    forge(path, pid=1 << 22)
    command = [sys.executable, "-c", script, str(path), str(time.time() + 1.0)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    several = [
        subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, **pipes)
        for _ in range(4)
    ]
    said = [process.stdout.readline().strip() for process in several if process.stdout]
    for process in several:
        process.communicate("\n")
    assert sorted(said) == ["busy", "busy", "busy", "mine"]


def test_a_link_has_the_lock_of_what_it_leads_to(tmp_path: Path) -> None:
    path, link = tmp_path / "run.h5", tmp_path / "latest.h5"
    link.symlink_to(path)
    held = lock.Lock(str(path))
    with pytest.raises(lock.BusyError):
        lock.Lock(str(link))
    assert holder_of(link) == holder_of(path) is not None
    held.release()
    lock.Lock(str(link)).release()
    assert names(tmp_path) == ["latest.h5"]


@pytest.mark.parametrize("text", [b"", b"{", b"[1, 2]", b'{"pid": 1e999}', b"\xff" * 5000])
def test_a_lock_file_that_says_nothing_is_nobodys(
    tmp_path: Path, no_flock: None, text: bytes
) -> None:
    (tmp_path / "run.h5.lock").write_bytes(text)
    record_frames(tmp_path / "run.h5")
    assert names(tmp_path) == ["run.h5"]


@pytest.mark.parametrize("where", ["open_h5", "_enter_swmr_mode"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_start_that_fails_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, overwrite: bool
) -> None:
    path = tmp_path / "run.h5"
    if overwrite:
        path.write_bytes(b"somebody's")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "unable to lock file, errno = 5, error message = 'I/O error'")

    place = recording_file if where == "open_h5" else RecordingFile
    with monkeypatch.context() as patch, pytest.raises(OSError, match="unable to lock") as caught:
        patch.setattr(place, where, fail)
        RecordingFile(str(path), overwrite, ABOUT)
    assert "set HDF5_USE_FILE_LOCKING=FALSE" in writer.describe_failure(caught.value)
    assert names(tmp_path) == (["run.h5"] if overwrite else [])
    if overwrite:
        assert path.read_bytes() == b"somebody's"
    record_frames(path, overwrite=True)  # nothing is held


def test_a_run_that_cannot_be_described_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(b"somebody's")
    about = {**ABOUT, "created": object()}
    for overwrite, name in ((True, path), (False, tmp_path / "other.h5")):
        with pytest.raises(TypeError, match="Object dtype"):
            RecordingFile(str(name), overwrite, about)
    assert names(tmp_path) == ["run.h5"]
    assert path.read_bytes() == b"somebody's"


def test_a_folder_that_is_mounted_read_only(tmp_path: Path) -> None:
    made = write_recording(tmp_path / "made.h5", {"conv1": drifting_maps(2, 8, 8)})
    script = (
        'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" || exit 99\n'
        '"$1" -m replay info "$2" && "$1" -m replay verify "$2" || exit 98\n'
        '"$1" -m record train --epochs 1 --samples 8 --image-size 16 --device cpu -o "$0/run.h5"\n'
    )
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, tmp_path, sys.executable, made],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode in (1, 99):
        pytest.skip(f"cannot mount here: {done.stderr}")
    assert done.returncode == 2, done.stderr
    assert f"cannot write into the folder {tmp_path}" in done.stderr
    assert names(tmp_path) == ["made.h5"]
