"""A figure of several batches leaves the damaged ones out, and says so; it never draws them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.schema import DamagedError

FIGURES: list[Callable[..., Any]] = [replay.sheet, replay.grid]


def recording(path: Path, damaged: Iterable[int], probe: bool = False) -> Path:
    probes = [(np.zeros((3, 16, 16)), {"conv": drifting_maps(3, 12, 10, seed=1)})]
    layers = {"conv": drifting_maps(3, 12, 10), "deep": drifting_maps(2, 4, 4)}
    write_recording(path, layers, epochs=8, batches=2, probes=probes if probe else ())
    with h5py.File(path, "r+") as file:
        for epoch in damaged:
            file["probe/0/maps/conv" if probe else "maps/conv"][epoch, 1, 0, 0, 0] += 1
    return path


def texts(path: Path) -> str:
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text()))


def epochs(path: Path) -> list[int]:
    """Those whose rows stand in a figure."""
    found = re.findall(r">epoch (\d+)(?:<|\s{2,}batch)", path.read_text())
    return [int(each) for each in found]


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("draw", FIGURES)
def test_one_is_left_out(tmp_path: Path, draw: Callable[..., Any], probe: bool) -> None:
    path = recording(tmp_path / "run.h5", [2], probe)
    asked = path if draw is replay.sheet or not probe else replay.open(path).probe(0)
    made = draw(asked, tmp_path / "a.svg", epochs="1:4", layer="conv")
    assert epochs(made.path) == [1, 3]
    assert "damaged, left out: epoch 2 batch 1" in texts(made.path)
    assert "damaged, left out: epoch 2 batch 1" in made.captions[0]
    (remark,) = [each for each in made.remarks if "damaged" in each]
    assert "epoch 2 batch 1" in remark
    assert remark.endswith("; left out of the figure")
    whole = draw(recording(tmp_path / "whole.h5", []), tmp_path / "b.svg", epochs="1:4")
    assert "left out" not in texts(whole.path) + " ".join(whole.remarks)


@pytest.mark.parametrize("draw", FIGURES)
def test_of_many_it_is_said_how_many(tmp_path: Path, draw: Callable[..., Any]) -> None:
    path = recording(tmp_path / "run.h5", range(1, 8))
    made = draw(path, tmp_path / "a.svg", epochs=":", layer="conv")
    assert epochs(made.path) == [0]
    said = "left out: epoch 1 batch 1, epoch 2 batch 1, epoch 3 batch 1, epoch 4 batch 1 and 3 more"
    assert said in texts(made.path)
    (remark,) = [each for each in made.remarks if "damaged" in each]
    assert "and 6 more: see" in remark


@pytest.mark.parametrize("draw", FIGURES)
def test_where_all_are_damaged_nothing_is_drawn(tmp_path: Path, draw: Callable[..., Any]) -> None:
    path = recording(tmp_path / "run.h5", [3, 4])
    with pytest.raises(DamagedError, match="epoch 3 batch 1"):
        draw(path, tmp_path / "a.svg", epochs="3,4", layer="conv")
    assert not (tmp_path / "a.svg").exists()
    made = draw(path, tmp_path / "a.pdf", epochs="3,4", layer=["conv", "deep"])
    assert made.layers == ("deep",)
    assert any("left out conv: " in remark for remark in made.remarks)


def test_of_two_runs_the_other_one_stays(tmp_path: Path) -> None:
    paths = [recording(tmp_path / "a.h5", [3]), recording(tmp_path / "b.h5", [])]
    made = replay.grid(paths, tmp_path / "a.svg", epochs="3,5", layer="conv")
    assert sorted(epochs(made.path)) == [3, 5, 5]
    assert "damaged, left out: a epoch 3 batch 1" in texts(made.path)


def test_the_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path / "run.h5", [2])
    assert main(["sheet", str(path), "--layer", "conv", "-o", str(tmp_path / "a.png")]) == 0
    assert "damaged in" in capsys.readouterr().err
    assert main(["grid", str(path), "--epoch", "2", "-o", str(tmp_path / "b.png")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "epoch 2 batch 1" in line
