"""The tutorial's commands and code, on a recording like the one that it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from documents import ROOT, code_blocks, commands
from samples import drifting_maps, write_recording

from replay.__main__ import main

TUTORIAL = ROOT / "docs" / "tutorial.md"
COMMANDS = [
    words
    for program, *words in commands(TUTORIAL)
    if program == "replay" and words[0] != "watch"  # which only ends when it is told to
]
READING = [block for block in code_blocks(TUTORIAL, "python") if "Recorder" not in block]


def kernels(epoch: int, batch: int) -> np.ndarray:
    return np.full((4, 3, 3, 3), 0.1 * epoch + 0.01 * batch, "f2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorial")
    image = np.linspace(-1, 1, 3 * 24 * 24).reshape(3, 24, 24)
    for number, name in enumerate(("run", "sgd", "adam")):
        layers = {"conv1": drifting_maps(4, 24, 24, number), "conv2": drifting_maps(6, 12, 12)}
        write_recording(
            folder / f"{name}.h5",
            layers,
            kernels={"conv1": kernels},
            probes=[(image, layers)],
            run_id=f"{number:032}",
        )
    return folder


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:60])
def test_a_command_of_the_tutorial_works(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert main(words) == 0
    if "-o" in words:
        assert (folder / words[words.index("-o") + 1]).stat().st_size > 0


def test_the_tutorial_shows_what_it_promises() -> None:
    assert {words[0] for words in COMMANDS} >= {"info", "animate", "page", "health", "compare"}
    assert len(READING) == 2


@pytest.mark.parametrize("block", READING, ids=["h5py", "replay"])
def test_the_tutorials_code_reads_the_recording(
    block: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(compile(block, "docs/tutorial.md", "exec"), names)
    if "first" in names:
        assert np.shape(names["first"]) == np.shape(names["last"]) == (4, 24, 24)
