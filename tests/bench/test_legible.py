"""scripts/bench/legible on a small recording: what it prints of each scale."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from samples import write_recording

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "bench" / "legibility" / "legible.py"


def growing(epoch: int, batch: int) -> np.ndarray:
    """Maps of one pattern that grows a hundredfold over the run, and a constant one."""
    pattern = np.random.default_rng(batch).normal(size=(2, 12, 12)) * 100.0 ** (epoch / 3)
    pattern[1] = 1.0
    return pattern.astype(np.float16)


def test_a_layer_that_grows_is_seen_early_on_the_adaptive_scale_alone(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": growing},
        epochs=4,
        batches=6,
        probes=[(np.zeros((3, 8, 8), np.float16), {"conv": lambda e, b: growing(e, 0)})],
    )
    command = [sys.executable, str(SCRIPT), str(path), "--every", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first = done.stdout.split("fixed image 0")[0]
    lines = dict(re.findall(r"^conv +(\w+) (.*)$", first, re.MULTILINE))
    early = {name: float(line.split("by epoch ")[1].split()[0]) for name, line in lines.items()}
    assert early["run"] < 10 < 40 < early["adaptive"]
    marked = {name: int(re.findall(r"marked +(\d+)", line)[0]) for name, line in lines.items()}
    assert marked == {"run": 0, "adaptive": 24, "map": 24}
    assert done.stdout.count("last epoch moves") == 3
