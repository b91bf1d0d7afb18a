"""A map of next to no pixels has an outline: as bright as the paper, it would look left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import Maps, write_recording

import replay


def ramp(height: int, width: int) -> Maps:
    """Four maps of one value each, from 0 to 1: the last is white, the first black."""
    values = np.linspace(0, 1, 4)[:, None, None] * np.ones((1, height, width))
    return lambda epoch, batch: values.astype("<f2")


def first_frame(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def boxes(gray: np.ndarray, value: int) -> list[tuple[int, int, int, int]]:
    """Rows and columns of areas of one value of 24 pixels and more each way, whose edge differs."""
    found = []
    flat = gray == value
    height, width = flat.shape
    for top in range(1, height - 24):
        for left in np.flatnonzero(flat[top] & ~flat[top - 1] & ~np.roll(flat[top], 1)):
            right = left + int(np.argmin(np.append(flat[top, left:], False)))
            bottom = top + int(np.argmin(np.append(flat[top:, left], False)))
            if right - left < 24 or bottom - top < 24 or bottom >= height or right >= width:
                continue
            edges = (
                *(flat[top - 1, left:right], flat[bottom, left:right]),
                *(flat[top:bottom, left - 1], flat[top:bottom, right]),
            )
            if flat[top:bottom, left:right].all() and not any(edge.any() for edge in edges):
                found.append((top, int(left), bottom, right))
    return found


@pytest.mark.parametrize("call", ["animate", "grid", "sheet"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_a_white_map_on_white_paper_is_seen(
    call: str, size: tuple[int, int], tmp_path: Path
) -> None:
    path = write_recording(tmp_path / "run.h5", {"pool": ramp(*size)}, image=None)
    made = getattr(replay, call)(path, tmp_path / "a.png", scale="run")
    gray = first_frame(made.path)
    assert (np.ptp(gray, axis=2) < 60).any()
    white = boxes(gray.min(axis=2), 255)
    assert len(white) == (2 if call == "sheet" else 1)  # of which each epoch has a row
    for top, left, bottom, right in white:
        assert abs((bottom - top) / (right - left) - size[0] / size[1]) < 0.1  # only the map


def test_films_have_the_same_pixels_in_every_format(tmp_path: Path) -> None:
    """Those that know the maps to be plain convert them otherwise; an outline is not plain."""
    path = write_recording(tmp_path / "run.h5", {"pool": ramp(1, 1)}, image=None)
    frames = []
    for name in ("a.png", "a.gif", "a.webp"):
        frames.append(first_frame(replay.animate(path, tmp_path / name, scale="run").path))
    folder = replay.animate(path, f"{tmp_path}/a/", scale="run").path
    frames.append(first_frame(sorted(folder.iterdir())[0]))
    for frame in frames[1:]:
        assert np.abs(frame - frames[0]).max() <= 2


def test_maps_of_more_pixels_have_none(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv": ramp(4, 4)}, image=None)
    for name in ("animate", "grid"):
        made = getattr(replay, name)(path, tmp_path / "a.png", scale="run", overwrite=True)
        assert not boxes(first_frame(made.path).min(axis=2), 255)
