"""Makes the small recordings that the fuzzer starts from, in tests/fuzz/seeds: kept in the tree.

Made once, by the versions of that day, so that a finding (a change of a seed's bytes) stays one.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[3]
SEEDS = ROOT / "tests" / "fuzz" / "seeds"


def record(path: Path, copy: Path | None = None, **options: Any) -> None:
    """Records four batches of a small network; `copy`: the file as it is before it is closed."""
    import torch
    from torch import nn

    from record import Recorder

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1))
    with Recorder(model, path, layers="0", **options) as recorder:
        for _ in range(2):
            for images in recorder.track([torch.rand(1, 3, 4, 4) for _ in range(2)]):
                model(images)
                recorder.log(loss=1.0, label=0, prediction=1)
        if copy is not None:
            recorder.flush()
            time.sleep(1)
            copy.write_bytes(path.read_bytes())


def rewrite(source: Path, path: Path, libver: tuple[str, str], kind: str) -> None:
    """Writes the same recording as another program might: other structures, other chunk indexes."""
    with h5py.File(source) as old, h5py.File(path, "w", libver=libver) as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value

        def copy(name: str, node: h5py.HLObject) -> None:
            if not isinstance(node, h5py.Dataset):
                made: Any = new.require_group(name)
            else:
                values = node[..., :2] if name.startswith("batches") else node[()]
                bounds = {"fixed": values.shape, "grows": (None, *values.shape[1:])}
                chunks = tuple(min(2, n) for n in values.shape)
                about = {"chunks": chunks, "maxshape": bounds[kind]} if values.ndim > 1 else {}
                made = new.create_dataset(name, data=values, **about)
            for key, value in node.attrs.items():
                made.attrs[key] = value

        old.visititems(copy)
        for number in range(20):  # more than fit an object header
            new["maps/0"].attrs[f"more{number}"] = np.arange(number)
        new["maps/soft"] = h5py.SoftLink("/maps/0")
        new["elsewhere"] = h5py.ExternalLink("none.h5", "/")


def main() -> None:
    """Writes the seeds."""
    import replay

    SEEDS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        record(at / "closed.h5", at / "killed.h5")
        record(at / "probe.h5", probe=_image())
        replay.pack(at / "closed.h5", at / "gzip.h5")
        replay.pack(at / "closed.h5", at / "bits8.h5", bits=8)
        rewrite(at / "closed.h5", at / "oldest.h5", ("earliest", "v108"), "grows")
        rewrite(at / "closed.h5", at / "fixed.h5", ("v110", "v110"), "fixed")
        rewrite(at / "closed.h5", at / "grows.h5", ("v110", "v110"), "grows")
        for path in sorted(at.glob("*.h5")):
            with replay.open(path) as run:
                assert len(run.frames) == 4, path.name
            packed = gzip.compress(path.read_bytes(), 9, mtime=0)
            (SEEDS / f"{path.name}.gz").write_bytes(packed)
            print(path.name, path.stat().st_size, len(packed))


def _image() -> Any:
    import torch

    return torch.rand(1, 3, 4, 4)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
