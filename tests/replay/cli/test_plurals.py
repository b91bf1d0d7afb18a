"""One of anything is said as one: no `1 batches`, `0 layer`, `epochs 0`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from record import formatting as record_words
from record.__main__ import main as record
from replay import formatting as replay_words
from replay.__main__ import main

ROOT = Path(__file__).parents[3]

_WORDS = (
    "batch|epoch|frame|layer|map|image|value|array|problem|finding|channel|class|parameter|time|"
    "second|token|slice|row|recording|file|colour|byte|cell|step|module|kernel|picture|input"
)
# The word that follows the number, or one between: `1 test images`. `1 of 5 frames` is right.
_WRONG = re.compile(
    rf"(?<![\d.,x×])(?:1|one) (?:[a-z]+ )?(?:{_WORDS})(?:s|es)\b(?! of\b.*\bin all)"
    rf"|(?<![\d.,x×])(?:0|[2-9]|\d\d+) (?:{_WORDS})\b(?!-|/| \d)"
    rf"|\b(?:epochs|batches|channels|layers|slices) \d+(?![\d\-–, :.]|$)"
    rf"|\b(?:epochs|batches) \d+(?:, (?:epoch|batch)|$|\n|\))",
    re.MULTILINE,
)


@pytest.mark.parametrize("text", ["1 batches", "0 layer", "epochs 0, batches 0-2", "1 test images"])
def test_the_test_would_find_it(text: str) -> None:
    assert _WRONG.search(text)


@pytest.mark.parametrize(
    "text",
    ["1 batch", "0 layers", "epoch 0, batches 0-2", "1 of 5 frames", "epochs 0, 2", "21 maps"],
)
def test_and_nothing_else(text: str) -> None:
    assert not _WRONG.search(text)


@pytest.mark.parametrize("words", [record_words, replay_words])
def test_a_number_and_its_word(words: object) -> None:
    count = words.format_count  # type: ignore[attr-defined]
    assert [count(n, "frame") for n in (0, 1, 2, 1200)] == [
        *("0 frames", "1 frame", "2 frames", "1,200 frames")
    ]
    assert [count(1, what) for what in ("batch", "class")] == ["1 batch", "1 class"]
    assert [count(2, what) for what in ("batch", "class", "epoch", "recorded batch")] == [
        *("2 batches", "2 classes", "2 epochs", "2 recorded batches")
    ]


def test_ascending_numbers_and_their_word() -> None:
    numbered = replay_words.format_numbers
    assert [numbered("batch", numbers) for numbers in ([3], [0, 1, 2], [])] == [
        *("batch 3", "batches 0-2", "batches none")
    ]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of one channel, one frame, one of everything that can be wrong."""
    spoilt = np.array([[[np.nan, 0.5], [np.inf, 1.0]]])
    return write_recording(
        tmp_path_factory.mktemp("one") / "run.h5",
        {"a": lambda e, b: spoilt},
        epochs=1,
        batches=1,
        fields={"missing": lambda e, b: 1, "label": lambda e, b: 0, "prediction": lambda e, b: 0},
        probes=[(np.zeros((3, 4, 4)), {"a": drifting_maps(1, 2, 2)})],
        closed=False,
    )


COMMANDS = [
    *(["info"], ["verify"], ["health"]),
    ["animate", "-o", "a.gif", "--alt"],
    ["animate", "-o", "b.mp4"],
    ["grid", "-o", "a.svg"],
    ["sheet", "-o", "b.svg"],
    ["health", "-o", "c.svg"],
    ["export", "-o", "a.npz"],
    ["repair", "-o", "new.h5"],
    ["page", "-o", "a.html"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_replay_says_one_of_one(
    one: Path, tmp_path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    made = [str(tmp_path / word) if "." in word else word for word in words]
    assert main([made[0], str(one), *made[1:]]) in (0, 1)
    told = capfd.readouterr()
    said = told.out + told.err
    for path in tmp_path.glob("*.svg"):
        said += "\n".join(
            re.findall(r"<text[^>]*>([^<]+)<|<dc:title>([^<]+)<", path.read_text())[0]
        )
    for path in tmp_path.glob("*.alt.txt"):
        said += path.read_text(encoding="utf-8")
    for path in tmp_path.glob("*.html"):
        said += "\n".join(re.findall(r'"words": ?"([^"]+)"', path.read_text(encoding="utf-8")))
    assert not _WRONG.search(said), said
    with replay.open(one) as run:
        assert re.search(r"1 epoch, 1 layer, 1 frame\b", repr(run))


def test_the_built_in_run_says_one_of_one(tmp_path: Path) -> None:
    options = ["--epochs", "1", "--samples", "8", "--image-size", "16", "--batch-size", "64"]
    command = [sys.executable, "-m", "record", "train", *options, "--device", "cpu", "-o", "a.h5"]
    done = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 epoch of 1 batch of 64" in done.stderr
    assert "recorded   1 batch of conv1" in done.stdout
    assert not _WRONG.search(done.stdout + done.stderr), done.stdout + done.stderr


def test_a_plan_says_one_of_one(capfd: pytest.CaptureFixture[str]) -> None:
    plan = ["plan", "--input", "3x16x16", "--batches", "4", "--epochs", "3"]
    assert record([*plan, "--schedule", "epochs=1:2,first=1"]) == 0
    said = capfd.readouterr()
    assert "1 of 12 batches (epoch 1)" in said.out
    assert not _WRONG.search(said.out + said.err)


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
