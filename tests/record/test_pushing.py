"""`Recorder(push=...)`: what was recorded goes to the run that is active, and harms no training.

The trackers are the real packages, each in a process of its own, which these packages change.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from record import Recorder
from record.reporting import RecordingWarning
from replay.schema import OptionError

TRAINING = """
import json, sys
import torch
from torch import nn
from record import Recorder

{before}
torch.manual_seed(0)
model = nn.Conv2d(1, 2, 3)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
data = torch.randn(4, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
with Recorder(model, "run.h5", push={push}) as recorder:
    for _ in range(2):
        for images in recorder.track(data):
            loss = model(images).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.log(loss=loss)
random = torch.rand(3).tolist()
foreign = sorted({{name.partition(".")[0] for name in sys.modules}} & {{"h5py", "imageio"}})
foreign += [name for name in sys.modules if name.startswith("replay.") and "trackers" not in name
            and "schema" not in name]
{after}
print("found: " + json.dumps({{"weights": model.weight.flatten().tolist(), "random": random, "found": found,
                  "foreign": foreign}}))
"""
WANDB = (
    "import wandb; run = wandb.init(project='p', mode='offline')",
    "run.log({'mine': 1}, step=7)",
)
MLFLOW = (
    "import mlflow; mlflow.set_tracking_uri('sqlite:///ml.db'); run = mlflow.start_run()",
    "found = [each.path for each in mlflow.MlflowClient().list_artifacts(run.info.run_id, 'mapreel')]\n"
    "found += sorted(mlflow.get_run(run.info.run_id).data.metrics)\n"
    "assert mlflow.active_run() is not None",
)
TRACKIO = (
    "import trackio; run = trackio.init(project='p', embed=False)",
    "run.log({'mine': 1}); run.finish()\n"
    "from trackio.sqlite_storage import SQLiteStorage as S\n"
    "found = sorted({key for row in S.get_logs('p', run.name) for key in row})",
)


def train(folder: Path, push: str, before: str = "", after: str = "found = None") -> dict[str, Any]:
    script = TRAINING.format(push=push, before=before, after=after)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=folder,
        env={**os.environ, "TRACKIO_DIR": str(folder / "trackio"), "WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (each for each in done.stdout.splitlines() if each.startswith("found: "))
    found: dict[str, Any] = json.loads(line.removeprefix("found: "))
    return {**found, "said": done.stderr}


def skip_without(tracker: str) -> None:
    if importlib.util.find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed; pip install 'mapreel[{tracker}]'")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("plain"), "None")


def check_unharmed(found: dict[str, Any], plain: dict[str, Any]) -> None:
    assert found["weights"] == plain["weights"]
    assert found["random"] == plain["random"]
    assert found["foreign"] == plain["foreign"] == []


@pytest.mark.slow
def test_the_active_run_of_wandb_gets_what_was_recorded(
    tmp_path: Path, plain: dict[str, Any]
) -> None:
    skip_without("wandb")
    after = "run.log({'mine': 2}, step=9); run.finish(); found = None"
    found = train(tmp_path, "'wandb'", f"{WANDB[0]}; {WANDB[1]}", after)
    check_unharmed(found, plain)
    assert "pushed run.h5: " in found["said"]
    kinds = {path.suffix for path in tmp_path.glob("wandb/offline-run-*/files/media/*/mapreel/*")}
    assert kinds == {".mp4", ".png", ".html", ".json"}  # the last of which is the numbers
    assert "less than the current step" not in found["said"]


@pytest.mark.slow
def test_the_active_run_of_mlflow_gets_what_was_recorded(
    tmp_path: Path, plain: dict[str, Any]
) -> None:
    skip_without("mlflow")
    found = train(tmp_path, "'mlflow'", *MLFLOW)
    check_unharmed(found, plain)
    files = [f"mapreel/{name}" for name in ("film.mp4", "page.html", "sheet.png")]
    assert found["found"] == [*files, "mapreel/epoch", "mapreel/loss"]


@pytest.mark.slow
def test_the_active_run_of_trackio_gets_what_was_recorded(
    tmp_path: Path, plain: dict[str, Any]
) -> None:
    skip_without("trackio")
    found = train(tmp_path, "'trackio'", *TRACKIO)
    check_unharmed(found, plain)
    names = {f"mapreel/{name}" for name in ("film", "sheet", "page", "epoch", "loss")}
    assert names | {"mine"} <= set(found["found"])


@pytest.mark.slow
def test_a_run_that_is_given_gets_what_was_recorded(tmp_path: Path, plain: dict[str, Any]) -> None:
    skip_without("aim")
    before = "import aim; run = aim.Run(repo='repo', system_tracking_interval=None)"
    found = train(tmp_path, "run", before)
    check_unharmed(found, plain)
    assert "pushed run.h5: run " in found["said"]
    assert len(list(tmp_path.glob("repo/.aim/mapreel/*/page.html"))) == 1


@pytest.mark.slow
def test_event_files_are_written_beside_those_of_a_summary_writer(
    tmp_path: Path, plain: dict[str, Any]
) -> None:
    skip_without("tensorboard")
    before = "from torch.utils.tensorboard import SummaryWriter; writer = SummaryWriter('logs')"
    found = train(tmp_path, "writer", before)
    check_unharmed(found, plain)
    assert len(list((tmp_path / "logs").glob("events.out.tfevents.*"))) == 2


def record(folder: Path, push: Any) -> list[str]:
    """Records two batches; returns what was warned of."""
    model = nn.Conv2d(1, 2, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Recorder(model, folder / "run.h5", push=push, quiet=True) as recorder:
            for images in recorder.track(torch.zeros(2, 1, 1, 8, 8)):
                model(images)
    return [str(each.message) for each in caught if each.category is RecordingWarning]


@pytest.mark.usefixtures("quick_writers")
def test_whatever_goes_wrong_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (said,) = record(tmp_path, f"folder={tmp_path / 'file'}")
    assert said.startswith(("run.h5 was not pushed: folder=", f"{tmp_path / 'run.h5'} was not"))
    assert f"--to folder={tmp_path / 'file'}' does so in a run of its own" in said

    monkeypatch.setattr("replay.schema.destinations.find_spec", lambda name: None)
    (tmp_path / "other").mkdir()
    (said,) = record(tmp_path / "other", "wandb")
    assert said == "push: wandb: not installed; pip install 'mapreel[wandb]'"


@pytest.mark.usefixtures("quick_writers")
def test_a_folder_takes_it_without_any_tracker(tmp_path: Path) -> None:
    assert record(tmp_path, f"folder={tmp_path / 'out'}") == []
    assert {"film.mp4", "sheet.png", "page.html"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_an_unknown_tracker_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unknown tracker 'wanbd'"):
        Recorder(nn.Conv2d(1, 1, 1), tmp_path / "run.h5", push="wanbd")
    assert not (tmp_path / "run.h5").exists()
