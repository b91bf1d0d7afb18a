"""Makes the tiny recordings that the fuzzer starts from, in tests/fuzz/seeds: kept in the tree.

Each has one kind of thing that a recording may have, of two batches and of a few pixels, so that
a reader is soon through, and each byte of it is likelier to be changed.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

sys.path.insert(0, str(Path(__file__).parent))

from make_seeds import ROOT, SEEDS

sys.path.insert(0, str(ROOT))

LAYER, ATTENTION = "conv", "look"
MAPS = ["state", "batches/recorded", f"maps/{LAYER}"]
RANGES = [f"ranges/{LAYER}", f"value_checksums/ranges/{LAYER}"]
SUMS = [f"checksums/{LAYER}", "value_checksums/batches/recorded"]
FIELDS = ["inputs", *(f"batches/{name}" for name in ("input_checksum", "loss", "label", "nan"))]
ABOUT = ("maps", "exponents", "ranges", "checksums")  # what there is of what lies beside the maps


def beside(group: str, layer: str) -> list[str]:
    """Returns the paths of what lies beside the maps, and of its values' checksums."""
    own = [f"{group}/{each}/{layer}" for each in ABOUT]
    return own + [f"value_checksums/{path}" for path in own[1:3]]


PROBE = [*beside("probe/0", LAYER), "probe/0/input", "value_checksums/probe/0/input"]
# The paths that each has, the library's bounds, and whether its datasets grow.
TINY: dict[str, tuple[list[str], tuple[str, str], bool]] = {
    "tiny": (MAPS + RANGES + SUMS, ("v110", "v110"), True),
    "tiny-kernels": (
        [*MAPS, *SUMS, f"kernels/{LAYER}", f"kernel_checksums/{LAYER}"],
        ("v110", "v110"),
        False,
    ),
    "tiny-fields": (MAPS + FIELDS, ("v110", "v110"), True),
    "tiny-oldest": (MAPS + RANGES, ("earliest", "v108"), True),
    "tiny-gradient": (MAPS + beside("gradients", LAYER), ("v110", "v110"), True),
    "tiny-attention": (MAPS + beside("attention", ATTENTION), ("v110", "v110"), True),
    "tiny-cam": (MAPS + PROBE + beside("probe/0/cam", LAYER), ("v110", "v110"), False),
    "tiny-probe": (MAPS + PROBE, ("v110", "v110"), True),
}
LINKS = "tiny-names"  # enough layers that their names lie in a heap


def record(path: Path) -> None:
    """Records two batches of a network with everything that can be recorded of it."""
    import torch
    from torch import nn

    from record import Recorder

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)
            self.look = nn.MultiheadAttention(2, 1, batch_first=True)
            self.end = nn.Linear(2, 2)

        def forward(self, images: Any) -> Any:
            tokens = self.conv(images).flatten(2).mT
            return self.end(self.look(tokens, tokens, tokens)[0].mean(1))

    torch.manual_seed(0)
    model, about = Model(), {"attention": True, "gradients": LAYER, "cam": True, "labels": [0]}
    probe = torch.rand(1, 1, 3, 3)
    with Recorder(model, path, layers=LAYER, probe=probe, metadata={}, **about) as recorder:
        for images in recorder.track([torch.rand(1, 1, 3, 3) for _ in range(2)]):
            loss = model(images).sum()
            loss.backward()
            recorder.log(loss=loss, label=0, prediction=1)


def write(
    source: h5py.File, path: Path, paths: Sequence[str], libver: tuple[str, str], grows: bool
) -> None:
    """Writes some of a recording's datasets, of its first two batches."""
    with h5py.File(path, "w", libver=libver) as new:
        for name in ("format", "version", "run_id"):
            new.attrs[name] = source.attrs[name]
        new.attrs["meta"] = '{"model": "tiny", "classes": ["a", "b"]}'
        for name in paths:
            if name not in source:
                continue
            old = source[name]
            cells = old.ndim > 1 and "input" not in name.split("/")[-1:]
            values = old[:1, :2] if cells or name == "inputs" else old[()]
            about: dict[str, Any] = {}
            if values.ndim > 1 and values.shape[:2] == (1, 2):
                about = {"chunks": (1, 1, *values.shape[2:]), "fillvalue": old.fillvalue}
                about["maxshape"] = (None, None, *values.shape[2:]) if grows else values.shape
            made = new.create_dataset(name, data=values, **about)
            for key, value in old.attrs.items():
                made.attrs[key] = value


def leave_open(source: Path, path: Path) -> None:
    """Writes a file as its writer leaves it that was killed."""
    from replay.recording.structures import lookup3

    data = bytearray(source.read_bytes())
    data[11] = 0b101
    data[44:48] = lookup3(bytes(data[:44])).to_bytes(4, "little")
    path.write_bytes(data)


def main() -> None:
    """Writes the seeds."""
    import replay

    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        record(at / "whole")
        with h5py.File(at / "whole") as source:
            for name, about in TINY.items():
                write(source, at / f"{name}.h5", *about)
            write(source, at / f"{LINKS}.h5", MAPS, ("v110", "v110"), True)
        with h5py.File(at / f"{LINKS}.h5", "r+", libver=("v110", "v110")) as many:
            for number in range(9):
                many[f"maps/{number}"] = many[f"maps/{LAYER}"]
        replay.pack(at / "tiny.h5", at / "tiny-bits8.h5", bits=8)
        replay.pack(at / "tiny-fields.h5", at / "tiny-gzip.h5")
        leave_open(at / "tiny.h5", at / "tiny-killed.h5")
        for path in sorted(at.glob("*.h5")):
            with replay.open(path) as run:
                assert len(run.frames) == 2, path.name
                views = [*run.attentions, *run.gradients, *(run.probe().cams if run.probes else ())]
            packed = gzip.compress(path.read_bytes(), 9, mtime=0)
            (SEEDS / f"{path.name}.gz").write_bytes(packed)
            print(path.name, path.stat().st_size, len(packed), views)


if __name__ == "__main__":
    main()
