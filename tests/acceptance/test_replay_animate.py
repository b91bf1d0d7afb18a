"""The animate command; what its pictures look like is tested where they are made."""

from pathlib import Path

import pytest
from command_lines import without_next
from samples import drifting_maps, write_recording

from replay.__main__ import main

pytest.importorskip("replay.rendering.animation")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_recording(
        tmp_path / "run.h5", {"conv1": drifting_maps(4, 8, 8), "conv2": drifting_maps(2, 4, 4)}
    )


def test_the_path_and_the_frames_are_printed(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["animate", "run.h5", "-o", "a.gif", "--epochs", "-1", "--batches", "1:", "--quiet"])
        == 0
    )
    out, err = capsys.readouterr()
    assert out.startswith("a.gif  ")
    assert "3 frames" in out
    assert without_next(err) == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layer conv9", "recorded: conv1, conv2"),
        ("--channels 9", "there: 0-3"),
        ("--epochs 5:", "there: 0-1"),
        ("--batches 7", "there: 0-3"),
        ("--cmap virdis", "viridis"),
        ("-o a.avi", "a.avi"),
        ("-o none/a.mp4", "none"),
        ("--fps 0", "above 0"),
    ],
)
def test_bad_input(
    path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    assert main(["animate", "run.h5", "-o", "a.gif", *options.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert [p.name for p in path.parent.iterdir()] == ["run.h5"]
