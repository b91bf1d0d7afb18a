"""Reading and going on where somebody else has locked or opened the file."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from locked_recordings import record_frames
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(2, 8, 8)})


def test_a_file_that_another_program_has_locked_is_read(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    holder = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); "
    command = [sys.executable, "-c", holder + "print(flush=True); input()", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BlockingIOError), path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with replay.open(path) as run:
            assert len(run.frames) == 8
        for name in ("info", "verify"):
            assert main([name, str(path)]) == 0
        record_frames(path, resume=5)  # nor does going on with it ask for that lock
        record_frames(path, overwrite=True)
        process.communicate(b"\n")
    assert "damaged" not in capfd.readouterr().err


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
@pytest.mark.parametrize("first", ["h5py", "replay"])
def test_h5py_and_replay_have_one_file_open_in_one_process(
    path: Path, locking: bool | str | None, first: str
) -> None:
    """As in a notebook. HDF5 opens a file a second time only if it is locked the same way."""

    def by_hand() -> h5py.File:
        return h5py.File(path, "r", locking=locking)

    opened = by_hand() if first == "h5py" else replay.open(path)
    with opened, replay.open(path) as run, by_hand() as file:
        np.testing.assert_array_equal(run["conv1"][1, 2], file["maps/conv1"][1, 2])


def test_reading_locks_nothing(path: Path) -> None:
    with replay.open(path) as run, path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert run["conv1"][0, 0].any()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_readers_do_not_move_each_others_place(path: Path) -> None:
    """They share the place of the file that is open: each must say where it reads."""
    with replay.open(path) as run:
        expected = {cell: run["conv1"][cell].tobytes() for cell in run.frames}
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                good = all(
                    run["conv1"][cell].tobytes() == expected[cell]
                    for _ in range(200)
                    for cell in expected
                )
                os._exit(0 if good else 1)
            children.append(child)
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ends == [0, 0, 0]
