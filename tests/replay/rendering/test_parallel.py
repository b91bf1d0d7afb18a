"""Parts rendered in other processes are the frames that one process renders."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.schema import EncodeError, OptionError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """57 frames, of which the layer `late` has none at first, and none at a cut."""
    late = drifting_maps(2, 9, 9, seed=3)
    return write_recording(
        tmp_path_factory.mktemp("run") / "run.h5",
        {
            "conv": drifting_maps(3, 12, 12),
            "late": lambda e, b: (
                None if (e == 0 and b < 4) or 25 <= 19 * e + b < 33 else late(e, b)
            ),
        },
        epochs=3,
        batches=19,
    )


def pictures(path: Path) -> list[tuple[bytes, object]]:
    """Each frame's pixels, and how long it stays."""
    if path.is_dir():
        return [(np.array(Image.open(p)).tobytes(), p.name) for p in sorted(path.iterdir())]
    found = []
    with Image.open(path) as image:
        for number in range(image.n_frames):
            image.seek(number)
            found.append((image.convert("RGB").tobytes(), image.info.get("duration")))
    return found


@pytest.mark.parametrize(
    ("name", "scale", "captions"),
    [
        ("run.gif", "frame", True),
        ("run.webp", "run", False),
        ("run.apng", "frame", False),
        ("run/", "frame", True),
    ],
)
def test_processes_render_the_same_frames(
    run: Path, tmp_path: Path, name: str, scale: str, captions: bool
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    options: dict[str, Any] = {"layers": "all", "scale": scale, "zoom": 1, "captions": captions}
    one = replay.animate(run, f"{tmp_path}/one/{name}", jobs=1, **options)
    told: list[tuple[int, int]] = []
    many = replay.animate(
        run, f"{tmp_path}/many/{name}", jobs=2, progress=lambda *at: told.append(at), **options
    )
    assert one.frames == many.frames == 57
    assert told == [(done, 57) for done in range(1, 58)]
    assert pictures(one.path) == pictures(many.path)
    assert len(pictures(one.path)) == 57
    assert [path.name for path in (tmp_path / "many").iterdir()] == [Path(name).name]


def packets(path: Path) -> list[tuple[str, ...]]:
    """When each picture of a video is decoded and shown, and for how long."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-c", "copy"]
    done = subprocess.run([*command, "-f", "framecrc", "-"], capture_output=True, check=True)
    lines = [line for line in done.stdout.decode().splitlines() if not line.startswith("#")]
    return [tuple(part.strip() for part in line.split(",")[:4]) for line in lines]


def decoded(path: Path) -> np.ndarray:
    """The brightness of each frame, uint8 (frames, H * W)."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo"]
    done = subprocess.run([*command, "-pix_fmt", "gray", "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(520, -1)


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_a_video_of_parts_has_every_frame_at_its_time(tmp_path: Path, codec: str) -> None:
    def blocks(epoch: int, batch: int) -> np.ndarray:  # nothing of one frame is in the next
        return np.random.default_rng((epoch, batch)).integers(0, 2, (1, 8, 8)).astype("f2")

    path = write_recording(tmp_path / "run.h5", {"conv": blocks}, epochs=2, batches=260, image=None)
    options: dict[str, Any] = {"zoom": 8, "captions": False, "codec": codec}
    one = replay.animate(path, tmp_path / "one.mp4", jobs=1, **options)
    two = replay.animate(path, tmp_path / "two.mp4", jobs=2, **options)
    assert one.frames == two.frames == 520
    assert sorted(at[2] for at in packets(one.path)) == sorted(at[2] for at in packets(two.path))
    first, second = (decoded(made.path).astype(np.int16) for made in (one, two))
    # Both are as near to the frames as the codec is, and no frame has taken another's place.
    assert np.abs(first - second).mean(axis=1).max() < 8
    assert np.abs(first[1:] - second[:-1]).mean(axis=1).min() > 20


class Spy(Executor):
    """Hands on to another executor, and weighs what is sent."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.sent: list[int] = []

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sent.append(len(pickle.dumps((call, args, kwargs))))
        return self.executor.submit(call, *args, **kwargs)


@contextmanager
def dask() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its web pages lack
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client


def test_any_executor_renders_the_same_frames(run: Path, tmp_path: Path) -> None:
    one = replay.animate(run, tmp_path / "one.gif", jobs=1, zoom=1)
    spawn = multiprocessing.get_context("spawn")
    for executor in (ThreadPoolExecutor(2), ProcessPoolExecutor(2, mp_context=spawn)):
        with executor:
            other = replay.animate(run, tmp_path / "other.gif", executor=executor, zoom=1)
        assert pictures(other.path) == pictures(one.path)


@pytest.mark.parametrize("name", ["run.mp4", "run.gif", "run.webp", "run.apng", "run/"])
def test_an_executor_renders_a_single_frame(tmp_path: Path, name: str) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"conv": drifting_maps(2, 8, 8)}, epochs=1, batches=1
    )
    with ThreadPoolExecutor(1) as executor:
        made = replay.animate(path, f"{tmp_path}/{name}", executor=executor)
    assert made.frames == 1
    assert made.bytes > 100


def test_a_cluster_renders_the_same_frames(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = replay.animate(run, tmp_path / "one.webp", jobs=1, zoom=1)
    with dask() as client:
        spy = Spy(client.get_executor(pure=False))
        other = replay.animate(run, tmp_path / "other.webp", executor=spy, zoom=1)
        assert pictures(other.path) == pictures(one.path)
        assert len(spy.sent) == 5
        assert max(spy.sent) < 1000  # a path and two numbers: no frame passes the scheduler
        assert {part["status"] for part in client.run(_alive).values()} == {"running"}

        address = client.scheduler.address
        words = ["animate", str(run), "-o", str(tmp_path / "third.webp"), "--zoom", "1"]
        assert main([*words, "--executor", f"dask={address}"]) == 0
        assert pictures(tmp_path / "third.webp") == pictures(one.path)

        # The runs of a sweep: each worker renders whole animations.
        outs = [tmp_path / f"sweep{number}.gif" for number in range(3)]
        sweep = client.get_executor(pure=False)
        for made in sweep.map(replay.animate, [run] * 3, outs):
            assert made.frames == 57


def _alive() -> dict[str, str]:
    return {"status": "running"}


def test_a_damaged_frame_in_a_part_is_told(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv": drifting_maps(3, 8, 8)}, batches=15)
    with h5py.File(path, "r+") as file:
        file["checksums/conv"][1, 12] += 1
    one = replay.animate(path, tmp_path / "one.webp", jobs=1, captions=False)
    two = replay.animate(path, tmp_path / "two.webp", jobs=2, captions=False)
    assert one.remarks == two.remarks
    assert "damaged" in two.remarks[-1]
    assert pictures(one.path) == pictures(two.path)


def test_what_fails_leaves_the_target_alone(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "run.webp"
    target.write_bytes(b"precious")

    class Broken(Executor):
        def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(RuntimeError("the worker is gone"))
            return future

    class Elsewhere(Executor):
        """Another computer: it has no such folder."""

        def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            done = ThreadPoolExecutor(1).submit(call, *args)
            result = done.result()
            args[0].out.unlink()
            future.set_result(result)
            return future

    with pytest.raises(EncodeError, match="a worker failed: the worker is gone"):
        replay.animate(run, target, executor=Broken(), overwrite=True)
    with pytest.raises(EncodeError, match="the workers need"):
        replay.animate(run, target, executor=Elsewhere(), overwrite=True)
    for wrong in ({"jobs": 0}, {"jobs": 2, "executor": Broken()}):
        with pytest.raises(OptionError, match="jobs"):
            replay.animate(run, target, overwrite=True, **wrong)  # type: ignore[arg-type]
    assert target.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["run.webp"]


def test_a_recording_that_goes_away_is_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.h5"
    copy.write_bytes(run.read_bytes())
    with replay.open(copy) as recording:
        copy.unlink()
        with pytest.raises(replay.RecordingError, match="no such file"):
            replay.animate(recording, tmp_path / "out.webp", jobs=2)


def test_a_script_without_a_main_guard(run: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, replay\n"
        "print(replay.animate(sys.argv[1], sys.argv[2], jobs=2, zoom=1).frames)\n"
    )
    out = tmp_path / "out.gif"
    done = subprocess.run(
        [sys.executable, str(script), str(run), str(out)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=True,
    )
    assert done.stdout == "57\n"


def test_executors_on_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["animate", str(run), "--executor", "ray=1"]) == 2
    assert "expected dask=tcp://host:port" in capsys.readouterr().err
    assert main(["animate", str(run), "--jobs", "2", "--executor", "dask=tcp://x:1"]) == 2
    assert "not allowed with" in capsys.readouterr().err
