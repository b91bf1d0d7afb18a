"""The recordings that the frozen results are made of: exact binary fractions, no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from samples import write_recording
from values_in_file import find_value

Maps = Callable[[int, int], np.ndarray]
CLASSES = ["cat", "dog", "<bird> & 鳥"]


def waves(*shape: int, seed: int = 0) -> Maps:
    """Triangular waves, a pace for each axis, and noise: multiples of 1/64, exact in float16."""

    def maps(epoch: int, batch: int) -> np.ndarray:
        axes = np.indices(shape)
        first = axes[0] if len(shape) else 0
        place = sum(((2 + first + n) * axis for n, axis in enumerate(axes[1:])), 3 * first)
        wave = np.abs((place + 5 * epoch + 2 * batch + 7 * seed) % 16 - 8) - 4
        noise = np.random.default_rng((seed, epoch, batch)).integers(-8, 9, shape)
        return (wave * (4 + epoch) / 16 + noise / 64).astype("f2")

    return maps


def rectified(channels: int, height: int, width: int) -> Maps:
    """Of which channel 1 is dead from epoch 1 on, 2 always one value and 4 like 3."""

    def maps(epoch: int, batch: int) -> np.ndarray:
        found = np.maximum(waves(channels, height, width, seed=5)(epoch, batch), 0)
        found[2] = 0.5
        found[4] = found[3]
        if epoch:
            found[1] = 0
        return found

    return maps


def not_finite(epoch: int, batch: int) -> np.ndarray:
    """NaN in one place, infinities in others, and one batch with nothing else."""
    found = waves(2, 5, 5, seed=6)(epoch, batch)
    found[0, 1, 2], found[1, 0, 0], found[1, 4, 4] = np.nan, np.inf, -np.inf
    return np.full_like(found, np.nan) if (epoch, batch) == (1, 1) else found


def _main(path: Path, seed: int, epochs: int, run_id: str, **options: object) -> None:
    probed = {"conv1": waves(4, 12, 10, seed=seed + 20), "conv2": waves(6, 7, 7, seed=seed + 21)}
    picture = waves(3, 16, 16, seed=30)(0, 0)
    second = waves(3, 16, 16, seed=31)(0, 0)
    choices: dict[str, object] = {
        "image": (3, 16, 16),
        "axes": {"volume": "CDHW", "tokens": "TC", "last": "HWC"},
        "pooled": {"pooled": 2},
        "notes": {"last": "magnitude of complex values"},
        "modules": {
            "conv2": "Conv2d(4, 6, kernel_size=(3, 3), stride=(2, 1), padding=(1, 1), groups=2)",
            "relu": "ReLU(inplace=True)",
            "tokens": "Linear(in_features=8, out_features=4, bias=True)",
            "volume": "Conv3d(1, 2, kernel_size=(3, 3, 3))",
        },
        "kernels": {
            "conv1": waves(4, 3, 3, 3, seed=seed + 40),
            "conv2": waves(6, 2, 3, 3, seed=seed + 41),
        },
        "probes": [(picture, probed), (second, {"conv1": waves(4, 12, 10, seed=seed + 22)})],
        "fields": {
            "loss": lambda e, b: np.nan if (e, b) == (1, 0) else 2.5 - e / 2 - b / 8 + seed,
            "label": lambda e, b: (e + b) % 3,
            "prediction": lambda e, b: (e + b * seed) % 3,
            "lr": lambda e, b: 0.125 / (1 + e),
        },
        "meta": {"classes": CLASSES, "model": "golden", "command": "python train.py", "seed": 3},
    }
    layers: dict[str, Maps] = {
        "conv1": waves(4, 12, 10, seed=seed),
        "conv2": waves(6, 7, 7, seed=seed + 1),
        "relu": rectified(5, 6, 6),
        "odd": not_finite,
        "volume": waves(2, 5, 6, 6, seed=seed + 2),
        "tokens": waves(10, 4, seed=seed + 3),
        "signal": waves(3, 16, seed=seed + 4),
        "vector": waves(8, seed=seed + 5),
        "last": waves(6, 5, 3, seed=seed + 6),
        "pooled": waves(2, 8, 8, seed=seed + 7),
        "$x^2$ <b>é %0A": waves(1, 4, 4, seed=seed + 8),
    }
    write_recording(path, layers, epochs=epochs, batches=3, run_id=run_id, **{**choices, **options})


def _flip(path: Path, dataset: str, at: tuple[int, int]) -> None:
    """One wrong bit in the value of one batch, behind HDF5's back."""
    with h5py.File(path, "r") as file:
        place, _ = find_value(file[dataset], *at)
    with path.open("r+b") as raw:
        raw.seek(place + 5)
        byte = raw.read(1)[0]
        raw.seek(place + 5)
        raw.write(bytes([byte ^ 0x10]))


def build(folder: Path) -> Path:
    """Writes all of them; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _main(folder / "run.h5", 0, 3, "0" * 31 + "1")
    _main(folder / "other.h5", 1, 2, "0" * 31 + "2")
    # Of the same run, with other values and images: as another rank of it.
    _main(folder / "rank.h5", 2, 3, "0" * 31 + "1", kernels={}, image=(3, 12, 16))
    _main(folder / "damaged.h5", 0, 3, "0" * 31 + "3")
    for dataset, at in (("maps/conv1", (1, 1)), ("kernels/conv2", (0, 2))):
        _flip(folder / "damaged.h5", dataset, at)
    write_recording(
        folder / "live.h5",
        {"conv1": waves(3, 6, 6), "conv2": waves(2, 4, 4)},
        epochs=2,
        batches=3,
        recorded=lambda e, b: (e, b) < (1, 1),
        image=(1, 8, 8),
        closed=False,
    )
    write_recording(
        folder / "many.h5", {"block.0": waves(20, 5, 6, seed=9)}, epochs=2, batches=2, image=None
    )
    write_recording(
        folder / "grown.h5",  # whose pictures have several sizes, or are not there
        {"conv": lambda e, b: None if (e, b) == (0, 1) else waves(3, 6, 6, seed=10)(e, b)},
        images=lambda e, b: None if (e, b) == (1, 1) else waves(3, 8 + 4 * e, 8)(e, b),
        fields={"missing": lambda e, b: int((e, b) == (0, 1))},
        batches=2,
    )
    write_recording(folder / "empty.h5", {"conv1": waves(3, 6, 6)}, recorded=lambda e, b: False)
    write_recording(folder / "future.h5", {"conv1": waves(3, 6, 6)}, version=99)
    (folder / "text.h5").write_text("epoch,loss\n0,1.5\n")
    whole = (folder / "run.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(folder / "strange.h5", "w") as file:
        file["weights"] = np.zeros(3)
    return folder


def link(recordings: Path, folder: Path) -> None:
    """Puts all of them into a folder of a case's own; nothing ever writes into one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in recordings.iterdir():
        os.link(path, folder / path.name)
