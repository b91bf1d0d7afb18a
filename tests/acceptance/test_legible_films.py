"""One sees the features: what is decoded of films at default settings, of two real trainings.

The numbers are those of `scripts/bench/legible`: the standard deviation within each tile in levels
(0 to 255), and on the fixed image the mean change from frame to frame in the last epoch, against
that of a film of the whole run on one range, that of the whole run.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import replay
from record import Recorder
from record.__main__ import main as record_main
from record.training.photos import load_photos

pytestmark = pytest.mark.slow

MEDIAN, FLAT, SHARE, MOVES = 40, 10, 0.01, 0.15


@pytest.fixture(scope="module")
def legible() -> ModuleType:
    """The bench's module."""
    path = Path(__file__).parents[2] / "scripts" / "bench" / "legibility" / "legible.py"
    spec = importlib.util.spec_from_file_location("legible", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["legible"] = module  # where its dataclass looks for its names
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`python -m record train` with its defaults."""
    path = tmp_path_factory.mktemp("built-in") / "run.h5"
    assert (
        record_main(["train", "--device", "cpu", "--quiet", "--probe", "1", "-o", str(path)]) == 0
    )
    return path


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-18 on photographs, which comes to rest: its rate ends at 0, its statistics are kept.

    A fixed image is shown as the network sees it outside of training, by the running statistics of
    batch norm. Each batch moves those by a tenth of how it differs from the last, also when nothing
    is learned any more; in the last epochs they are kept, as `--num-batch-norm-update-epochs` of
    torchvision's reference trainings does.
    """
    path = tmp_path_factory.mktemp("resnet") / "run.h5"
    torch.manual_seed(0)
    epochs, batches, kept = 12, 8, 3
    photos, held_out = load_photos(64, 0)
    order = torch.Generator().manual_seed(0)
    loader = torch.utils.data.DataLoader(photos, 16, shuffle=True, generator=order)
    model = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    with Recorder(model, path, layers="Conv2d", probe=held_out[0][0][None], quiet=True) as recorder:
        for epoch in range(epochs):
            if epoch == epochs - kept:
                for module in model.modules():
                    module.train(not isinstance(module, nn.BatchNorm2d))
            for images, labels in recorder.track(list(itertools.islice(loader, batches))):
                loss = nn.functional.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()
                recorder.log(loss=loss)
    return path


def check(seen: Any, what: str) -> None:
    """Makes sure that one sees the maps of a layer."""
    assert min(seen.medians) >= MEDIAN, f"{what}: medians {seen.medians}"
    assert (seen.all < FLAT).mean() <= SHARE, what


def test_one_sees_the_features_of_the_built_in_run(
    built_in: Path, legible: ModuleType, tmp_path: Path
) -> None:
    with replay.open(built_in) as run:
        assert run.probes >= 1
        for name in run.layers:
            check(legible.measure(run, name, "adaptive", 12, tmp_path), name)
            fixed = legible.measure(run.probe(0), name, "adaptive", 12, tmp_path)
            check(fixed, f"{name} of the fixed image")
            plain = legible.measure(run.probe(0), name, "run", 60, tmp_path)
            assert len(fixed.changes) == len(plain.changes) == 59
            assert np.mean(fixed.changes) <= np.mean(plain.changes) + MOVES, name


def test_20_mb_hold_all_frames_of_the_built_in_run_as_the_eye_sees_them(
    built_in: Path, tmp_path: Path
) -> None:
    """Two of its five epochs, in two fifths of that."""
    result = replay.page(built_in, tmp_path / "page.html", epochs="0,4", max_mb=8)
    assert result.frames == 120
    (note,) = result.notes
    _, _, listed = note.partition("(root mean square): ")
    errors = re.findall(r"(conv\d) ([\d.]+)", listed)
    assert [name for name, _ in errors] == 2 * ["conv1", "conv2", "conv3"]
    assert max(float(error) for _, error in errors) <= 2.5, note


def test_one_sees_the_features_of_every_layer_of_a_resnet(
    resnet: Path, legible: ModuleType, tmp_path: Path
) -> None:
    with replay.open(resnet) as run:
        assert len(run.layers) == 20
        for name in run.layers:
            check(legible.measure(run, name, "adaptive", 8, tmp_path), name)
            fixed = legible.measure(run.probe(0), name, "adaptive", 8, tmp_path)
            plain = legible.measure(run.probe(0), name, "run", 8, tmp_path)
            check(fixed, f"{name} of the fixed image")
            assert len(fixed.changes) == len(plain.changes) == 7
            assert np.mean(fixed.changes) <= np.mean(plain.changes) + MOVES, name
