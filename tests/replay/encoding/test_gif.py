"""A GIF's frames as players see them, however many were compressed at a time."""

from __future__ import annotations

import collections
import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from replay.encoding import gif
from replay.encoding.concat import to_pixels
from replay.encoding.ffmpeg import encode
from replay.encoding.gif import TRAILER, blocks
from replay.encoding.pixel_formats import Indexed, as_indices
from replay.encoding.target import choose_target
from replay.film.film import Overlay
from replay.raster.frame import Frame
from replay.raster.palette import Palette
from replay.schema import EncodeError

SIZE = (64, 96)
PALETTE = Palette("magma", 168)
BOXES = [(3, 5, 20, 40), (10, 0, 11, 96), (60, 90, 64, 96), (0, 0, 1, 1)]


def frames(count: int = 9) -> Iterator[Frame]:
    """Frames that differ in a box, and in a picture here and there."""
    rng = np.random.default_rng(2)
    plane = rng.integers(0, 168, SIZE, dtype=np.uint8)
    for number in range(count):
        top, left, bottom, right = box = BOXES[number % len(BOXES)]
        plane[top:bottom, left:right] = rng.integers(0, 168, (bottom - top, right - left))
        picture = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        shown = (Overlay(picture, 30, 50, 2),) if number % 3 == 1 else ()
        yield Frame(plane, shown, (box,) if number else None)


def expected(count: int = 9) -> list[np.ndarray]:
    found = []
    for frame in frames(count):
        image = PALETTE.table[frame.plane]
        for picture in frame.pictures:
            image[30:42, 50:60] = picture.pixels.repeat(2, 0).repeat(2, 1)
        found.append(image)
    return found


def write(path: Path, fps: float = 12.5, count: int = 9) -> Path:
    assert encode(frames(count), choose_target(path), PALETTE, SIZE, fps) == count
    return path


@pytest.mark.parametrize("count", [1, 2, 9])
def test_two_decoders_see_every_pixel(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "run.gif", count=count)
    with Image.open(path) as image:
        assert image.n_frames == count
        seen = [np.array((image.seek(n), image.convert("RGB"))[1]) for n in range(count)]
    for picture, right in zip(seen, expected(count), strict=True):
        np.testing.assert_array_equal(picture, right)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-f", "rawvideo", "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True)
    assert not decoded.stderr
    shown = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, *SIZE, 3)
    np.testing.assert_array_equal(shown, expected(count))


@pytest.mark.parametrize(("fps", "milliseconds"), [(50.0, 20), (100 / 3, 30), (4.0, 250)])
def test_how_long_a_frame_stays(tmp_path: Path, fps: float, milliseconds: int) -> None:
    with Image.open(write(tmp_path / "run.gif", fps)) as image:
        for number in range(image.n_frames):
            image.seek(number)
            assert image.info["duration"] == milliseconds
        assert image.info["loop"] == 0


def test_the_bytes_do_not_depend_on_how_many_are_compressed_at_a_time() -> None:
    made = [list(blocks(as_indices(frames(), PALETTE, SIZE), SIZE, 20.0, n)) for n in (1, 2, 5)]
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 9


@pytest.mark.parametrize("count", [9, 40])
def test_a_helper_that_falls_behind_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Whoever makes the frames compresses others meanwhile, each once, and does not run away."""
    right = list(blocks(as_indices(frames(count), PALETTE, SIZE), SIZE, 20.0, 1))
    compress, maker = gif._compress, threading.get_ident()
    by: collections.Counter[str] = collections.Counter()
    made: list[tuple[bytes, bytes]] = []
    ahead = []

    def slow(plane: np.ndarray, spool: gif._Spool) -> None:
        who = "maker" if threading.get_ident() == maker else "helper"
        by[who] += 1
        if who == "helper" and by[who] == 1:
            time.sleep(0.2)
        compress(plane, spool)

    def watched() -> Iterator[Indexed]:
        for number, frame in enumerate(as_indices(frames(count), PALETTE, SIZE)):
            ahead.append(number - len(made))
            yield frame

    monkeypatch.setattr(gif, "_compress", slow)
    for block in blocks(watched(), SIZE, 20.0, 2):
        made.append(block)
    assert made == right
    assert by["maker"] + by["helper"] == count
    assert by["maker"] >= 5
    assert by["helper"] >= 1
    assert max(ahead) <= 13


def test_only_what_changed_is_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    compress = gif._compress
    monkeypatch.setattr(gif, "_compress", lambda p, to: (sizes.append(p.shape), compress(p, to))[1])
    list(blocks(as_indices(frames(5), PALETTE, SIZE), SIZE, 20.0, 1))
    # The second with a picture below its box, the third where that picture was.
    assert sizes == [SIZE, (32, 96), (34, 46), (1, 1), (39, 55)]


def test_the_pixels_of_a_gif_are_found_behind_its_extensions(tmp_path: Path) -> None:
    path = tmp_path / "one.gif"
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    image.save(path, "GIF", comment=b"x" * 300, interlace=False, optimize=False, loop=3)
    with contextlib.closing(gif._Spool()) as spool:
        gif._compress(np.array(image), spool)
        pixels = spool.pixels()
    assert path.read_bytes()[to_pixels(path.read_bytes()) : -len(TRAILER)] == pixels


def test_a_full_disk_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(plane: np.ndarray, spool: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gif, "_compress", full)
    with pytest.raises(EncodeError, match=r"^cannot write the GIF: No space left on device$"):
        write(tmp_path / "run.gif")
    assert not list(tmp_path.iterdir())


def test_a_gif_needs_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "missing"))
    assert write(tmp_path / "run.gif").stat().st_size > 1000
