"""Flashes (WCAG 2.3.1) are found in the frames, with their time, and only where there are some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_lines import without_next
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main


def flickering(first: int, least: float = 0.0, most: float = 1.0):
    """Maps that alternate between two values from a batch on."""

    def maps(epoch: int, batch: int) -> np.ndarray:
        value = most if batch >= first and batch % 2 else least
        return np.full((4, 16, 16), value, "f2")

    return maps


def animate(tmp_path: Path, maps, **options) -> tuple[str, ...]:
    images = options.pop("images", None)
    image = None if images is None else (3, 32, 32)
    path = write_recording(
        tmp_path / "run.h5", {"conv": maps}, epochs=1, batches=40, image=image, images=images
    )
    options = {"clip": (0, 1), "fps": 10, "zoom": 8} | options
    return replay.animate(path, tmp_path / "run.mp4", **options).remarks


def test_maps_that_flash_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (remark,) = animate(tmp_path, flickering(21))
    assert remark.startswith("more than three flashes a second at 0:02: this can cause seizures")
    assert "fps=6 or lower" in remark
    words = ["animate", str(tmp_path / "run.h5"), "--clip", "0,1", "--fps"]
    assert main([*words, "10"]) == 0
    assert without_next(capsys.readouterr().err) == (
        f"warning: {remark}\n".replace("fps=6", "--fps 6").replace("(probe)", "(--probe)")
    )
    assert main([*words, "6"]) == 0
    assert without_next(capsys.readouterr().err) == ""


@pytest.mark.parametrize(
    "values",
    [
        (0.0, 0.3),  # gray 0.3 has a luminance of 0.07
        (0.92, 1.0),  # the darker one is above 0.80
    ],
)
def test_small_changes_are_no_flashes(tmp_path: Path, values: tuple[float, float]) -> None:
    assert animate(tmp_path, flickering(0, *values)) == ()


def test_a_small_part_of_the_frame_is_no_flash(tmp_path: Path) -> None:
    assert animate(tmp_path, flickering(0), zoom=1) == ()


def test_three_flashes_are_allowed(tmp_path: Path) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:
        return np.full((4, 16, 16), 20 < batch <= 26 and batch % 2, "f2")  # 3 times up and down

    assert animate(tmp_path, maps, fps=12) == ()


def test_the_input_picture_is_named_where_it_is_what_flashes(tmp_path: Path) -> None:
    def images(epoch: int, batch: int) -> np.ndarray:
        return np.full((3, 32, 32), batch % 2, "f2")

    still = flickering(100)
    (remark,) = animate(tmp_path, still, images=images)
    assert "in the input picture" in remark
    assert "input=False" in remark


def test_a_usual_recording_does_not_flash(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"conv": drifting_maps(6, 16, 16)}, epochs=3, batches=20, image=None
    )
    assert replay.animate(path, tmp_path / "a.mp4", fps=30).remarks == ()
