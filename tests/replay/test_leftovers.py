"""A command that was killed while it wrote leaves nothing once it has run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import replay
from replay.schema import unfinished
from tests.samples import drifting_maps, write_recording

WORDS = {  # of each command that writes, and what it writes
    "pack": (["pack", "run.h5", "-o", "out.h5"], "out.h5"),
    "repair": (["repair", "run.h5", "-o", "out.h5"], "out.h5"),
    "export": (["export", "run.h5", "-o", "out.npz"], "out.npz"),
    "animate": (["animate", "run.h5", "-o", "out.gif"], "out.gif"),
    "folder": (["animate", "run.h5", "-o", "out/"], "out"),
    "parts": (["animate", "run.h5", "-o", "out.gif", "--jobs", "2"], "out.gif"),
    "page": (["page", "run.h5", "-o", "out.html"], "out.html"),
    "push": (["push", "run.h5", "--to", "folder=out"], "out"),
}
# Ends the process in the middle: at its first `os.replace`, or where a film is asked for its size.
KILLED = """
import os, signal, sys
sys.path[:0] = [sys.argv.pop(1)]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = die
import replay.rendering.parallel, replay.trackers.content
replay.rendering.parallel.join = replay.trackers.content.Content.files = die
from replay.__main__ import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("leftovers") / "run.h5"
    return write_recording(path, {"conv1": drifting_maps(2, 4, 4)}, epochs=2, batches=2)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.slow
@pytest.mark.parametrize("command", WORDS)
def test_a_killed_command_leaves_nothing_once_it_has_run_again(
    command: str, run: Path, tmp_path: Path
) -> None:
    words, made = WORDS[command]
    root = Path(replay.__file__).parents[1]
    temporary = tmp_path / "temporary"
    work = tmp_path / "work"
    for folder in (temporary, work):
        folder.mkdir()
    (work / "run.h5").write_bytes(run.read_bytes())
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(root)}
    for code in (KILLED, KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "pass")):
        ended = code != KILLED
        if ended:
            code = (
                "import sys\nsys.path[:0] = [sys.argv.pop(1)]\nfrom replay.__main__ import main\n"
            )
            code += "sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(root), *words],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        left = [p.name for p in (*work.iterdir(), *temporary.iterdir())]
        if not ended:
            assert done.returncode == -signal.SIGKILL, done.stderr
            assert len(left) > 1
            assert made not in left or command == "push"  # whose folder is there, and empty
        else:
            assert done.returncode == 0, done.stderr
            assert sorted(left) == sorted(["run.h5", made])


def test_only_what_has_ended_and_was_ours_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / "run.mp4"
    mine = unfinished.unfinished_path(path)
    beginning = mine.name.rpartition("-")[0].rpartition("-")[0]
    place = beginning.rpartition("-")[2]
    gone = [
        tmp_path / f"{beginning}-{ended.pid}-0123abcd.mp4",
        tmp_path / f"{beginning}-{ended.pid}-0123abcd.gif",
        tmp_path / f"{beginning}-{ended.pid}-89abcdef.parts",
    ]
    stays = [
        mine,  # of a process that runs
        tmp_path / f"{beginning}-1-0123abcd.mp4",
        tmp_path / f"{beginning}-{ended.pid}.mp4",  # whatever these are
        tmp_path / f"{beginning}-notes-0123abcd.mp4",
        tmp_path / f".run-{'0' * 8}-{ended.pid}-0123abcd.mp4",  # of another machine
        tmp_path / f".runs-{place}-{ended.pid}-0123abcd.mp4",  # of another film
        tmp_path / ".run-0123abcd.mp4",
    ]
    for each in (*gone, *stays):
        if each.suffix == ".parts":
            each.mkdir()
            (each / "part0000.gif").write_bytes(b"x")
        else:
            each.write_bytes(b"x")
    unfinished.unfinished_path(path)
    assert sorted(tmp_path.iterdir()) == sorted(stays)


def test_packing_in_place_leaves_nothing(run: Path, tmp_path: Path) -> None:
    from replay.files.in_place import pack_in_place

    path = tmp_path / "run.h5"
    path.write_bytes(run.read_bytes())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    name = unfinished.unfinished_path(path).name
    left = tmp_path / name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    left.write_bytes(b"half")
    pack_in_place(path)
    assert list(tmp_path.iterdir()) == [path]
    with replay.open(path) as packed:
        np.testing.assert_array_equal(packed["conv1"][0, 0], drifting_maps(2, 4, 4)(0, 0))
