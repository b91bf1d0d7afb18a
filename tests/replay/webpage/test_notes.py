"""What a page says of itself is true of each of its images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from pages import read
from samples import drifting_maps, write_recording

import replay


def noise(epoch: int, batch: int) -> np.ndarray:
    return np.random.default_rng((epoch, batch)).normal(size=(8, 128, 128)).astype("f2")


def test_what_is_averaged_is_named_with_its_image(tmp_path: Path) -> None:
    still = np.rint(drifting_maps(8, 128, 128)(0, 0))
    small = drifting_maps(4, 8, 8)
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": noise, "pool": small},
        epochs=6,
        batches=20,
        probes=[
            (np.zeros((3, 32, 32), "f2"), {"conv1": lambda e, b: still, "pool": small}),
        ],
    )
    for max_mb, of in ((2, {"first image"}), (0.2, {"first image", "fixed image 0"})):
        made = replay.page(path, tmp_path / "a.html", max_mb=max_mb)
        sources = read(made.path)[0]["sources"]
        smaller = {
            source["words"] for source in sources if source["layers"][0]["shape"] != [128, 128]
        }
        assert smaller == of
        notes = [note for note in made.notes if note.startswith("conv1: maps of 128×128 averaged")]
        named = set()
        for note in notes:
            found = re.search(r"to (\d+)×(\d+)(?: \((.+)\))?$", note)
            assert found is not None
            words = found[3].split(", ") if found[3] else [each["words"] for each in sources]
            named.update(words)
            for source in sources:
                shape = [int(found[1]), int(found[2])]
                if source["words"] in words:
                    assert source["layers"][0]["shape"] == shape
        assert named == smaller
