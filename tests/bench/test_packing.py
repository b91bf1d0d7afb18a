"""scripts/bench/pack on a small recording: what it measures, and of what."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "bench" / "speed"))

import packing  # noqa: E402


@pytest.fixture
def path(tmp_path: Path) -> Path:
    waves = drifting_maps(8, 48, 48)
    return write_recording(
        tmp_path / "run.h5",
        {"conv": waves, "relu": lambda e, b: np.maximum(waves(e, b), 0)},
        modules={"conv": "Conv2d(3, 8, kernel_size=(3, 3))", "relu": "ReLU()"},
    )


def test_ratios_are_of_the_maps_before_and_after_a_relu(path: Path, tmp_path: Path) -> None:
    for bits, least in ((16, 1.0), (8, 1.9)):
        small = tmp_path / f"small{bits}.h5"
        replay.pack(path, small, bits=bits)
        found = packing.ratios(path, small)
        assert set(found) == {"maps", "after ReLU"}
        assert least <= found["maps"] < found["after ReLU"]


def test_a_frame_at_random_is_timed(path: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.h5"
    replay.pack(path, small, bits=8)
    times = packing.milliseconds(small, 20)
    assert len(times) == 20
    assert min(times) > 0
