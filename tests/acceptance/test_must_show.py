"""The default run from end to end: what the product promises, on one real training run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import h5py
import imageio_ffmpeg
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import replay
from record import Recorder
from record.__main__ import main as record_main
from record.training.loop import train
from record.training.settings import Settings
from record.training.setup import prepare

pytestmark = pytest.mark.slow

EPOCHS, BATCHES = 5, 60


@dataclass
class Trained:
    path: Path
    accuracy: float
    weights: dict[str, torch.Tensor]
    seen: list[np.ndarray]  # conv1's output for each batch's first image, by an independent hook


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`python -m record train` with its defaults, watched by a hook that is not ours."""
    path = tmp_path_factory.mktemp("demo") / "run.h5"
    run = prepare(Settings(device="cpu"))
    seen: list[np.ndarray] = []

    def watch(module: torch.nn.Module, args: object, output: torch.Tensor) -> None:
        if module.training:
            seen.append(output[0].detach().clone().to(torch.float16).numpy())

    run.model.conv1.register_forward_hook(watch)
    with Recorder(run.model, path, metadata=run.metadata()) as recorder:
        accuracy = train(run, recorder)
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}
    return Trained(path, accuracy, weights, seen)


def test_a_budget_keeps_the_default_run_small(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    command = ["train", "--budget", "20MB", "--device", "cpu", "--quiet", "-o", str(path)]
    assert record_main(command) == 0
    assert path.stat().st_size <= 20_000_000
    with replay.open(path) as small, replay.open(trained.path) as full:
        assert small.frames[0] == (0, 0)
        assert small.frames[-1] == (EPOCHS - 1, BATCHES - 1)
        assert {epoch for epoch, _ in small.frames} == set(range(EPOCHS))
        for at in small.frames:  # the probe, recorded here alone, has left no trace
            assert small["conv3"][at].tobytes() == full["conv3"][at].tobytes()
        assert small.probe(0).frames == small.frames


def test_it_learns(trained: Trained) -> None:
    assert trained.accuracy >= 0.8


def test_the_file_is_what_plain_h5py_expects(trained: Trained) -> None:
    with h5py.File(trained.path, "r") as file:
        maps = file["maps/conv1"]
        assert maps.dtype == np.float16
        assert maps.shape == (EPOCHS, BATCHES, 12, 128, 128)
        assert maps.chunks == (1, 1, 12, 128, 128)
        assert list(file["state"][:4]) == [EPOCHS * BATCHES, 0, 0, 1]


def test_every_frame_is_what_the_layer_put_out(trained: Trained) -> None:
    assert len(trained.seen) == EPOCHS * BATCHES
    with replay.open(trained.path) as run:
        for (epoch, batch), expected in zip(run.frames, trained.seen, strict=True):
            np.testing.assert_array_equal(
                run["conv1"][epoch, batch].view(np.uint16), expected.view(np.uint16)
            )


def test_weights_equal_those_of_a_run_without_recording(trained: Trained) -> None:
    run = prepare(Settings(device="cpu"))
    accuracy = train(run)
    assert accuracy == trained.accuracy
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, trained.weights[name]), name


def test_the_animation_has_a_frame_a_batch_and_plays(trained: Trained, tmp_path: Path) -> None:
    made = replay.animate(trained.path, tmp_path / "run.mp4", zoom=1)
    film = _decode(made.path, made.width, made.height)
    assert len(film) == made.frames == EPOCHS * BATCHES
    assert min(frame.std() for frame in film) > 10  # none is blank


def test_gif_and_mp4_show_the_recorded_values(trained: Trained, tmp_path: Path) -> None:
    asked = {"zoom": 1, "epochs": "0,4", "batches": "::30", "cmap": "viridis"}
    replay.animate(trained.path, tmp_path / "run.gif", clip=(-2.0, 2.0), **asked)
    made = replay.animate(trained.path, tmp_path / "run.mp4", clip=(-2.0, 2.0), **asked)
    replay.animate(trained.path, f"{tmp_path}/frames/", clip=(-2.0, 2.0), **asked)

    levels = 168  # of a GIF, as the README says
    table = matplotlib.colormaps["viridis"](np.linspace(0, 1, levels), bytes=True)[:, :3]
    with Image.open(tmp_path / "run.gif") as image:
        gif = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    cells = [(0, 0), (0, 30), (4, 0), (4, 30)]
    assert len(gif) == len(cells)
    for picture, (epoch, batch) in zip(gif, cells, strict=True):
        maps = trained.seen[epoch * BATCHES + batch].astype(np.float64)
        place = np.clip(np.rint((maps + 2) / 4 * (levels - 1)), 0, levels - 1).astype(int)
        for channel in range(12):
            assert _contains(picture, table[place[channel]]), (epoch, batch, channel)

    film = _decode(made.path, made.width, made.height)
    assert len(film) == len(cells)
    for number, frame in enumerate(film):
        with Image.open(tmp_path / "frames" / f"{number:06}.png") as image:
            still = np.array(image.convert("RGB"), np.int16)
        assert np.abs(frame - still).mean() < 4


def _decode(path: Path, width: int, height: int) -> np.ndarray:
    """Every frame of a film as a player shows it, uint8 (frames, height, width, 3)."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def _contains(picture: np.ndarray, block: np.ndarray) -> bool:
    """Whether the block stands in the picture, pixel for pixel."""
    height, width = block.shape[:2]
    corner = (picture[: -height + 1, : -width + 1] == block[0, 0]).all(axis=2)
    corner &= (picture[height - 1 :, width - 1 :] == block[-1, -1]).all(axis=2)
    middle = block[height // 2, width // 2]
    shifted = picture[height // 2 :, width // 2 :][: corner.shape[0], : corner.shape[1]]
    corner &= (shifted == middle).all(axis=2)
    return any(
        np.array_equal(picture[y : y + height, x : x + width], block)
        for y, x in np.argwhere(corner)
    )
