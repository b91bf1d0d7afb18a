"""`python -m record train` as a stranger uses it, on good and on bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import replay
from record.__main__ import main
from replay.__main__ import main as replay_main

SMALL = ["--samples", "40", "--epochs", "2", "--image-size", "32", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    path = tmp_path_factory.mktemp("train") / "run.h5"
    command = [sys.executable, "-m", "record", "train", *SMALL, "-o", str(path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    return path, done


def test_what_it_says_and_records(
    trained: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, done = trained
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert "\r" not in done.stderr  # a pipe, not a terminal
    assert said[0].startswith("data       photos: 40 training and 400 test images of 32x32")
    assert "conv1  12x32x32 and kernels, 25.2 kB" in done.stderr
    assert [line for line in said if line.startswith("epoch ")][1].startswith("epoch 1: loss ")
    assert f"next       {sys.executable} -m replay animate {path} --probe\n" in done.stdout
    with replay.open(path) as run:
        assert run.layers == ("conv1", "conv2", "conv3")
        assert len(run.frames) == 2 * 3
        assert run.meta["classes"][1] == "chelsea"
        assert run.meta["command"][1:4] == ["-m", "record", "train"]
        assert (run.meta["seed"], run.meta["dataset"], run.meta["epochs"]) == (0, "photos", 2)
        np.testing.assert_array_equal(run.inputs.mean, [0.5] * 3)
        for field in ("loss", "lr", "time"):
            assert np.isfinite(run.batches[field]).all()
        assert set(run.batches["label"].ravel()) <= set(range(10))
    assert replay_main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"]


def test_quiet_and_overwrite(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(b"old")
    small = ["--samples", "8", "--epochs", "1", "--image-size", "16", "--every", "1"]
    assert main(["train", *small, "-o", str(path)]) == 2
    assert path.read_bytes() == b"old"
    capfd.readouterr()
    assert main(["train", *small, "-o", str(path), "--overwrite", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    with replay.open(path) as run:
        assert len(run.frames) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "resnet81"], "unknown model 'resnet81'; expected tiny, package.module:fac"),
        (["--model", "nowhere:Net"], "cannot import the model 'nowhere:Net'"),
        (["--model", "json:dumps"], "the model factory 'json:dumps' failed"),
        (["--data", "imagenet"], "unknown data 'imagenet'; expected one of photos"),
        (["--data", "cifar10", "--data-dir", "none"], "/none; name its folder with --data-dir"),
        (["--data", "mnist", "--data-dir", "none"], "or fetch it with --download"),
        (["--data", "folder", "--data-dir", "none"], "no image folder at"),
        (["--device", "tpu"], "no device 'tpu'; expected auto or one of"),
        (["--layers", "cnov*"], "no layer matches 'cnov*'; did you mean conv1"),
        (["--epochs", "0"], "--epochs 0: expected at least 1"),
        (["--samples", "0"], "samples 0: expected at least 1"),
        (["--image-size", "4"], "image size 4: expected at least 8 pixels"),
        (["--model", "inception_v3", "--image-size", "40"], "the model does not take 3x40x40"),
        (["-o", "none/run.h5"], "no such folder"),
        (["-o", "."], "is a folder"),
        (["-o", "x" * 300], "...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: file name too long"),
        (["-o", "x" * 250], ", as a recording needs them: file name too long"),
        (["--lr", "inf"], "--lr inf: expected a finite number above 0"),
        (["--seed", "-1"], "--seed -1: expected 0 to 4,294,967,295"),
        (["--seed", str(1 << 80)], ": expected 0 to 4,294,967,295"),
        (["--probe", "65"], "--probe 65: expected 0 to 64"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *options]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["googlenet", "resnet18"])
def test_torchvision_models_train(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.h5"
    options = ["--data", "fake", "--samples", "3", "--batch-size", "2", "--image-size", "32"]
    options += ["--epochs", "1", "--quiet", "--device", "cpu", "--model", name]
    assert main(["train", *options, "-o", str(path), "--layers", "conv1*", "fc"]) == 0
    with replay.open(path) as run:
        assert len(run.frames) == 1  # a last batch of one image is left out
        assert run.layers[-1] == "fc"
        assert run["fc"][0, 0].shape == (10,)
        assert run.meta["mean"] == [0.485, 0.456, 0.406]


def test_a_factory_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(4, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["train", *SMALL, "--quiet", "--model", "mine:net"]) == 0
    with replay.open("run.h5") as run:
        assert run["0"].layer.shape == (4, 30, 30)


def test_the_gpu_records_what_the_layer_put_out(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here: recording from a GPU was not tested in this run")
    path = tmp_path / "run.h5"
    options = [option for option in SMALL if option not in ("--device", "cpu")]
    assert main(["train", *options, "--device", "cuda", "--quiet", "-o", str(path)]) == 0
    with replay.open(path) as run:
        assert len(run.frames) == 6
        assert all(abs(run["conv1"][at]).max() > 0 for at in run.frames)


def test_a_checkpoint_replaces_no_file_of_the_users(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = [
        *["--epochs", "1", "--samples", "8", "--image-size", "16", "--device", "cpu", "--quiet"],
        "--overwrite",
    ]
    state = tmp_path / "state.pt"
    words = ["train", "-o", str(tmp_path / "a.h5"), "--checkpoint", str(state)]
    assert main([*words, *small]) == 0
    (tmp_path / "a.h5").unlink()
    assert main([*words, *small[:-1]]) == 0  # an earlier one of ours
    (tmp_path / "a.h5").unlink()
    for spoil in (lambda: state.write_text("mine"), lambda: torch.save({"w": 1}, state)):
        spoil()
        before = state.read_bytes()
        assert main([*words, *small[:-1]]) == 2
        assert "is no checkpoint of record train" in capfd.readouterr().err
        assert state.read_bytes() == before
        assert not (tmp_path / "a.h5").exists()
    assert main([*words, *small]) == 0
