"""`record run` numbers every training right, whatever loops its script has: see scripts/loops.py.

Epochs and batches are those of the script; picture, maps and loss are of one and the same batch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import replay
from replay.__main__ import main as replay_main

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "scripts"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

MODELS = (
    "MidValidation", "LeftEarly", "Zipped", "ZippedCycle", "Cycled", "BegunAnew", "Restarted",
    "Prefetched", "Persistent", "MultiEpochsNet", "InfiniteNet", "Listed", "Cut",
    "FetchedTogether", "AllForwardsFirst", "DryRuns", "Closures", "Sharpness", "Critic", "WMaker",
    "AToB", "BToA", "JudgeA", "JudgeB", "FixMatch", "ByGrad", "Attacked", "CarelessValidation",
    "NoLoader", "WholeSet", "BestKept",
)  # fmt: skip


def python(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All loops recorded, in one process, beside what they themselves noted."""
    path = tmp_path_factory.mktemp("loops")
    done = python("-m", "record", "run", SCRIPTS / "loops.py", "truth.npz", cwd=path)
    assert done.returncode == 0, done.stderr
    (path / "stderr").write_text(done.stderr)
    return path


def check(path: Path, truth: np.lib.npyio.NpzFile, name: str) -> None:
    """The recording is what the script noted of the model of this name."""
    at = [tuple(map(int, row)) for row in truth[f"{name}/at"]]
    with replay.open(path) as run:
        assert run.closed
        assert (run.lost, run.dropped) == (0, 0)
        assert run.frames == at
        for place, where in enumerate(at):
            assert run.inputs[where].tobytes() == truth[f"{name}/image"][place].tobytes(), where
            assert run["conv"][where].tobytes() == truth[f"{name}/map"][place].tobytes(), where
        losses = [run.batches["loss"][where] for where in at]
        np.testing.assert_allclose(losses, truth[f"{name}/loss"], rtol=1e-5)
        assert np.isfinite([run.batches["lr"][where] for where in at]).all()


@pytest.mark.parametrize("name", MODELS)
def test_loops(folder: Path, name: str) -> None:
    with np.load(folder / "truth.npz") as truth:
        assert {key.split("/")[0] for key in truth} == set(MODELS)
        path = folder / ("run.h5" if name == MODELS[0] else f"run.{name}.h5")
        check(path, truth, name)
    assert replay_main(["verify", str(path), "--quiet"]) == 0


def test_what_is_said_of_them(folder: Path) -> None:
    said = [line[9:] for line in (folder / "stderr").read_text().splitlines()]
    named = [line for line in said if line.startswith("recorded ") and " batches of " in line]
    assert named[0].startswith("recorded 12 batches of MidValidation, 1 layer: ")
    assert len(named) == 12
    assert f"recorded {len(MODELS) - 12} more trainings of Cut, " in said[12]
    doubts = {line.split(": ")[0]: line for line in said[13:]}
    assert set(doubts) == {"ZippedCycle, Cycled", "BegunAnew", "NoLoader, WholeSet"}
    assert all(
        "nothing says where an epoch of these batches ends" in line for line in doubts.values()
    )


@pytest.mark.parametrize(
    ("loop", "name"),
    [("prefetched", "Prefetched"), ("dry_runs", "DryRuns"), ("no_loader", "NoLoader"),
     ("fix_match", "FixMatch"), ("persistent", "Persistent")],
)  # fmt: skip
def test_loops_alone_in_their_process(tmp_path: Path, loop: str, name: str) -> None:
    """What comes first in a process is where a model is found."""
    done = python("-m", "record", "run", SCRIPTS / "loops.py", "truth.npz", loop, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "truth.npz") as truth:
        check(tmp_path / "run.h5", truth, name)


def test_a_loop_is_the_same_with_and_without(tmp_path: Path) -> None:
    script = SCRIPTS / "loops.py"
    plain = python(script, "plain.npz", "mid_validation", "wasserstein", "closures", cwd=tmp_path)
    words = ("run.npz", "mid_validation", "wasserstein", "closures")
    done = python("-m", "record", "run", script, *words, cwd=tmp_path)
    assert (plain.returncode, plain.stdout) == (done.returncode, done.stdout) == (0, "")
    with np.load(tmp_path / "plain.npz") as alone, np.load(tmp_path / "run.npz") as recorded:
        assert set(alone) == set(recorded) != set()
        for key in alone:
            assert alone[key].tobytes() == recorded[key].tobytes(), key
