import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main as replay_main
from replay.formatting import clean, clean_line, format_bytes, format_module
from replay.recording import info, info_text


def spoilt(epoch: int, batch: int) -> np.ndarray:
    maps = drifting_maps(2, 4, 4)(epoch, batch)
    if (epoch, batch) >= (1, 1):
        maps[0, 0, :2] = np.nan, np.inf
    return maps


def make(path: Path) -> Path:
    return write_recording(
        path / "run.h5",
        {"conv1": spoilt, "evil%1B[2J": drifting_maps(1, 2, 2)},
        recorded=lambda e, b: b != 2,
        fields={
            "loss": lambda e, b: np.nan if (e, b) == (1, 3) else 2.0 - e - b / 10,
            "label": lambda e, b: b,
            "prediction": lambda e, b: b if e else 0,
        },
        kernels={"conv1": drifting_maps(2, 3, 3)},
        meta={"command": ["train", "a b"], "lr": float("nan"), "model": "tiny\x07"},
    )


def test_the_document(tmp_path: Path) -> None:
    with replay.open(make(tmp_path)) as run:
        found = json.loads(info.to_json(info.describe(run)), parse_constant=lambda token: 1 / 0)
    assert found["meta"]["lr"] is None
    assert (found["frames"], found["epochs"], found["batches"]) == (6, [0, 1], [0, 1, 3])
    assert found["loss"]["first"] == 2.0
    assert found["loss"]["last"] == 0.9
    assert [epoch for epoch, _ in found["loss"]["epoch_means"]] == [0, 1]
    assert found["accuracy"] == {"of": 6, "right": 4, "epoch_means": [[0, 1 / 3], [1, 1.0]]}
    assert found["not_finite"]["nan"] == {"count": 2, "frames": 2, "first": [1, 1]}
    assert found["missing"] is None
    assert found["layers"][0]["shape"] == [2, 4, 4]
    assert found["layers"][0]["total_bytes"] == 6 * found["layers"][0]["frame_bytes"]
    assert found["closed"] is True


def test_the_text_is_fit_for_a_terminal(tmp_path: Path) -> None:
    with replay.open(make(tmp_path)) as run:
        text = info_text.format_info(info.describe(run))
        assert info.describe_problems(run) is None
    assert all(c.isprintable() or c == "\n" for c in text)
    for words in (
        "train 'a b'",
        "6 frames: epochs 0-1, batches 0-1, 3",
        "2.00 first, 0.900 last",
        "67% of 6 recorded images",
        "2 values in 2 frames, first in epoch 1, batch 1",
        "evil?[2J",
        "2x4x4",
    ):
        assert words in text


def test_trouble_is_one_line(tmp_path: Path) -> None:
    with h5py.File(make(tmp_path), "r+") as file:
        file["state"][:] = [4, 5, 1, 0]
    with replay.open(tmp_path / "run.h5") as run:
        line = info.describe_problems(run)
        text = info_text.format_info(info.describe(run))
    assert line is not None
    assert "not closed" in line
    assert line.endswith("lost 1 frame and left out 5 frames that came too fast; 4 frames whole")
    assert "not closed" in text
    assert "lost" in text


def test_words() -> None:
    assert [format_bytes(n) for n in (0, 999, 1000, 1_250_000, 123_456_789, 5e12)] == [
        *("0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "123 MB", "5,000 GB")
    ]
    assert clean("a\x00\ud800\u202eb") == "a···b"
    assert clean_line("a\x00\ud800\u202eb") == "a???b"
    assert format_module("Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), bias=False)") == (
        "Conv2d 3 → 64, 7×7, stride 2"
    )
    assert format_module("Conv2d(3, 64, kernel_size=(3, 3), stride=(2, 1), groups=4)") == (
        "Conv2d 3 → 64, 3×3, stride 2×1, groups 4"  # one way to say it, in films and in figures
    )
    assert format_module("ReLU()") == "ReLU"


def test_maps_under_a_name_that_no_layer_can_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recorder of others may write names as they are: they are left out, and that is said."""
    path = make(tmp_path)
    with h5py.File(path, "r+") as file:
        for name in ("50%", "a%2fb"):
            file.copy("maps/conv1", f"maps/{name}")
    with replay.open(path) as run:
        assert run.layers == ("conv1", "evil\x1b[2J")
        problems = info.describe_problems(run)
        assert problems is not None
        assert "maps under names that no layer can have, left out here: '50%', 'a%2fb'" in problems
    report = replay.verify(path)
    assert [str(problem) for problem in report.problems] == [
        f"file: maps: no layer can have the name {name!r}, so that none reads it"
        for name in ("50%", "a%2fb")
    ]
    assert replay_main(["info", str(path)]) == 0
    assert "left out here: '50%', 'a%2fb'" in capsys.readouterr().err
