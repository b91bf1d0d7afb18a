"""Results take their place when they are whole; what stood there before stays until then."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import write_recording

from replay.output import EncodeOptions, Format, LimitError, Output, Target, encode, replacing


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_all_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "film.gif"
    path.write_bytes(b"the one before")
    with pytest.raises(error), replacing(path) as unfinished:
        unfinished.write_bytes(b"half of")
        assert path.read_bytes() == b"the one before"
        raise error
    assert path.read_bytes() == b"the one before"
    assert os.listdir(tmp_path) == ["film.gif"]


def test_a_folder_that_fails_leaves_none(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        replacing(tmp_path / "frames", folder=True) as unfinished,
    ):
        (unfinished / "0.png").write_bytes(b"one of two")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_folder_into_which_threads_still_write_is_removed_too(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        for number in range(20):
            (folder / "maps" / str(number)).mkdir(parents=True, exist_ok=True)
            time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.zarr", folder=True) as folder:
        thread = threading.Thread(target=write, args=[folder])
        thread.start()
        raise KeyboardInterrupt
    thread.join()
    assert list(tmp_path.iterdir()) == []


def test_what_is_whole_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    path.write_bytes(b"the one before")
    with replacing(path) as unfinished:
        unfinished.write_bytes(b"all of it")
    assert path.read_bytes() == b"all of it"
    assert os.listdir(tmp_path) == ["film.gif"]


class Heavy:
    """A sink that writes 1,000 bytes for each frame, and counts none itself."""

    def begin(self, output: Output, *_: Any) -> None:
        self._file = output.resources.enter_context(output.path.open("wb", buffering=0))

    def write(self, pixels: bytes) -> None:
        self._file.write(pixels)

    def finish(self) -> None:
        pass


@pytest.mark.parametrize("frames", [5, 100])
def test_what_grows_too_large_is_given_up_and_replaces_nothing(tmp_path: Path, frames: int) -> None:
    path, done = tmp_path / "film.heavy", list[int]()
    path.write_bytes(b"the one before")
    heavy = Format("heavy", (".heavy",), Heavy, lambda frames, *_: iter(frames), lambda *_: None)
    given: Any = [bytes(1000)] * frames
    palette: Any = None

    def film(limit: int) -> int:
        options = EncodeOptions(fps=10.0, limit=limit)
        return encode(given, Target(path, heavy), palette, (2, 2), options, done.append)

    with pytest.raises(LimitError, match="expected at most 4,999"):
        film(4_999)
    assert len(done) < 40  # it is noticed on the way
    assert path.read_bytes() == b"the one before"
    assert os.listdir(tmp_path) == ["film.heavy"]
    assert film(1000 * frames) == frames
    assert path.stat().st_size == 1000 * frames


LIMITED = """
import resource, sys
from replay.__main__ import main
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
code = main(sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, before)  # what measures the tests writes at the end
sys.exit(code)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["export", "-o", "a.npy"],
        ["export", "-o", "a.npz"],
        ["pack", "-o", "a.h5"],
        ["pack", "-o", "a.h5", "--bits", "8"],
        ["repair", "-o", "a.h5"],
        ["page", "-o", "a.html"],
    ],
    ids=" ".join,
)
def test_a_disk_that_takes_no_more_is_said_in_a_line(tmp_path: Path, words: list[str]) -> None:
    maps = {"conv1": lambda e, b: np.random.default_rng(4 * e + b).normal(size=(8, 32, 32))}
    path = write_recording(tmp_path / "run.h5", maps)
    command, *options = words
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, command, str(path), "--quiet", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"error: cannot write {words[2]}: File too large\n"
    assert [each.name for each in tmp_path.iterdir()] == ["run.h5"]
