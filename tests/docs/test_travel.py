"""What stands in docs/travel.md runs: the commands and the code, on a recording of two epochs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from documents import ROOT, code_blocks, commands
from samples import drifting_maps, write_recording

from replay.__main__ import main

PAGE = ROOT / "docs" / "travel.md"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_recording(
        tmp_path / "run.h5", {"conv1": drifting_maps(3, 8, 8)}, epochs=3, batches=4
    )


def block_with(words: str) -> str:
    (found,) = (code for code in code_blocks(PAGE, "python") if words in code)
    return found


def test_a_recording_is_read_by_its_address(run: Path) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed; pip install 'mapreel[remote]'")
    push, film = (
        [w for w in commands(PAGE) if "s3:" in "".join(w) and way in w]
        for way in ("push", "animate")
    )
    for words in (*push, *film):
        assert main([word.replace("s3://", "memory://") for word in words[1:]]) == 0
    named = block_with("replay.open").replace("s3://", "memory://")
    found: dict[str, object] = {}
    exec(named, found)
    assert getattr(found["frame"], "shape", None) == (3, 8, 8)


def test_a_recording_goes_into_tensorboard(run: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed; pip install 'mapreel[tensorboard]'")
    (words,) = (words for words in commands(PAGE) if "tensorboard=runs" in words)
    assert main(words[1:]) == 0
    exec(block_with("replay.push"), {})
    assert len(list(Path("runs/run").glob("events.out.tfevents.*"))) == 1
