"""A command without memory or descriptors says so in one line, and calls no healthy file damaged."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.recording.safe_file import SafeFile
from replay.schema.errors import NO_MEMORY, RecordingError, ShortageError, find_shortage
from replay.schema.faces import AtOnce

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(2, 6, 5)})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), NO_MEMORY),
        (getattr(np, "exceptions", np).AxisError("x"), None),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), NO_MEMORY),
        (OSError("Unable to open file (errno = 24, error message = 'Too many open files')"), "too"),
        (ImportError("x.so: failed to map segment from shared object"), NO_MEMORY),
        (RuntimeError("can't start new thread"), NO_MEMORY),
        (OSError("out of memory"), NO_MEMORY),  # of Pillow
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (KeyError("memory"), None),
    ],
)
def test_what_an_error_is_behind_of(error: Exception, said: str | None) -> None:
    found = find_shortage(error)
    assert (found is None) == (said is None)
    if said is not None:
        assert str(found).startswith(said)
        assert len(str(found).splitlines()) == 1
        outer = ValueError("in the middle")
        outer.__cause__ = error
        assert str(find_shortage(outer)) == str(found)


def no_memory(*_: object, **__: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("words", [["info"], ["verify"], ["repair", "-o"]])
def test_no_memory_in_the_middle(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    target = [str(out / "out.h5")] if "-o" in words else []
    monkeypatch.setattr(np, "zeros" if words == ["info"] else "full", no_memory)
    monkeypatch.setattr(SafeFile, "read_stored", no_memory)
    code = main([words[0], str(path), *words[1:], *target])
    assert (code, isinstance(code, AtOnce)) == (1, True)
    assert capsys.readouterr().err == f"error: {NO_MEMORY}\n"
    assert not list(out.iterdir())


def test_a_frame_that_memory_is_lacking_for_is_not_damaged(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor left out of a repaired file: HDF5 hides the reason in the text of its error."""
    with replay.open(path) as run:
        monkeypatch.setattr(
            "h5py.Dataset.__getitem__",
            lambda *_: (_ for _ in ()).throw(OSError("memory allocation failed")),
        )
        for call in (
            lambda: run["conv1"][0, 0],
            lambda: replay.verify(path),
            lambda: replay.repair(path, tmp_path / "fixed.h5"),
        ):
            with pytest.raises(ShortageError):
                call()
    assert not (tmp_path / "fixed.h5").exists()


def limit_files(count: int) -> Callable[[], None]:
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


@pytest.mark.skipif(os.name == "nt", reason="no limits to set")
@pytest.mark.parametrize("count", [6, 7])
def test_no_descriptors(path: Path, tmp_path: Path, count: int) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "replay", "pack", str(path), "-o", str(out / "out.h5")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=limit_files(count),
    )
    assert "Traceback" not in done.stderr
    if done.returncode:
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert "too many open files" in line.lower()
    assert bool(done.returncode) == (not list(out.iterdir()))


def test_the_error_is_one_of_ours() -> None:
    assert issubclass(ShortageError, RecordingError)
    assert ShortageError("x").exit_code == 1
