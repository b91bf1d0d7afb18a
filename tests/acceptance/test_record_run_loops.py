"""`record run` numbers every training right, whatever loops its script has: see scripts/loops.py.

Epochs and batches are those of the script; picture, maps and loss are of one and the same batch.
"""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import ENVIRONMENT, SCRIPTS, Record, python
from warm import WarmPython

import replay
from replay.__main__ import main as replay_main

pytestmark = pytest.mark.slow

MODELS = (
    "MidValidation", "LeftEarly", "Zipped", "ZippedCycle", "Cycled", "BegunAnew", "Restarted",
    "Prefetched", "Persistent", "MultiEpochsNet", "InfiniteNet", "Listed",
    "Sliced", "Reused", "Cut",
    "FetchedTogether", "AllForwardsFirst", "DryRuns", "Closures", "Sharpness", "Critic", "WMaker",
    "AToB", "BToA", "JudgeA", "JudgeB", "FixMatch", "ByGrad", "Attacked", "CarelessValidation",
    "NoLoader", "WholeSet", "BestKept", "LoneJudge", "LoneMaker", "ByTurns", "WithinBackward",
    "Streamed", "Checkpointed", "TriedAgain", "VolumesNet", "DetectorNet", "TwoViews", "Fast",
    "Denoiser", "SegmenterNet", "SteppedFirst", "Primed", "PrimedWithZeros",
    "PrimedByHand", "TurnJudge", "TurnMaker", "OpenJudge", "OpenMaker", "AttackedOnce",
    "AttackedInSteps", "AttackAdded", "StepLeftOut", "SkippedEncoder", "SkippedDecoder",
    "KeptApart",
)  # fmt: skip


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
    assert named[0].startswith("recorded 12 batches of MidValidation, 1 layer, ")
    assert len(named) == 12
    assert f"recorded {len(MODELS) - 12} more trainings of Sliced, " in said[15]
    doubts = {line.split(": ")[0]: line for line in said[:3]}
    assert set(doubts) == {
        "ZippedCycle, Cycled",
        "BegunAnew",
        "NoLoader, WholeSet, LoneJudge, LoneMaker",
    }
    assert all(
        "nothing says where an epoch of these batches ends" in line for line in doubts.values()
    )


@pytest.mark.parametrize(
    ("loop", "name"),
    [("prefetched", "Prefetched"), ("dry_runs", "DryRuns"), ("no_loader", "NoLoader"),
     ("fix_match", "FixMatch"), ("persistent", "Persistent"),
     ("stepped_first", "SteppedFirst"), ("primed", "Primed"),
     ("primed_with_zeros", "PrimedWithZeros"), ("primed_by_hand", "PrimedByHand")],
)  # fmt: skip
def test_loops_alone_in_their_process(
    tmp_path: Path, record_warm: Record, loop: str, name: str
) -> None:
    """What comes first in a process is where a model is found."""
    done = record_warm(SCRIPTS / "loops.py", "truth.npz", loop, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "truth.npz") as truth:
        check(tmp_path / "run.h5", truth, name)


@pytest.mark.parametrize(
    ("package", "trainer", "names"),
    [
        ("transformers", "hugging_face", ["HuggingFace"]),
        ("lightning", "lightning", ["ValCheck", "Combined"]),
    ],
)
def test_trainers_of_libraries(
    tmp_path: Path, package: str, trainer: str, names: list[str]
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: its trainer was not run")
    script = SCRIPTS / "trainers.py"
    done = python("-m", "record", "run", script, "truth.npz", trainer, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "truth.npz") as truth:
        for name in names:
            path = tmp_path / ("run.h5" if name == names[0] else f"run.{name}.h5")
            check(path, truth, name)
            assert len(truth[f"{name}/at"]) == 12


def test_a_search_is_as_flat_as_without_and_its_files_are_in_order(
    tmp_path: Path, warm: WarmPython, record_warm: Record
) -> None:
    script = SCRIPTS / "search.py"
    trials = 15
    plain = warm.run([script, trials], tmp_path, ENVIRONMENT)
    done = record_warm(script, trials, cwd=tmp_path)
    assert done.returncode == plain.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows] == [line.split()[:2] for line in plain.stdout.splitlines()]
    counts = [tuple(map(int, row[2:5])) for row in rows]  # threads, descriptors, children
    assert len(set(counts[1:])) == 1
    assert counts[-1][2] == 1  # the writer of the last training
    assert float(rows[-1][5]) - float(rows[4][5]) < 5  # MB
    names = ["run.h5", *(f"run.{number}.h5" for number in range(2, trials + 1))]
    assert {path.name for path in tmp_path.glob("*.h5")} == set(names)
    for number, name in enumerate(names):
        with replay.open(tmp_path / name) as run:
            assert run.closed
            assert run.frames == [(0, 0), (0, 1), (1, 0), (1, 1)]
            assert run.inputs[1, 1][0, 0, 0] == np.float16(np.float32(number) / np.float32(100))
    said = [line for line in done.stderr.splitlines() if line.startswith("mapreel: recorded ")]
    assert len(said) == 13
    assert f"recorded {trials - 12} more trainings of Sequential, in their order: " in said[-1]


def test_an_optimizer_that_is_none_of_torchs(tmp_path: Path, record_warm: Record) -> None:
    """In the manner of fastai's, which steps by itself and by `data`."""
    (tmp_path / "fastai").mkdir()
    (tmp_path / "fastai" / "__init__.py").write_text("")
    (tmp_path / "fastai" / "optimizer.py").write_text(
        textwrap.dedent(
            """
            class Optimizer:
                def __init__(self, params, lr):
                    self.params, self.lr = list(params), lr
                @property
                def param_groups(self):
                    return [{"params": self.params, "lr": self.lr}]
                def step(self):
                    for p in self.params:
                        p.data.add_(p.grad.data, alpha=-self.lr)
                def zero_grad(self):
                    for p in self.params:
                        p.grad = None
            """
        )
    )
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            """
            import torch
            from fastai.optimizer import Optimizer
            from torch import nn

            model = nn.Sequential(nn.Conv2d(1, 4, 3))
            optimizer = Optimizer(model.parameters(), 0.5)
            for epoch in range(2):
                for x in torch.utils.data.DataLoader(torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 1, 4, 4), 4):
                    loss = model(x).square().mean()
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    print(loss.item())
            """
        )
    )
    done = record_warm("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert [float(run.inputs[at][0, 0, 0]) for at in run.frames] == [0, 4, 0, 4]
        printed = [float(line) for line in done.stdout.split()]
        np.testing.assert_allclose(run.batches["loss"].ravel(), printed, rtol=1e-6)
        assert (run.batches["lr"] == 0.5).all()


def test_the_loops_are_the_same_without(folder: Path, tmp_path: Path, warm: WarmPython) -> None:
    plain = warm.run([SCRIPTS / "loops.py", "truth.npz"], tmp_path, ENVIRONMENT)
    assert plain.returncode == 0, plain.stderr
    with np.load(tmp_path / "truth.npz") as alone, np.load(folder / "truth.npz") as recorded:
        assert set(alone) == set(recorded) != set()
        for key in alone:
            assert alone[key].tobytes() == recorded[key].tobytes(), key


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="not tested: DDP and FSDP under record run, this torch has no gloo",
)
@pytest.mark.parametrize("way", ["ddp", "fsdp1", "fsdp2"])
def test_trainings_over_two_processes(tmp_path: Path, way: str) -> None:
    launch = ("-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    words = ("-m", "record", "run", SCRIPTS / "sharded.py", way, "truth.npz")
    for _ in range(3):
        (tmp_path / "run.h5").unlink(missing_ok=True)
        done = python(*launch, *words, cwd=tmp_path)
        # On a busy machine gloo now and then aborts at the end of a process, with the training done.
        if "terminate called without an active exception" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    truth = np.load(tmp_path / "truth.npz")
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("0", "2")  # without module., _fsdp_wrapped_module. or the like
        assert run.frames == [(epoch, batch) for epoch in range(2) for batch in range(3)]
        assert (run.lost, run.dropped) == (0, 0)
        for place, at in enumerate(run.frames):
            assert run.inputs[at].tobytes() == truth["images"][place].tobytes()
            assert run["0"][at].tobytes() == truth["maps"][place].tobytes()
            assert run.batches["loss"][at] == pytest.approx(truth["losses"][place], rel=1e-5)
            if way == "fsdp2":  # whose kernels are spread, and not here
                assert run["0"].layer.kernel is None
            else:
                assert np.isfinite(run["0"].kernels(*at)).all()
    assert replay_main(["verify", str(tmp_path / "run.h5"), "--quiet"]) == 0
