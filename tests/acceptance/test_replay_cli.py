"""The command line on good input, and what it may import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from command_lines import without_next
from samples import drifting_maps, write_recording

from replay.__main__ import main
from replay.cli.parser import spell_out

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "replay").rglob("*.py"))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(4, 8, 8)})


def python(code: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_info_as_text_and_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "run.h5"]) == 0
    assert "8 frames: epochs 0-1, batches 0-3" in capsys.readouterr().out
    assert main(["info", "--json", "run.h5"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["frames"] == 8
    assert without_next(err) == ""


def test_grid_prints_its_path(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--epoch -1 --batch -1 --clip -1,1 --channels -1,0 --cmap RdBu_r --dpi 60"
    assert main(["grid", "run.h5", *options.split(), "-o", "a.svg"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("a.svg  ")
    assert without_next(err) == ""
    text = (path.parent / "a.svg").read_text()
    assert "clipped to the range asked for" in text


def test_a_recording_that_was_not_closed_is_said_to_be(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(path, "r+") as file:
        file["state"][:] = [5, 0, 3, 0]
    assert main(["grid", "run.h5", "--dpi", "60"]) == 0
    err = without_next(capsys.readouterr().err)
    assert err.startswith("warning: run.h5 was not closed")
    assert err.endswith("lost 3 frames; 5 frames whole\n")
    assert err.count("\n") == 1


def test_words_are_not_mistaken() -> None:
    assert spell_out(["animate", "--layer", "a", "b*", "run.h5", "--epochs", "-3:", "--quiet"]) == (
        ["animate", "--layer=a", "--layer=b*", "run.h5", "--epochs=-3:", "--quiet"]
    )
    assert spell_out(["grid", "--clip", "-.5,1", "-1.h5"]) == ["grid", "--clip=-.5,1", "-1.h5"]


@pytest.mark.parametrize(
    "command", [[], ["info"], ["animate"], ["compare"], ["grid"], ["page"], ["watch"], ["health"]]
)
def test_help_fits_a_terminal(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert command == ["info"] or "examples:" in text


def test_grid_and_info_without_torch(path: Path) -> None:
    done = python(
        "import sys; sys.modules.update(torch=None, record=None)\n"
        "from replay.__main__ import main\n"
        "assert main(['info', sys.argv[1]]) == 0\n"
        "heavy = {'matplotlib', 'imageio', 'PIL', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert main(['grid', sys.argv[1], '--dpi', '60']) == 0\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n",
        str(path),
    )
    assert (done.returncode, without_next(done.stderr)) == (0, "")
    assert path.with_name("run-grid.png").stat().st_size > 1000


def test_all_of_replay_imports_neither_torch_nor_record() -> None:
    names = [".".join(module.relative_to(ROOT).with_suffix("").parts) for module in MODULES]
    names = [name.removesuffix(".__init__") for name in names]
    assert {"replay.film.film", "replay.cli.parser", "replay.figures"} <= set(names)
    done = python(
        "import sys, importlib\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print({'torch', 'record', 'torchvision'} & set(sys.modules))"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_a_reader_that_has_seen_enough(path: Path) -> None:
    command = f"{sys.executable} -m replay info run.h5 | true"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
