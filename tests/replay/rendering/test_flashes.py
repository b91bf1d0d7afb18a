"""Flashes (WCAG 2.3.1) are found in the frames, with their time, and only where there are some."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from command_lines import without_next
from PIL import Image
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
    (tmp_path / "run.mp4").unlink()
    words = ["animate", str(tmp_path / "run.h5"), "--clip", "0,1", "--fps"]
    assert main([*words, "10"]) == 0
    assert without_next(capsys.readouterr().err) == (
        f"warning: {remark}\n".replace("fps=6", "--fps 6").replace("(probe)", "(--probe)")
    )
    (tmp_path / "run.mp4").unlink()
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


@pytest.mark.parametrize(
    ("name", "jobs"),
    [("a.mp4", None), ("a.gif", None), ("a.webp", 2), ("a.png", None), ("frames/", None)],
)
def test_the_frame_rate_that_is_chosen_does_not_flash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, jobs: int | None
) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:  # three changes in four frames, for a while
        changes = sum(number % 4 > 0 for number in range(40, min(batch, 70)))
        return np.full((4, 16, 16), changes % 2, "f2")

    run = write_recording(tmp_path / "run.h5", {"conv": maps}, epochs=2, batches=150, image=None)
    made = replay.animate(run, f"{tmp_path}/{name}", clip=(0, 1), zoom=8, jobs=jobs)
    assert made.frames == 300
    assert made.fps == (100 / 14 if name == "a.gif" else 8)  # a second of 9 frames has 7 changes
    (remark,) = made.remarks
    assert made.notes == (remark,)
    assert remark == (
        f"{made.fps:.3g} frames a second, since it would flash more than three times a second at "
        f"{12.5 if name == 'a.gif' else 12:.3g} (WCAG 2.3.1); fps sets another rate"
    )
    if name == "a.mp4":
        assert next(imageio_ffmpeg.read_frames(str(made.path)))["fps"] == made.fps
    elif not name.endswith("/"):
        with Image.open(made.path) as image:
            image.load()
            assert abs(image.info["duration"] - 1000 / made.fps) < 1
    if name != "a.mp4":
        return
    # As many as do not flash: at one more they do, and that is what is warned of.
    options = {"clip": (0, 1), "zoom": 8}
    assert replay.animate(run, tmp_path / "b.mp4", fps=made.fps, **options).remarks == ()
    faster = replay.animate(run, tmp_path / "faster.mp4", fps=9, **options)
    assert "can cause seizures" in faster.remarks[0]
    assert faster.notes == ()
    words = ["animate", str(run), "-o", f"{tmp_path}/c.mp4", "--clip", "0,1", "--zoom", "8"]
    assert main(words) == 0
    assert capsys.readouterr().err.startswith("note: 8 frames a second")


def test_flashes_that_begin_in_one_part_and_end_in_the_next_are_found(tmp_path: Path) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:  # eight changes, around the 20th frame
        return np.full((4, 16, 16), batch % 2 if 16 <= batch < 24 else 0, "f2")

    run = write_recording(tmp_path / "run.h5", {"conv": maps}, epochs=1, batches=40, image=None)
    for jobs in (1, 2):
        made = replay.animate(run, tmp_path / "a.webp", clip=(0, 1), zoom=8, fps=10, jobs=jobs)
        assert "at 0:02" in made.remarks[0]


def test_two_runs_do_not_flash_at_a_frame_rate_of_our_choice(tmp_path: Path) -> None:
    runs = [
        write_recording(
            tmp_path / f"{name}.h5", {"conv": flickering(0)}, epochs=2, batches=150, image=None
        )
        for name in "ab"
    ]
    made = replay.compare(*runs, tmp_path / "a.mp4", clip=(0, 1), zoom=8)
    assert made.fps == 6
    assert made.notes == made.remarks[-1:]


def test_a_usual_recording_does_not_flash(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"conv": drifting_maps(6, 16, 16)}, epochs=3, batches=20, image=None
    )
    assert replay.animate(path, tmp_path / "a.mp4", fps=30).remarks == ()
