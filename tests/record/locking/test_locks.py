"""Recording and reading where files cannot be locked, or where somebody else has locked them."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from samples import drifting_maps, write_recording
from torch import nn

import replay
from record import Recorder
from record.locking import lock
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.writer_process import WriterProcess
from record.writer import __main__ as writer
from record.writer import recording_file
from record.writer.recording_file import RecordingFile
from replay.__main__ import main
from replay.schema import FORMAT, VERSION, Layer, OutputError

ROOT = Path(__file__).parents[3]
ABOUT = {"format": FORMAT, "version": VERSION, "run_id": "", "created": "now", "meta": "{}"}
# What a lock is answered with by NFS without its daemon, a read-only mount, FUSE and others.
ANSWERS = [
    *(errno.ENOLCK, errno.EROFS, errno.EOPNOTSUPP, errno.EINVAL),
    *(errno.ENOSYS, errno.EIO, errno.EPERM),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def train(recorder: Recorder, model: nn.Module, batches: int = 3) -> None:
    for images in recorder.track([torch.ones(1, 3, 8, 8)] * batches):
        model(images)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


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


def python(code: str, environment: dict[str, str], *arguments: object) -> str:
    """What a process of its own prints; its errors are those of the test."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


RECORD = """
import fcntl, os, sys
from pathlib import Path
import torch
import replay
from record import Recorder
from replay.schema import OutputError
from test_locks import Net, train

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
from test_locks import record_frames
for answer in sys.argv[2:]:
    os.environ["LOCKS_SAY"] = answer
    record_frames(Path(sys.argv[1]) / f"{answer}.h5")
"""


def record_frames(path: Path, frames: int = 3, **options: Any) -> RecordingFile | None:
    file = RecordingFile(str(path), options.pop("overwrite", False), ABOUT, **options)
    layout = BatchLayout((), (Layer("conv", "Conv2d()", (2, 4, 4)),))
    file.set_layout(layout, None)
    for number in range(frames):
        header = messages.FrameHeader(0, number, number, 0.0)
        file.write([header], np.full((1, layout.size), number, np.float16))
    file.close()
    return None


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


# A lock where the file system has none: the lock file itself.


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


@pytest.mark.parametrize("text", [b"", b"{", b"[1, 2]", b'{"pid": 1e999}', b"\xff" * 5000])
def test_a_lock_file_that_says_nothing_is_nobodys(
    tmp_path: Path, no_flock: None, text: bytes
) -> None:
    (tmp_path / "run.h5.lock").write_bytes(text)
    record_frames(tmp_path / "run.h5")
    assert names(tmp_path) == ["run.h5"]


# A start that is refused.


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
    about = {**ABOUT, "meta": "a\0b"}
    for overwrite, name in ((True, path), (False, tmp_path / "other.h5")):
        with pytest.raises(ValueError, match="embedded NULL"):
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


# Two recorders of one process.


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
            "import sys; from test_locks import *\n"
            "for options in WAYS[1:]:\n"
            "    try: Recorder(Net(), sys.argv[1], **options)\n"
            "    except OutputError as error: print(error)\n"
        )
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent))),
        }
        for line in python(code, environment, path).splitlines():
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
