"""Makes small recordings with plain h5py, from docs/format.md alone: no code of `record`.

So the reader is tested against the format as it is documented, not against the writer.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Maps = Callable[[int, int], np.ndarray]
Perhaps = Callable[[int, int], "np.ndarray | None"]


def drifting_maps(channels: int, height: int, width: int, seed: int = 0) -> Maps:
    """Maps that change with epoch and batch: waves of another angle per channel, plus noise."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)

    def maps(epoch: int, batch: int) -> np.ndarray:
        noise = np.random.default_rng((seed, epoch, batch))
        angle = np.arange(channels)[:, None, None] * np.pi / channels
        phase = 0.7 * epoch + 0.05 * batch
        wave = np.sin(12 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        return (wave * (1 + 0.2 * epoch) + 0.05 * noise.standard_normal(wave.shape)).astype("f2")

    return maps


def smooth_image(seed: int, channels: int, side: int, mean: float, std: float) -> np.ndarray:
    """A picture with large and small forms, in whole steps of 255, normalised; float16 (C, H, W)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = [
        np.sin(6 * random.random() * x + 9 * random.random() * y + place) * 70 + 127
        for place in range(channels)
    ]
    colours = np.rint(np.stack(waves) + random.normal(0, 6, (channels, side, side))).clip(0, 255)
    made: np.ndarray = ((colours / 255 - mean) / std).astype(np.float16)
    return made


def convolve(image: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """A convolution with 3x3 kernels (C, channels, 3, 3) and zeros around, float16 (C, H, W)."""
    _, height, width = image.shape
    padded = np.pad(image.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    made = np.zeros((len(kernels), height, width))
    for down in range(3):
        for across in range(3):
            part = padded[:, down : down + height, across : across + width]
            made += np.einsum("oc,chw->ohw", kernels[:, :, down, across], part)
    return made.astype(np.float16)


def write_recording(
    path: Path,
    layers: Mapping[str, Perhaps],
    *,
    epochs: int = 2,
    batches: int = 4,
    recorded: Callable[[int, int], bool] = lambda epoch, batch: True,
    image: tuple[int, int, int] | None = (3, 32, 32),
    images: Perhaps | None = None,
    axes: dict[str, str] | None = None,
    pooled: dict[str, int] | None = None,
    notes: dict[str, str] | None = None,
    probes: Sequence[tuple[np.ndarray, Mapping[str, Perhaps]]] = (),
    run_id: str = "0123456789abcdef0123456789abcdef",
    modules: dict[str, str] | None = None,
    kernels: dict[str, Perhaps] | None = None,
    fields: dict[str, Callable[[int, int], float]] | None = None,
    meta: dict[str, Any] | None = None,
    closed: bool = True,
    version: int = 1,
) -> Path:
    """Writes a recording; `layers[name](epoch, batch)` gives each frame, float16 (C, H, W).

    None instead of a frame: the layer put out nothing in that batch, and instead of kernels or a
    picture likewise. `images` gives the input pictures instead of a pattern, of any shape; `probes`
    a fixed image and its layers.
    """
    cells = [(e, b) for e in range(epochs) for b in range(batches) if recorded(e, b)]
    with h5py.File(path, "x", libver=("v110", "v110")) as file:
        file.attrs["format"] = "mapreel"
        file.attrs["version"] = version
        file.attrs["run_id"] = run_id
        file.attrs["created"] = "2026-11-23T12:00:00+00:00"
        file.attrs["meta"] = json.dumps(meta or {})

        def dataset(name: str, cell: tuple[int, ...], dtype: str, fill: float) -> h5py.Dataset:
            return file.create_dataset(
                name,
                shape=(epochs, batches, *cell),
                maxshape=(None, None, *cell),
                chunks=(1, 1, *cell),
                dtype=dtype,
                fillvalue=fill,
            )

        counts = {"nan": np.zeros((epochs, batches)), "inf": np.zeros((epochs, batches))}

        def write_layers(layers: Mapping[str, Perhaps], group: str = "") -> None:
            for place, (name, maps) in enumerate(layers.items()):
                shape = next(
                    m.shape for m in (maps(*cell) for cell in cells or [(0, 0)]) if m is not None
                )
                letters = (axes or {}).get(name)
                channel = letters.index("C") if letters else 0
                frames = dataset(f"{group}maps/{name}", shape, "<f2", np.nan)
                frames.attrs["order"] = place
                module = "Conv2d(3, 12, kernel_size=(3, 3))"
                frames.attrs["module"] = (modules or {}).get(name, module)
                if letters:
                    frames.attrs["axes"] = letters
                if name in (pooled or {}):
                    frames.attrs["pooled"] = (pooled or {})[name]
                if name in (notes or {}):
                    frames.attrs["note"] = (notes or {})[name]
                channels = shape[channel] if shape else 1
                ranges = dataset(f"{group}ranges/{name}", (channels, 2), "<f4", np.nan)
                sums = dataset(f"{group}checksums/{name}", (), "<u4", 0)
                for e, b in cells:
                    made = maps(e, b)
                    if made is None:
                        continue
                    frame = made.astype("<f2")
                    frames[e, b] = frame
                    first = np.moveaxis(frame, channel, 0) if shape else frame
                    values = first.reshape(channels, -1).astype("f4")
                    finite = np.where(np.isfinite(values), values, np.nan)
                    with np.errstate(all="ignore"):
                        ranges[e, b] = np.stack(
                            [np.fmin.reduce(finite, axis=1), np.fmax.reduce(finite, axis=1)], axis=1
                        )
                    sums[e, b] = zlib.crc32(frame.tobytes())
                    counts["nan"][e, b] += np.isnan(values).sum()
                    counts["inf"][e, b] += np.isinf(values).sum()

        write_layers(layers)
        for number, (picture, probed) in enumerate(probes):
            file[f"probe/{number}/input"] = picture.astype("<f2")
            write_layers(probed, f"probe/{number}/")
        for name, kernel in (kernels or {}).items():
            shape = next(k.shape for k in (kernel(*cell) for cell in cells) if k is not None)
            stack = dataset(f"kernels/{name}", shape, "<f2", np.nan)
            sums = dataset(f"kernel_checksums/{name}", (), "<u4", 0)
            for e, b in cells:
                if (made := kernel(e, b)) is not None:
                    stack[e, b] = made.astype("<f2")
                    sums[e, b] = zlib.crc32(made.astype("<f2").tobytes())
        if images is not None:
            taken = {cell: images(*cell) for cell in cells}
            first = next(picture.shape for picture in taken.values() if picture is not None)
            sums = None  # a file may be without
            if any(picture is None for picture in taken.values()):
                sums = dataset("batches/input_checksum", (), "<u4", 0)
            for (e, b), picture in taken.items():
                if picture is None:
                    continue
                if sums is not None:
                    sums[e, b] = zlib.crc32(picture.astype("<f2").tobytes())
                other = "@" + "x".join(map(str, picture.shape)) if picture.shape != first else ""
                if f"inputs{other}" not in file:
                    dataset(f"inputs{other}", picture.shape, "<f2", np.nan)
                file[f"inputs{other}"][e, b] = picture.astype("<f2")
        elif image is not None:
            inputs = dataset("inputs", image, "<f2", np.nan)
            inputs.attrs["mean"] = np.array([0.5, 0.5, 0.5], "f4")[: image[0]]
            inputs.attrs["std"] = np.array([0.25, 0.25, 0.25], "f4")[: image[0]]
            ramp = np.linspace(-2, 2, image[1] * image[2]).reshape(image[1:])
            for e, b in cells:
                picture = [
                    np.roll(ramp, 7 * b + 3 * e + 5 * c, axis=c % 2) for c in range(image[0])
                ]
                inputs[e, b] = np.stack(picture).astype("<f2")
        values_of = {
            "recorded": lambda e, b: cells.index((e, b)) + 1,
            "step": lambda e, b: e * batches + b,
            "time": lambda e, b: 1.7e9 + e * batches + b,
            "nan": lambda e, b: counts["nan"][e, b],
            "inf": lambda e, b: counts["inf"][e, b],
            "loss": lambda e, b: 2.3 * 0.9 ** (e * batches + b),
            **(fields or {}),
        }
        kinds = {"recorded": ("<i8", 0), "step": ("<i8", -1), "nan": ("<i8", 0), "inf": ("<i8", 0)}
        kinds["missing"] = ("<i8", 0)
        kinds |= {"label": ("<i8", -1), "prediction": ("<i8", -1)}
        kinds["input_checksum"] = ("<u4", 0)
        for name, value in values_of.items():
            dtype, fill = kinds.get(name, ("<f8", np.nan))
            field = dataset(f"batches/{name}", (), dtype, fill)
            for e, b in cells:
                field[e, b] = value(e, b)
        file["state"] = np.array([len(cells), 0, 0, int(closed)], "<i8")
    return path
