"""Recording and reading where the file system has no locks."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from locked_recordings import ROOT, names, python
from samples import drifting_maps, write_recording

import replay

# What a lock is answered with by NFS without its daemon, a read-only mount, FUSE and others.
ANSWERS = [
    *(errno.ENOLCK, errno.EROFS, errno.EOPNOTSUPP, errno.EINVAL),
    *(errno.ENOSYS, errno.EIO, errno.EPERM),
]


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds no locks; LOCKS_SAY says why."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux")
    library = tmp_path_factory.mktemp("shim") / "nolocks.so"
    source = Path(__file__).with_name("nolocks.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
    return {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": path}


RECORD = """
import fcntl, os, sys
from pathlib import Path
import torch
import replay
from record import Recorder
from replay.schema import OutputError
from locked_recordings import Net, train

torch.set_num_threads(1)
folder = Path(sys.argv[1])
for answer in map(int, sys.argv[2:]):
    os.environ["LOCKS_SAY"] = str(answer)
    try:
        with open(os.devnull) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        raise SystemExit("the file system has locks")
    except OSError as error:
        assert error.errno == answer
    for word in (None, "TRUE", "BEST_EFFORT"):
        os.environ.pop("HDF5_USE_FILE_LOCKING", None)
        if word is not None:
            os.environ["HDF5_USE_FILE_LOCKING"] = word
        path = folder / f"{answer}-{word}.h5"
        model = Net()
        with Recorder(model, path) as recorder:
            train(recorder, model)
            assert recorder.flush()
            try:
                Recorder(Net(), path, overwrite=True)
                raise SystemExit("a second recorder was let in")
            except OutputError as error:
                print(error)
            with replay.open(path) as run:
                print(path.name, len(run.frames), run.lost)
        with Recorder(model, path, resume=True) as recorder:
            train(recorder, model)
        with replay.open(path) as run:
            print(path.name, len(run.frames), run.lost, run.closed)
"""


def test_a_recording_is_made_where_files_cannot_be_locked(
    tmp_path: Path, without_locks: dict[str, str]
) -> None:
    answers = [errno.ENOLCK, errno.EROFS]
    told = python(RECORD, without_locks, tmp_path, *answers).splitlines()
    made = [f"{answer}-{word}.h5" for answer in answers for word in (None, "TRUE", "BEST_EFFORT")]
    assert names(tmp_path) == sorted(made)
    for place, name in enumerate(made):
        refused, live, closed = told[3 * place : 3 * place + 3]
        assert "this process records into it already" in refused
        assert (live, closed) == (f"{name} 3 0", f"{name} 6 0 True")


WRITE = """
import os, sys
from pathlib import Path
from locked_recordings import record_frames
for answer in sys.argv[2:]:
    os.environ["LOCKS_SAY"] = answer
    record_frames(Path(sys.argv[1]) / f"{answer}.h5")
"""


def test_whatever_the_file_system_answers(tmp_path: Path, without_locks: dict[str, str]) -> None:
    python(WRITE, without_locks, tmp_path, *ANSWERS)
    assert names(tmp_path) == sorted(f"{answer}.h5" for answer in ANSWERS)
    for path in tmp_path.iterdir():
        with replay.open(path) as run:
            assert run.frames == [(0, 0), (0, 1), (0, 2)]
            assert run.closed
            assert (run["conv"][0, 2] == 2).all()


READ = """
import os, sys
from pathlib import Path
import replay
from replay.__main__ import main
source, folder = sys.argv[1], sys.argv[2]
for number, answer in enumerate(sys.argv[3:]):
    os.environ["LOCKS_SAY"] = answer
    with replay.open(source) as run:
        assert len(run.frames) == 8
        assert run["conv1"][1, 3].any()
    for command in (["info"], ["verify"], ["health"]):
        assert main([command[0], source, *command[1:]]) == 0, (answer, command)
    if number:
        continue
    for command, *options in (
        ["repair", "-o", "new.h5"], ["export", "-o", "maps.npz"], ["export", "-o", "maps/"],
        ["grid", "-o", "grid.png"], ["sheet", "-o", "sheet.png"], ["animate", "-o", "run.gif"],
        ["animate", "-o", "two.gif", "--jobs", "2"], ["page", "-o", "run.html"],
    ):
        options = [folder + "/" + word if "." in word or "/" in word else word for word in options]
        assert main([command, source, *options]) == 0, (answer, command)
"""


def test_a_recording_is_read_where_files_cannot_be_locked(
    tmp_path: Path, without_locks: dict[str, str]
) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(2, 8, 8)})
    python(READ, without_locks, path, tmp_path, *ANSWERS)
    with replay.open(tmp_path / "new.h5") as run:
        assert len(run.frames) == 8
    told = {**without_locks, "HDF5_USE_FILE_LOCKING": "TRUE", "LOCKS_SAY": str(errno.ENOLCK)}
    for command in ("info", "verify", "health"):
        done = [sys.executable, "-m", "replay", command, path]
        subprocess.run(done, env=told, check=True, stdout=subprocess.DEVNULL)
    repair = [sys.executable, "-m", "replay", "repair", path, "-o", tmp_path / "other.h5"]
    done = subprocess.run(repair, env=told, capture_output=True, text=True)
    assert done.returncode == 2
    assert "set HDF5_USE_FILE_LOCKING=FALSE" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "other.h5").exists()
