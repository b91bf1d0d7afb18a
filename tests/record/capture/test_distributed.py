"""DistributedDataParallel on two processes, one of which records."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import replay

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="not tested: DistributedDataParallel, this torch has no gloo",
)
def test_distributed_data_parallel_on_two_processes(tmp_path: Path) -> None:
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    script = [str(Path(__file__).with_name("ddp_script.py")), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for _ in range(3):
        (tmp_path / "run.h5").unlink(missing_ok=True)
        done = subprocess.run(
            [*launch, "--nproc-per-node", "2", *script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        # On a busy machine gloo now and then aborts at the end of a process, here of one that
        # records nothing.
        if "terminate called without an active exception" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        plain, outcome = (
            torch.load(tmp_path / f"{kind}-{rank}.pt") for kind in ("plain", "recorded")
        )
        assert plain.keys() == outcome.keys()
        for name, value in plain.items():
            assert torch.equal(value, outcome[name]), (rank, name)
    frames = torch.load(tmp_path / "frames.pt")
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert run.layers == ("conv1", "conv2")  # not module.conv1
        assert run.frames == sorted(frames)
        for at, (image, conv1, conv2) in frames.items():
            assert run.inputs[at].tobytes() == image.numpy().tobytes()
            assert run["conv1"][at].tobytes() == conv1.numpy().tobytes()
            assert run["conv2"][at].tobytes() == conv2.numpy().tobytes()
    assert "RecordingWarning" not in done.stderr
