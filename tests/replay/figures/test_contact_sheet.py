"""A contact sheet: epochs down, channels across."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.maps.scaling import Scaler
from replay.raster.palette import colormap, enlarge


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("sheet") / "run.h5",
        {"conv1": drifting_maps(5, 12, 10), "deep": drifting_maps(40, 2, 2)},
        epochs=20,
        batches=3,
        probes=[(np.zeros((3, 16, 16)), {"conv1": drifting_maps(5, 12, 10, seed=1)})],
    )


def texts(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def corner(page: np.ndarray, picture: np.ndarray) -> tuple[int, int]:
    """Where the picture stands on the page, pixel for pixel."""
    height, width = picture.shape[:2]
    (found,) = (
        (int(y), int(x))
        for y, x in np.argwhere((page == picture[0, 0]).all(-1))
        if np.array_equal(page[y : y + height, x : x + width], picture)
    )
    return found


@pytest.mark.parametrize("scale", ["adaptive", "run"])
def test_epochs_go_down_and_channels_across(path: Path, tmp_path: Path, scale: str) -> None:
    made = replay.sheet(path, tmp_path / "a.png", rows=3, dpi=100, cmap="viridis", scale=scale)
    with Image.open(made.path) as picture:
        page = np.asarray(picture.convert("RGB"))
    with replay.open(path) as run:
        probe = run.probe(0)
        scaler = Scaler(probe["conv1"], probe.frames, range(5), scale, count=254)
        colours = colormap("viridis", 254)
        places = {}
        for epoch in (0, 10, 19):
            levels = scaler.levels(epoch, 2, probe["conv1"][epoch, 2])
            for channel in range(5):
                places[epoch, channel] = corner(page, enlarge(colours[levels[channel]], 10))
    assert len({y for y, _ in places.values()}) == 3
    assert len({x for _, x in places.values()}) == 5
    assert places[0, 0][0] < places[10, 0][0] < places[19, 0][0]
    assert places[0, 0][1] < places[0, 1][1] < places[0, 4][1]


def test_it_says_whose_image_it_is(path: Path, tmp_path: Path) -> None:
    replay.sheet(path, tmp_path / "a.svg")
    words = texts(tmp_path / "a.svg")
    assert "the same image in every row: fixed image 0" in words
    assert [word for word in words if word.startswith("epoch")] == [
        f"epoch {number}" for number in (0, 3, 5, 8, 11, 14, 16, 19)
    ]
    assert {"batch 2", "0", "4"} <= set(words)
    replay.sheet(path, tmp_path / "b.svg", probe=False, layer="deep", epochs="2:4", batch=0)
    words = texts(tmp_path / "b.svg")
    assert "each row: the first image of its batch, so that the images differ" in words
    assert [word for word in words if word.startswith("epoch")] == ["epoch 2", "epoch 3"]
    assert any("12 of 40 maps, 2×2, those that vary most" in word for word in words)


def test_the_command_line(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    assert main(["sheet", "run.h5", "--rows", "2", "--dpi", "60"]) == 0
    assert capsys.readouterr().out.startswith("run-sheet.png  ")
    target = str(tmp_path / "a.pdf")
    assert main(["sheet", "run.h5", "--no-probe", "--scale", "channel", "-o", target]) == 0
    capsys.readouterr()
    assert main(["sheet", "run.h5", "--probe", "3"]) == 2
    assert "no fixed image 3" in capsys.readouterr().err
    assert main(["sheet", "run.h5", "--epochs", "77"]) == 2
    assert "no epoch 77" in capsys.readouterr().err


def test_the_function_is_not_shadowed_by_a_room() -> None:
    assert callable(replay.sheet)
    assert callable(replay.health)
