"""`epoch` and `epochs`, `batch` and `batches`, `layer` and `layers` mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.schema import OptionError

CALLS: dict[str, Callable[..., Any]] = {
    "animate": lambda run, out, **more: replay.animate(run, out / "a.png", **more).frames,
    "compare": lambda run, out, **more: replay.compare(run, run, out / "a.gif", **more).frames,
    "page": lambda run, out, **more: replay.page(run, out / "a.html", **more).frames,
    "export": lambda run, out, **more: (
        replay.export(run, out / "a.npz", overwrite=True, **more).frames
    ),
    "grid": lambda run, out, **more: replay.grid(run, out / "g.svg", **more).path.read_text(),
    "sheet": lambda run, out, **more: replay.sheet(run, out / "s.svg", **more).path.read_text(),
    "push": lambda run, out, **more: [
        each.sha256
        for each in replay.push(run, f"folder={out / 'pushed'}", only=PUSHED, **more).files
    ],
    "draw": lambda run, out, **more: np.asarray(replay.draw(run, _ax(), **more).get_array()),
}
SINGLE = {"grid": "batch", "sheet": "batch", "draw": "batch"}
PUSHED = ["film", "page"]  # a sheet shows one batch of each epoch
EXPORT = "export run.h5 --overwrite -o a.npz"


def _ax() -> Any:
    from matplotlib.figure import Figure

    return Figure().subplots()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    layers = {"conv1": drifting_maps(4, 8, 8), "conv2": drifting_maps(4, 8, 8, seed=1)}
    return write_recording(tmp_path / "run.h5", layers, epochs=3)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("pair", [("epoch", "epochs"), ("batch", "batches")])
def test_both_names_mean_the_same(
    name: str, pair: tuple[str, str], path: Path, tmp_path: Path
) -> None:
    both = [CALLS[name](path, tmp_path, **{each: 1}) for each in pair]
    usual = CALLS[name](path, tmp_path)
    assert np.array_equal(*both)
    assert not np.array_equal(both[0], usual)
    with pytest.raises(OptionError, match=f"{pair[0]}.*two names of the same"):
        CALLS[name](path, tmp_path, **{pair[0]: 0, pair[1]: 1})


@pytest.mark.parametrize("name", CALLS)
def test_a_layer_has_both_names_too(name: str, path: Path, tmp_path: Path) -> None:
    makes = {
        "animate": lambda **more: replay.animate(
            path, tmp_path / "a.gif", **more
        ).path.read_bytes(),
        "compare": lambda **more: replay.compare(
            path, path, tmp_path / "c.gif", **more
        ).path.read_bytes(),
        "page": lambda **more: replay.page(path, tmp_path / "a.html", **more).layers,
        "export": lambda **more: replay.export(
            path, tmp_path / "a.npy", overwrite=True, **more
        ).path.read_bytes(),
    }
    make = makes.get(name, lambda **more: CALLS[name](path, tmp_path, **more))
    both = [make(**{each: "conv2"}) for each in ("layer", "layers")]
    assert np.array_equal(*both)
    assert not np.array_equal(both[0], make())
    with pytest.raises(OptionError, match="layers?.*two names of the same"):
        make(layer="conv1", layers="conv2")


def test_pack_takes_both_names_of_a_layer(path: Path, tmp_path: Path) -> None:
    for name in ("layer", "layers"):
        made = replay.pack(path, tmp_path / f"{name}.h5", **{name: "conv2"})  # type: ignore[arg-type]
        with replay.open(made.path) as run:
            assert run.layers == ("conv2",)


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_frame_takes_one_number(name: str, path: Path, tmp_path: Path) -> None:
    one = CALLS[name](path, tmp_path, batch=1)
    for spelled in ("1", [1], np.int64(1), np.array([1]), " 1 "):
        assert np.array_equal(CALLS[name](path, tmp_path, batches=spelled), one)
    for several in ("0,1", "0:2", [0, 1], slice(0, 2), "x"):
        with pytest.raises(OptionError, match=f"{name} shows one batch: .* for batch, found"):
            CALLS[name](path, tmp_path, batches=several)


@pytest.mark.parametrize("words", ["grid run.h5", "sheet run.h5", "page run.h5", EXPORT])
@pytest.mark.parametrize("pair", [("--epoch", "--epochs"), ("--batch", "--batches")])
def test_every_command_takes_both(
    words: str, pair: tuple[str, str], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for option in (*pair, f"{pair[0]}=-1"):
        value = [option] if "=" in option else [option, "-1"]
        assert main([*words.split(), *value]) == 0
        said = capsys.readouterr().out
        found.append(said.rpartition(",")[0] or said.split()[0])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("command", ["grid", "sheet"])
@pytest.mark.parametrize("option", ["--batch", "--batches"])
def test_a_command_of_a_single_frame_says_so_in_a_line(
    command: str, option: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "run.h5", option, "0,2"]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"error: {command} shows one batch: expected one number for --batch, found '0,2'; "
        "animate shows several\n"
    )


@pytest.mark.parametrize("command", ["animate", "compare", "grid", "sheet", "page", "export"])
def test_both_at_once_are_refused(
    command: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "run.h5", "-o", "x.png", "--epoch", "0", "--epochs", "1"]) == 2
    said = capsys.readouterr().err
    assert "--epoch and --epochs: expected one value, found two" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", ["animate", "compare", "grid", "sheet", "page", "export"])
def test_the_help_names_both(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--epoch(s) " in text
    assert "--batch(es) " in text
