"""One number an image, without an axis: one channel, whatever looks at it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from pages import facts_of
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.film.film import Film
from replay.options import FilmOptions
from replay.webpage.live import Live


def number(epoch: int, batch: int) -> np.ndarray:
    return np.float16(epoch + batch / 4 - 0.5).reshape(())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv": drifting_maps(2, 6, 6), "sq": number},
        probes=[(np.zeros((3, 8, 8)), {"sq": number})],
    )


def test_it_is_a_channel(path: Path) -> None:
    with replay.open(path) as run:
        layer = run["sq"].layer
        assert (run.layers, layer.shape, layer.axes, layer.channels) == (
            ("conv", "sq"),
            (1,),
            "C",
            1,
        )
        for cell in run.frames:
            assert run["sq"][cell].tobytes() == number(*cell).tobytes()
            assert run["sq"][cell].shape == (1,)
            assert run["sq"].ranges()[cell].tolist() == [[float(number(*cell))] * 2]
            assert run.probe(0)["sq"][cell] == number(*cell)
        film = Film(run, FilmOptions(layers=["conv", "sq"]))
        assert "1 map of 1×1" in film.panels[1].details


def test_beyond_the_dataset_there_is_nothing(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["maps/sq"].resize((1, 2))
        file["maps/sq"].attrs["axes"] = "CHW"  # as no frame of one number has them
        del file["checksums/sq"]
    with replay.open(path) as run:
        assert np.isnan(run["sq"][1, 3]).all()
        assert run["sq"][1, 3].shape == (1,)
        assert run["sq"].layer.axes == "C"


COMMANDS = [
    ["info", "--json"],
    ["verify"],
    ["health"],
    ["animate", "--layer", "sq", "-o", "a.gif"],
    ["animate", "--layer", "all", "-o", "a.mp4", "--with", "histogram"],
    ["animate", "--layer", "sq", "--probe", "0", "-o", "b.gif"],
    ["grid", "--layer", "sq", "-o", "a.png"],
    ["sheet", "--layer", "sq", "-o", "b.png"],
    ["export", "--layer", "sq", "-o", "a.npz"],
    ["export", "--layer", "sq", "-o", "a.npy"],
    ["page", "--layer", "sq", "-o", "a.html"],
    ["repair", "-o", "new.h5"],
    ["health", "-o", "health.png"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_shows_it(
    path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    made = [str(path.with_name(word)) if "." in word else word for word in words]
    assert main([made[0], str(path), *made[1:]]) == 0
    told = capfd.readouterr()
    if words[0] == "info":
        assert [layer["shape"] for layer in json.loads(told.out)["layers"]] == [[2, 6, 6], [1]]
    if words[0] == "health" and len(words) == 1:
        assert "\nsq " in told.out
    if words[-1] == "new.h5":
        with replay.open(path.with_name("new.h5")) as run:
            assert [run["sq"][cell].item() for cell in run.frames] == [
                float(number(*cell)) for cell in run.frames
            ]
        assert main(["verify", str(path.with_name("new.h5"))]) == 0
    if words[-1] == "a.npy":
        array = np.load(path.with_name("a.npy"))
        assert array.tolist() == [[float(number(e, b))] for e in range(2) for b in range(4)]


def test_two_runs_and_a_live_page(path: Path) -> None:
    other = path.with_name("other.h5")
    shutil.copyfile(path, other)
    with h5py.File(other, "r+") as file:
        file.attrs["run_id"] = "f" * 32
    out = path.with_name("both.gif")
    assert main(["compare", str(path), str(other), "--layer", "sq", "-o", str(out)]) == 0
    with Image.open(out) as image:
        assert image.n_frames == 8
    live = Live(path, layers="sq")
    block = live.block("s0-layer-0-3")
    assert block is not None
    low, high = facts_of(block)["frame"]
    assert low <= float(number(0, 3)) <= high
    live.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda file: file.create_dataset("maps/odd", data=np.zeros((2, 4), "i8")),
        lambda file: file.create_dataset("maps/odd", data=np.zeros((2, 4), "f4")),
        lambda file: file.create_dataset("maps/odd", data=np.zeros(4, "f2")),
    ],
)
def test_what_is_no_such_number_stays_unknown(
    path: Path, make: Callable[[h5py.File], object]
) -> None:
    with h5py.File(path, "r+") as file:
        make(file)
    with replay.open(path) as run:
        assert run.layers == ("conv", "sq")
