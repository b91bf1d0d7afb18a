"""Makes recordings of what a network looks at with plain h5py, from docs/format.md alone.

A small vision transformer and two convolutions, with fixed images: attention whose bright spot
moves over the epochs, gradients that shrink by powers of two, weights of class activation maps.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from samples import drifting_maps, write_recording

HEADS, GRID, PREFIX = 4, (8, 8), 1
TOKENS = PREFIX + GRID[0] * GRID[1]
IMAGE = (3, 32, 32)
LABELS = (2, 0)
LAYERS = {"conv1": (4, 16, 16), "conv2": (6, 8, 8)}

Frames = Callable[[int, int], np.ndarray]


def spot(epoch: int, batch: int, head: int, probe: int | None = None) -> tuple[int, int]:
    """Row and column of the token that a head looks at most."""
    at = 9 * epoch + batch + 17 * head + (0 if probe is None else 5 + probe)
    return divmod(at % (GRID[0] * GRID[1]), GRID[1])


def class_rows(probe: int | None = None, heads: int = HEADS) -> Frames:
    """The class token's attention, float16 (heads, T): each row sums to 1."""
    y, x = np.mgrid[: GRID[0], : GRID[1]]

    def rows(epoch: int, batch: int) -> np.ndarray:
        made = np.empty((heads, TOKENS), "f4")
        for head in range(heads):
            row, column = spot(epoch, batch, head, probe)
            far = (y - row) ** 2 + (x - column) ** 2
            made[head] = [2.0 + head, *np.exp(-far / 3).ravel()]
        return (made / made.sum(axis=1, keepdims=True)).astype("<f2")

    return rows


def all_rows(probe: int | None = None, heads: int = HEADS) -> Frames:
    """Attention of every token, float16 (heads, T, T); the class token's row is `class_rows`."""
    first = class_rows(probe, heads)

    def rows(epoch: int, batch: int) -> np.ndarray:
        made = np.empty((heads, TOKENS, TOKENS), "<f2")
        made[:, 0] = first(epoch, batch)
        for query in range(1, TOKENS):
            made[:, query] = np.roll(made[:, 0], query, axis=1)
        return made

    return rows


def exponent(epoch: int, batch: int, probe: int | None = None) -> int:
    """The exponent of a frame's gradients: smaller from epoch to epoch, far below float16."""
    return -20 - 6 * epoch - batch + (3 if probe is not None else 0)


def stored_gradient(name: str, probe: int | None = None) -> Frames:
    """A layer's gradients as they are stored, float16 (C, H, W), of both signs."""
    waves = drifting_maps(*LAYERS[name], seed=7 + len(name) + (0 if probe is None else probe + 1))
    return lambda epoch, batch: (waves(epoch, batch) * 512).astype("<f2")


def gradient(name: str, epoch: int, batch: int, probe: int | None = None) -> np.ndarray:
    """A layer's gradients in their true values, float64 (C, H, W)."""
    stored = stored_gradient(name, probe)(epoch, batch).astype("f8")
    return stored * 2.0 ** exponent(epoch, batch, probe)


def cam_weights(epoch: int, batch: int, probe: int) -> np.ndarray:
    """The mean gradient of each channel of conv2 in its true value, float64 (6,)."""
    return gradient("conv2", epoch, batch, probe).mean(axis=(1, 2))


def tokens(epoch: int, batch: int) -> np.ndarray:
    """What a block puts out, float16 (T, C)."""
    maps = drifting_maps(10, *GRID, seed=5)(epoch, batch)
    flat = np.moveaxis(maps, 0, 2).reshape(-1, 10)
    return np.concatenate([np.ones((PREFIX, 10)), flat]).astype("<f2")


def write_looking(
    path: Path,
    *,
    epochs: int = 3,
    batches: int = 2,
    probes: int = 2,
    full: bool = False,
    grid: tuple[int, int] | None = GRID,
    attention: bool = True,
    gradients: bool = True,
    image: tuple[int, int, int] | None = IMAGE,
    closed: bool = True,
) -> Path:
    """Writes a recording of maps, attention, gradients and, of fixed images, cam weights.

    Args:
        path: The file.
        epochs: Their number.
        batches: Batches of each.
        probes: Fixed images, of classes `LABELS`.
        full: Whether attention is that of all tokens (`all`), not of the class token (`class`).
        grid: What the file says of the tokens' places; None: nothing.
        attention: Whether there is any.
        gradients: Whether there are any, and cam weights.
        image: Shape of the input pictures; None without.
        closed: Whether the file says that it was closed.
    """
    maps = {name: drifting_maps(*shape) for name, shape in LAYERS.items()}
    y, x = np.mgrid[:32, :32] / 31
    pictures = [np.stack([x * (n + 1) / 2, y, 1 - x]) * 4 - 2 for n in range(probes)]
    write_recording(
        path,
        {**maps, "blocks.0": tokens},
        epochs=epochs,
        batches=batches,
        image=image,
        axes={"blocks.0": "TC"},
        modules={"blocks.0": "Block()"},
        probes=[(picture, {**maps, "blocks.0": tokens}) for picture in pictures],
        fields={
            f"probe{n}.{name}": value
            for n in range(probes)
            for name, value in {
                "prediction": lambda e, b, n=n: (LABELS[n % 2] + (e == 0)) % 3,
                "probability": lambda e, b, n=n: 0.4 + 0.1 * e,
                "label_probability": lambda e, b, n=n: 0.3 + 0.1 * e,
                "class": lambda e, b, n=n: LABELS[n % 2],
            }.items()
        },
        meta={"classes": ["cat", "dog", "owl"]},
        closed=closed,
    )
    cells = [(e, b) for e in range(epochs) for b in range(batches)]
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        for probe in (None, *range(probes)):
            root = "" if probe is None else f"probe/{probe}/"
            if probe is not None:
                file[f"probe/{probe}"].attrs["label"] = LABELS[probe % 2]
            if attention:
                rows = all_rows(probe) if full else class_rows(probe)
                for name in ("blocks.0.attn", "blocks.1.attn"):
                    axes, queries = ("CQT", "all") if full else ("CT", "class")
                    about = {"axes": axes, "queries": queries, "module": "Attention()"}
                    made = write_frames(file, f"{root}attention/", name, rows, cells, about)
                    if grid is not None:
                        made.attrs["grid"] = np.array(grid, "<i8")
            if gradients:
                of = "loss" if probe is None else "score of the label"
                for name in LAYERS:
                    frames = stored_gradient(name, probe)
                    powers = lambda e, b, probe=probe: exponent(e, b, probe)  # noqa: E731
                    about = {"axes": "CHW", "module": "Conv2d(3, 4, 3)", "of": of}
                    write_frames(file, f"{root}gradients/", name, frames, cells, about, powers)
            if gradients and probe is not None:

                def weights(e: int, b: int, probe: int = probe) -> np.ndarray:
                    found = cam_weights(e, b, probe) * 2.0 ** -exponent(e, b, probe)
                    return found.astype("<f2")

                about = {"axes": "C", "module": "Conv2d(4, 6, 3)", "of": "score of the label"}
                write_frames(file, f"{root}cam/", "conv2", weights, cells, about, powers)
    return path


def write_frames(
    file: h5py.File,
    group: str,
    name: str,
    frames: Frames,
    cells: list[tuple[int, int]],
    about: dict[str, str],
    powers: Callable[[int, int], int] | None = None,
) -> h5py.Dataset:
    """Writes one layer's frames into a group beside the maps, with all that belongs to them."""
    shape = file["batches/recorded"].shape

    def dataset(kind: str, cell: tuple[int, ...], dtype: str, fill: float) -> h5py.Dataset:
        return file.create_dataset(
            f"{group}{kind}/{name}",
            shape=(*shape, *cell),
            maxshape=(None, None, *cell),
            chunks=(1, 1, *cell),
            dtype=dtype,
            fillvalue=fill,
        )

    first = frames(*cells[0])
    maps = dataset("maps", first.shape, "<f2", np.nan)
    maps.attrs["order"] = len(file[f"{group}maps"]) - 1
    maps.attrs.update(about)
    ranges = dataset("ranges", (first.shape[0], 2), "<f4", np.nan)
    sums = dataset("checksums", (), "<u4", 0)
    exponents = None if powers is None else dataset("exponents", (), "<i2", 0)
    for e, b in cells:
        frame = frames(e, b).astype("<f2")
        maps[e, b] = frame
        flat = frame.reshape(len(frame), -1).astype("f4")
        ranges[e, b] = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)
        sums[e, b] = zlib.crc32(frame.tobytes())
        if exponents is not None and powers is not None:
            exponents[e, b] = powers(e, b)
    return maps
