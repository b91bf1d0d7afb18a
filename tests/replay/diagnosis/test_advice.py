"""Each finding ends with what to do about it."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.diagnosis.advice import advise
from replay.diagnosis.report import KINDS as ALL_KINDS

BESIDE = ("vanishing", "exploding", "one-token", "uniform")  # see test_beside_maps.py
KINDS = [kind for kind in ALL_KINDS if kind not in BESIDE]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    waves = drifting_maps(8, 16, 16)

    def maps(epoch: int, batch: int) -> np.ndarray:
        made = waves(epoch, batch).copy()
        if (epoch, batch) >= (1, 4):
            made[0] = 0
            made[1] = 0.25 * batch
            made[2] = -1.5
            made[3] = np.where(np.arange(256).reshape(16, 16) == 7, made[3], 6)
            made[4] = waves(1, 4)[4]
        made[3] = np.minimum(made[3], 6)
        made[6] = 2 * made[5] + 1
        if (epoch, batch) >= (2, 3):
            made[7, 0, :3] = np.nan
            made[7, 1, 0] = np.inf
        return made

    folder = tmp_path_factory.mktemp("advice")
    return write_recording(folder / "run.h5", {"a": maps, "b": waves}, epochs=4, batches=10)


def test_every_finding_has_advice_in_python_json_and_csv(path: Path) -> None:
    found = replay.health(path)
    assert {one.kind for one in found.all_findings} == set(KINDS)
    assert all(20 < len(one.advice) < 220 for one in found.all_findings)
    assert len({one.advice for one in found.all_findings}) == len(KINDS)
    document = json.loads(found.to_json())
    listed = document["findings"] + [one for each in document["layers"] for one in each["findings"]]
    assert [one["advice"] for one in listed] == [one.advice for one in found.all_findings]
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["advice"] for row in rows] == [one.advice for one in found.all_findings]


def test_in_the_text_it_follows_what_was_found(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", str(path), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = [place for place, line in enumerate(lines) if line.strip().startswith("-> ")]
    assert len(said) == len(KINDS) + 2  # NaN and infinity are told of all layers, too
    assert all(re.match(r"  (\w+) {2,}\S", lines[place - 1]) for place in said)
    assert max(len(lines[place]) for place in said) <= 100
    start = next(place for place, line in enumerate(lines) if line.startswith("  nan"))
    assert "GradScaler" in lines[start + 1]


@pytest.mark.parametrize(
    ("kind", "module", "text", "value", "words"),
    [
        ("dead", "ReLU(inplace=True)", "", 0.0, "lower learning rate or warm-up, LeakyReLU"),
        ("dead", "ReLU6()", "", 0.0, "LeakyReLU"),
        ("dead", "Conv2d(3, 6, kernel_size=(3, 3))", "", 0.0, "pruning and weight decay"),
        ("saturated", "Sigmoid()", "", 1.0, "next to no gradient passes"),
        ("saturated", "ReLU()", "", 0.0, "nearly all is zero"),
        ("saturated", "ReLU6()", "", 6.0, "clipped at a bound"),
        ("unchanging", "", "the kernels are the same in epoch 1", None, "requires_grad"),
        ("unchanging", "", "the same map", None, "layers before it"),
        ("duplicate", "", "", 0.99, "fewer channels"),
        ("nan", "", "", 3, "GradScaler or bfloat16"),
        ("inf", "", "", 3, "65,504"),
        ("flat", "", "", 1.0, "bias"),
        ("stuck", "", "", 1.0, "normalisation before it"),
        ("vanishing", "", "", 1e-6, "residual connections"),
        ("exploding", "", "", 1e6, "clip_grad_norm_"),
        ("one-token", "", "", 0.99, "register"),
        ("uniform", "", "", 1.0, "averages all tokens"),
    ],
)
def test_it_is_what_fits_the_finding(
    kind: str, module: str, text: str, value: float | None, words: str
) -> None:
    assert words in advise(kind, module, text, value)
