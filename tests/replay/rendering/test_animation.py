from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import matplotlib
import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.film.film import Film
from replay.maps.selection import choose_layers
from replay.options import FilmOptions
from replay.schema import FileError, OptionError, OutputError, SelectionError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    layers = {
        "conv1": drifting_maps(6, 16, 12),
        "layer1.0.conv": drifting_maps(3, 8, 8),
        "layer1.1.conv": drifting_maps(9, 4, 4),
    }
    return write_recording(tmp_path / "run.h5", layers, epochs=2, batches=5)


def levels_of(maps: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """The scaling once more, from the float16 data and independent of replay."""
    place = (maps.astype(np.float64) - low) / (high - low)
    return np.clip(np.rint(place * (count - 1)), 0, count - 1).astype(int)


@pytest.mark.parametrize(
    ("suffix", "count"), [(".gif", 168), (".png", 240), (".webp", 240), ("/", 240)]
)
def test_every_pixel_of_every_map_is_exact(
    run: Path, tmp_path: Path, suffix: str, count: int
) -> None:
    out = f"{tmp_path}/out{suffix}"
    made = replay.animate(run, out, cmap="viridis", clip=(-1.5, 1.5), columns=3)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, count), bytes=True)[:, :3]
    film = Film(replay.open(run), FilmOptions(layers=["conv1"], clip=(-1.5, 1.5), columns=3))
    assert (made.height, made.width) == film.size
    assert made.frames == 10
    (top, left), mosaic = film.layout.mosaic_corners[0], film.panels[0].mosaic
    maps = drifting_maps(6, 16, 12)
    for number, (epoch, batch) in enumerate(film.cells):
        name = f"{out}{number:06}.png" if suffix == "/" else out
        with Image.open(name) as image:
            image.seek(0 if suffix == "/" else number)
            frame = np.array(image.convert("RGB"))
        expected = colours[levels_of(maps(epoch, batch), -1.5, 1.5, count)]
        for place in range(6):
            y, x = mosaic.corner(place)
            height, width = mosaic.tile
            tile = frame[top + y : top + y + height, left + x : left + x + width]
            z = mosaic.zoom
            np.testing.assert_array_equal(tile, expected[place].repeat(z, 0).repeat(z, 1))


def test_mp4_agrees_with_the_numbered_frames(run: Path, tmp_path: Path) -> None:
    made = replay.animate(run, cmap="viridis")
    assert made.path == run.with_suffix(".mp4")
    assert made.bytes == made.path.stat().st_size
    replay.animate(run, f"{tmp_path}/frames/", cmap="viridis")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", made.path, "-f", "rawvideo"]
    raw = subprocess.check_output([*command, "-pix_fmt", "rgb24", "-"])
    decoded = np.frombuffer(raw, np.uint8).reshape(-1, made.height * made.width * 3)
    assert len(decoded) == made.frames == 10
    for number, frame in enumerate(decoded):
        with Image.open(tmp_path / "frames" / f"{number:06}.png") as image:
            right = np.array(image.convert("RGB")).reshape(-1)
        assert np.abs(frame.astype(int) - right).mean() < 4


def test_frames_channels_and_layers_are_those_asked_for(run: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    with replay.open(run) as recording:
        made = replay.animate(
            recording,
            tmp_path / "out.gif",
            layers=["layer1.*", "conv1"],
            channels="top:2",
            epochs=1,
            batches="0:5:2",
            zoom=1,
            fps=1000 / 70,
            theme="dark",
            progress=lambda done, total: calls.append((done, total)),
        )
        assert recording.layers  # still open
    assert (made.frames, calls) == (3, [(1, 3), (2, 3), (3, 3)])
    assert made.fps == pytest.approx(100 / 7)
    with Image.open(made.path) as image:
        assert image.n_frames == 3
        assert image.info["duration"] == 70


def test_layers_by_name_glob_and_all(run: Path) -> None:
    with replay.open(run) as recording:
        assert choose_layers(recording, None) == ["conv1"]
        assert choose_layers(recording, "all") == list(recording.layers)
        assert choose_layers(recording, "layer1.*") == ["layer1.0.conv", "layer1.1.conv"]
        assert choose_layers(recording, ["layer1.1.conv", "*conv"])[0] == "layer1.1.conv"
        with pytest.raises(SelectionError, match=r"no layer 'conv2' .* conv1"):
            choose_layers(recording, "conv2")
        with pytest.raises(SelectionError, match="no layer was chosen"):
            choose_layers(recording, [])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"out": "x.avi"}, OutputError),
        ({"out": "no/x.mp4"}, OutputError),
        ({"cmap": "vridis"}, OptionError),
        ({"codec": "h266"}, OptionError),
        ({"fps": 0}, OptionError),
        ({"crf": 99}, OptionError),
        ({"zoom": 5000}, OptionError),
        ({"layers": "nope"}, SelectionError),
        ({"channels": "6"}, SelectionError),
        ({"epochs": "x"}, OptionError),
        ({"recording": "missing.h5"}, FileError),
    ],
)
def test_nothing_is_left_behind_by_what_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], error: type[Exception]
) -> None:
    monkeypatch.chdir(run.parent)
    with pytest.raises(error) as caught:
        replay.animate(**{"recording": run, **options})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert os.listdir(run.parent) == ["run.h5"]


def test_an_unfinished_recording_plays_what_is_committed(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 6, 6)},
        recorded=lambda e, b: (e, b) < (1, 2),
        closed=False,
    )
    assert replay.animate(path, tmp_path / "a.webp").frames == 6
    empty = write_recording(
        tmp_path / "empty.h5", {"conv1": drifting_maps(2, 6, 6)}, recorded=lambda e, b: False
    )
    with pytest.raises(FileError, match="no frame was committed"):
        replay.animate(empty, tmp_path / "b.mp4")


def test_no_pyplot_and_no_torch_is_imported(run: Path) -> None:
    program = (
        "import sys, replay; replay.animate(sys.argv[1]);"
        "bad = {'torch', 'matplotlib.pyplot', 'record'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program, run], check=True)


def test_the_recording_is_never_the_target(run: Path) -> None:
    recording = run.rename(run.with_suffix(".mp4"))
    before = recording.read_bytes()
    with pytest.raises(OutputError, match="the recording itself"):
        replay.animate(recording)
    assert recording.read_bytes() == before


@pytest.mark.parametrize("whom", ["the group", "the process"])
def test_ctrl_c_leaves_neither_files_nor_processes(tmp_path: Path, whom: str) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"conv1": drifting_maps(12, 64, 64)}, epochs=1, batches=60
    )
    program = (
        "import sys, replay;"
        "replay.animate(sys.argv[1], sys.argv[2], progress=lambda *at: print(*at, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, path, tmp_path / "run.webp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Whoever runs the tests in the background may have had SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"1 60\n"
    if whom == "the group":  # as a terminal sends it
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)  # ends only when ffmpeg has ended, too
    assert process.returncode != 0
    assert os.listdir(tmp_path) == ["run.h5"]


@pytest.mark.parametrize(("epochs", "batches"), [(1, 1), (120, 2)])
def test_runs_of_any_length_have_a_picture(tmp_path: Path, epochs: int, batches: int) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 6, 6)},
        epochs=epochs,
        batches=batches,
        image=(1, 4, 4),
        fields={"loss": lambda e, b: (1.0, np.nan, np.inf, 1e30, -2.0)[(e + b) % 5]},
    )
    made = replay.animate(path, tmp_path / "out.gif", epochs=slice(None, None, 11), zoom=2)
    assert made.frames == -(-epochs // 11) * batches
