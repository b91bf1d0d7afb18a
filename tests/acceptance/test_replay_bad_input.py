"""Bad input: one line on stderr, exit code 2, no traceback, nothing overwritten."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from samples import drifting_maps, write_recording

from replay.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run = write_recording(
        tmp_path / "run.h5", {"conv1": drifting_maps(4, 8, 8), "block.1": drifting_maps(2, 4, 4)}
    )
    (tmp_path / "text.h5").write_text("not a recording")
    (tmp_path / "empty.h5").touch()
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "cut.h5").write_bytes(run.read_bytes()[:3000])
    os.mkfifo(tmp_path / "fifo.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = [1, 2]
    maps = {"conv1": drifting_maps(4, 8, 8)}
    write_recording(tmp_path / "new.h5", maps, version=3)
    write_recording(tmp_path / "bare.h5", maps, recorded=lambda e, b: False)
    write_recording(tmp_path / "layerless.h5", {})
    (tmp_path / "old.png").write_bytes(b"old")
    return tmp_path


FILES = {
    "none.h5": "no such file: none.h5",
    "text.h5": "not an HDF5 file: text.h5",
    "empty.h5": "the file is empty",
    "folder.h5": "is a folder",
    "fifo.h5": "not a regular file",
    "cut.h5": "damaged HDF5 file: cut.h5 is cut off: it has 3,000 of ",
    "other.h5": "not a mapreel recording: other.h5",
    "new.h5": "has version 3 of the format",
    "bare.h5": "no frame was committed to bare.h5",
    "layerless.h5": "holds no layer",
    "a\0b.h5": "no file can be called a\\x00b.h5",
}
OPTIONS = {
    "--layer conv9": "no layer 'conv9' in run.h5; recorded: conv1, block.1",
    "--channels 1,9": "no channel 9; there: 0-3",
    "--channels x": "cannot read channel 'x'",
    "--channels top:0": "top:N",
    "--epoch 7": "no epoch 7; there: 0-1",
    "--epoch -7": "no epoch -7",
    "--batch 9": "no batch 9 in epoch 1 of run.h5; recorded: 0-3",
    "--cmap virdis": "unknown colormap 'virdis'; did you mean 'viridis'",
    "--clip 1,-1": "LO below HI",
    "--clip -1": "expected LO,HI",
    "--scale each": "unknown value 'each'; expected one of adaptive, map, run",
    "--theme blue": "unknown value 'blue'; expected one of light, dark",
    "--dpi 0": "whole number of 1 or more",
    "--dpi 9": "20 to 2400",
    "--kernels": "no kernels of 'conv1'",
    "--nonsense": "unknown option --nonsense (see",
    "-x": "unknown option -x (see",
    "-q": "unknown option -q; did you mean '--query'? (see",
    "-o old.jpg": "ends in .png, .pdf, .svg",
    "-o none/a.png": "no such folder: none",
    "-o run.h5": "ends in .png",
    "-o old.png/a.png": "no such folder: old.png",
    "-o /proc/a.png": "cannot write /proc/a.png",
}


def check(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    before = {p.name: p.read_bytes() for p in Path().iterdir() if p.is_file()}
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]*\n", err)
    assert message in err
    assert {p.name: p.read_bytes() for p in Path().iterdir() if p.is_file()} == before


@pytest.mark.parametrize("command", ["info", "grid", "page"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    check(capsys, [command, name, *(["-o", "old.png"] if command == "grid" else [])], FILES[name])


@pytest.mark.parametrize("options", OPTIONS)
def test_an_option_that_cannot_be_used(
    folder: Path, capsys: pytest.CaptureFixture[str], options: str
) -> None:
    words = ["grid", "run.h5", "-o", "old.png", "--overwrite", *options.split()]
    check(capsys, words, OPTIONS[options])


@pytest.mark.parametrize("words", [[], ["dance"], ["info"], ["info", "run.h5", "--more"]])
def test_usage(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    check(capsys, words, "--help")


@pytest.mark.parametrize("words", [["--debug", "info", "none.h5"], ["info", "none.h5", "--debug"]])
def test_debug_shows_the_traceback(folder: Path, words: list[str]) -> None:
    done = run(words, folder)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_from_a_shell(folder: Path) -> None:
    done = run(["grid", "fifo.h5"], folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: expected a recording such as run.h5, but fifo.h5 is not a regular file\n"
    )


def run(words: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "replay", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
