"""What is pushed into a tracker is read back with that tracker's own package: bytes, steps, numbers."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.schema import OptionError, RecordingError
from replay.schema.destinations import TRACKERS, read_destination
from replay.schema.holders import holder_of
from replay.trackers import following

HERE = Path(__file__).parent
EPOCHS, BATCHES = 3, 2
LAYERS = {"conv1": drifting_maps(3, 8, 8), "conv2": drifting_maps(2, 4, 4, seed=1)}
# Film, sheet and page in each: how its own package calls what it has.
KINDS = {
    "tensorboard": ("image", "image", "text"),
    "wandb": ("video-file", "image-file", "html-file"),
    "mlflow": (".mp4", ".png", ".html"),
    "aim": ("gif", "png", "artifact"),
    "trackio": ("trackio.video", "trackio.image", "trackio.html"),
}
OPTIONS = {"layers": "conv1", "channels": "0,2", "epochs": "0:2", "fps": 4, "title": "A run"}
WORDS = ["--layer", "conv1", "--channels", "0,2", "--epochs", "0:2", "--fps", "4"]
WORDS += ["--title", "A run", "--quiet"]


def skip_without(tracker: str) -> None:
    if importlib.util.find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed; pip install 'mapreel[{tracker}]'")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        LAYERS,
        epochs=EPOCHS,
        batches=BATCHES,
        fields={
            "lr": lambda e, b: 0.1 / (e + 1),
            "accuracy": lambda e, b: 0.5 if b else float("nan"),  # logged now and then
            "step": lambda e, b: 10 * (e * BATCHES + b),  # every tenth batch is recorded
        },
    )


def where_of(tracker: str, folder: Path) -> tuple[str, str]:
    """What is pushed to, and what `read_back.py` is told of it."""
    ways = {
        "tensorboard": (f"tensorboard={folder / 'logs'}", str(folder / "logs")),
        "wandb": ("wandb=proj", str(folder)),
        "mlflow": (f"mlflow=sqlite:///{folder}/ml.db", f"sqlite:///{folder}/ml.db"),
        "aim": (f"aim={folder / 'repo'}", str(folder / "repo")),
        "trackio": ("trackio=proj", str(folder / "trackio")),
    }
    return ways[tracker]


def environment(folder: Path) -> dict[str, str]:
    offline = {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "TRACKIO_DIR": str(folder / "trackio"),
    }
    return {**os.environ, **offline, "MPLBACKEND": "agg"}


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def read_back(tracker: str, folder: Path) -> dict[str, Any]:
    done = call(folder, str(HERE / "read_back.py"), tracker, where_of(tracker, folder)[1])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("tracker", KINDS)
def test_what_was_pushed_is_there_to_the_byte_and_at_its_step(
    tracker: str, run: Path, tmp_path: Path
) -> None:
    skip_without(tracker)
    words = ["--to", where_of(tracker, tmp_path)[0], "--to", f"folder={tmp_path / 'out'}"]
    done = call(tmp_path, "-m", "replay", "push", str(run), *words, *WORDS)
    assert f"numbers of {EPOCHS * BATCHES} batches" in done.stdout.splitlines()[-1]

    found = read_back(tracker, tmp_path)
    film = tmp_path / "out" / "film.mp4"
    if tracker in ("tensorboard", "aim"):  # which have no video
        film = replay.animate(run, tmp_path / "film.gif", **OPTIONS).path
    made = [film, tmp_path / "out" / "sheet.png", tmp_path / "out" / "page.html"]
    last = 10 * (2 * BATCHES - 1)  # the last batch of epoch 1
    for path, kind in zip(made, KINDS[tracker], strict=True):
        step, sha256, found_kind = found["files"].pop(f"mapreel/{path.stem}")
        assert (sha256, found_kind) == (digest(path), kind)
        assert step in (last, None)
        assert step == last or tracker == "mlflow" or kind == "artifact"  # which know no steps
    assert not found["files"]
    each = {f"mapreel/{kind}": last for kind in ("film", "sheet", "page")}
    stepped = {"mlflow": each, "aim": {"mapreel/page": last}}
    assert found["stepped"] == stepped.get(tracker, {})

    steps = [10 * place for place in range(EPOCHS * BATCHES)]
    losses = [2.3 * 0.9**place for place in range(EPOCHS * BATCHES)]
    named = found["scalars"]
    assert [step for step, _ in named["mapreel/loss"]] == steps
    assert [value for _, value in named["mapreel/loss"]] == pytest.approx(losses, rel=1e-6)
    assert [step for step, _ in named["mapreel/accuracy"]] == steps[1::2]
    assert set(named) == {f"mapreel/{name}" for name in ("epoch", "loss", "lr", "accuracy")}


@pytest.mark.parametrize("tracker", KINDS)
def test_a_second_push_leaves_what_is_there_readable(
    tracker: str, run: Path, tmp_path: Path
) -> None:
    skip_without(tracker)
    to = where_of(tracker, tmp_path)[0]
    for _ in range(2):
        call(tmp_path, "-m", "replay", "push", str(run), "--to", to, "--only", "scalars", "--quiet")
    if tracker == "tensorboard":  # where the event files of the first push are replaced
        assert len(list((tmp_path / "logs" / "run").glob("events.*"))) == 1


def test_a_folder_has_the_files_and_the_numbers(run: Path, tmp_path: Path) -> None:
    pushed = replay.push(run, to=f"folder={tmp_path / 'out'}", **OPTIONS)
    film = replay.animate(run, tmp_path / "film.mp4", **OPTIONS)
    assert digest(tmp_path / "out" / "film.mp4") == digest(film.path) == pushed.files[0].sha256
    with (tmp_path / "out" / "scalars.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 10, 20, 30, 40, 50]
    assert rows[0]["accuracy"] == ""
    assert [each.kind for each in pushed.files] == ["film", "sheet", "page"]


def test_what_is_sent_is_told_in_bytes(run: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    pushed = replay.push(
        run, to=f"folder={tmp_path / 'out'}", sending=lambda *now: told.append(now), **OPTIONS
    )
    total = sum(each.bytes for each in pushed.files)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    told.clear()
    copied = replay.push(run, to="memory://a/run.h5", sending=lambda *now: told.append(now))
    assert told[-1] == (run.stat().st_size, run.stat().st_size)
    assert copied.in_words() == "the recording"


def test_only_what_was_asked_for_is_pushed(run: Path, tmp_path: Path) -> None:
    pushed = replay.push(run, to=f"folder={tmp_path / 'out'}", only="sheet", layers="all")
    assert [each.name for each in pushed.files] == ["sheet-conv1", "sheet-conv2"]
    assert not pushed.points
    with pytest.raises(OptionError, match="unknown part 'movie'"):
        replay.push(run, to=f"folder={tmp_path / 'out'}", only="movie")


def test_the_event_files_of_a_training_are_joined(run: Path, tmp_path: Path) -> None:
    skip_without("tensorboard")
    theirs = tmp_path / "logs" / "events.out.tfevents.1.host.2.0"
    theirs.parent.mkdir()
    theirs.write_bytes(b"")
    pushed = replay.push(run, to=f"tensorboard={tmp_path / 'logs'}", only="scalars")
    assert pushed.where == (str(tmp_path / "logs"),)
    assert theirs.exists()


def test_what_cannot_be_made_is_left_out_and_said(run: Path, tmp_path: Path) -> None:
    with h5py.File(run, "r+") as file:
        for name in LAYERS:
            del file[f"ranges/{name}"]
    pushed = replay.push(run, to=f"folder={tmp_path / 'out'}", fps=4, max_mb=0.0001)
    assert [each.kind for each in pushed.files] == ["sheet", "page"]
    assert any(each.startswith("no film: ") for each in pushed.remarks)


def test_unknown_trackers_and_options_are_named(run: Path) -> None:
    with pytest.raises(OptionError, match=r"unknown tracker 'wanbd'.*did you mean 'wandb'"):
        replay.push(run, to="wanbd")
    with pytest.raises(OptionError, match=r"tensorboard: expected tensorboard=DIR"):
        replay.push(run, to="tensorboard")
    with pytest.raises(OptionError, match=r"no option 'laier'.*did you mean 'layer'"):
        replay.push(run, to="wandb", laier="conv1")
    with pytest.raises(
        OptionError, match="expected a tracker, such as wandb=PROJECT, or a run of one; found int"
    ):
        replay.push(run, to=3)


@pytest.mark.parametrize("tracker", [name for name in TRACKERS if name != "folder"])
def test_a_missing_package_is_named_with_its_pip_line(
    tracker: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.schema.destinations.find_spec", lambda name: None)
    with pytest.raises(OptionError, match=rf"{tracker}: not installed; pip install 'mapreel\["):
        replay.push(run, to=f"{tracker}=here")


def test_the_words_of_a_destination() -> None:
    assert str(read_destination("wandb")) == "wandb"
    assert read_destination("mlflow=sqlite:///a=b.db").value == "sqlite:///a=b.db"


def test_each_epoch_is_pushed_while_the_training_goes_on(tmp_path: Path) -> None:
    """A writer appends epochs; each is pushed once it has ended, and the last when it is closed."""
    source = write_recording(
        tmp_path / "source.h5", {"conv1": LAYERS["conv1"]}, epochs=EPOCHS, batches=BATCHES
    )
    path = tmp_path / "run.h5"
    pushed: list[replay.trackers.pushing.Pushed] = []
    done = threading.Event()

    def follow() -> None:
        pushed.append(replay.push(path, to=f"folder={tmp_path / 'out'}", follow=True, fps=4))
        done.set()

    with h5py.File(source) as original, h5py.File(path, "x", libver=("v110", "v110")) as file:
        for name in original:
            original.copy(name, file)
        for name, value in original.attrs.items():
            file.attrs[name] = value
        file["state"][:] = [1, 0, 0, 0]
        file.swmr_mode = True
        thread = threading.Thread(target=follow)
        thread.start()
        for committed in range(2, EPOCHS * BATCHES + 1):
            file["state"][0] = committed
            file.flush()
            time.sleep(1.0 if committed % BATCHES == 1 else 0)  # a new epoch has begun
            if committed == BATCHES + 1:
                film = tmp_path / "out" / "film.mp4"
                deadline = time.monotonic() + 60
                while not film.exists() and time.monotonic() < deadline:
                    time.sleep(0.1)
                assert film.exists(), "epoch 0 has ended"
        assert not done.is_set()
        file["state"][3] = 1
        file.flush()
    assert done.wait(60)
    thread.join()
    steps = [each.step for each in pushed[0].files if each.kind == "film"]
    assert steps[0] == 1
    assert steps[-1] == EPOCHS * BATCHES - 1
    assert pushed[0].points == EPOCHS * BATCHES


TRAINING = """
import os, signal, sys, time
import numpy as np
from record import Writer
with Writer(sys.argv[1]) as writer:
    for epoch in range(2):
        for batch in range(2):
            writer.write(epoch=epoch, batch=batch, maps={"conv1": np.ones((2, 4, 4), "f2")})
    print("ready", flush=True)
    sys.stdin.read()
"""


def committed_in(path: Path) -> int:
    try:
        with replay.open(path) as run:
            return len(run.frames)
    except RecordingError:  # it is about to be made
        return 0


def test_a_writer_that_was_killed_ends_what_follows_it(tmp_path: Path) -> None:
    """In one line, once all that it left was pushed: the epoch in the middle of which it was."""
    path = tmp_path / "run.h5"
    pushed: list[replay.trackers.pushing.Pushed] = []
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as training:
        assert training.stdout is not None
        assert training.stdout.readline() == "ready\n"
        lock = Path(f"{path}.lock")
        deadline = time.monotonic() + 60
        while committed_in(path) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        thread = threading.Thread(
            target=lambda: pushed.append(
                replay.push(path, to=f"folder={tmp_path / 'out'}", follow=True, only="scalars")
            )
        )
        thread.start()
        time.sleep(1)
        assert thread.is_alive()
        holder = holder_of(path)
        assert holder is not None
        os.kill(holder.pid, signal.SIGKILL)
        thread.join(60)
        training.kill()
    assert lock.exists()
    assert pushed[0].points == 4
    assert pushed[0].remarks == (
        f"{path} was not closed: its writer was killed, and nothing more comes; "
        "followed to epoch 1",
    )


def test_a_writer_elsewhere_is_gone_when_it_no_longer_shows_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = following.WriterWatch(tmp_path / "run.h5")
    assert not watch.is_gone()  # nothing is known
    holder = {"host": "other", "space": "x", "pid": 1, "began": "", "locked": False}
    lock = tmp_path / "run.h5.lock"
    lock.write_text(json.dumps(holder))
    assert not watch.is_gone()
    monkeypatch.setattr(following, "_ABSENT_SECONDS", 0.0)
    assert watch.is_gone()
    os.utime(lock, (1, 1))
    monkeypatch.setattr(following, "_ABSENT_SECONDS", 60.0)
    assert not watch.is_gone()
