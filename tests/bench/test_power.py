"""The short form of scripts/bench/power: images of a loss of power, from a log of the writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench" / "survival"))

import power
from survive import build_shim


def test_nothing_that_is_on_the_disk_is_lost(tmp_path: Path) -> None:
    shim = build_shim(tmp_path)
    if shim is None:
        pytest.skip("no C compiler makes the library that logs the writes")
    scenario = power.record("late", shim, tmp_path, pause=0.03)
    assert scenario.safe[-1][1], "a sync was to end"
    jobs = power.plan([scenario], 60, seed=3)
    counts = power.run_images([scenario], jobs, workers=1)
    assert counts["late: images"] == 60
    for what in ("lost", "wrong", "hangs", "crashes"):
        assert counts[f"late: {what}"] == 0, counts
