"""The sink of GIF: the contract of all sinks, and frames that are compressed side by side."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sink_contract import SIZE, SinkContract, format_named, frames, read_images, read_video, rgb_of

from replay.encoding.formats import choose_target
from replay.encoding.gif import TRAILER, GifStream
from replay.encoding.pixel_formats import Indexed, as_indices
from replay.encoding.sink import EncodeOptions, LimitError, encode
from replay.raster.frame import Frame, Overlay
from replay.raster.palette import Palette
from replay.schema import EncodeError

PALETTE = Palette("magma", 168)


class TestGif(SinkContract):
    format = format_named("gif")

    def break_encoder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(self: Image.Image, *args: object, **options: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", full)


def write(path: Path, fps: float = 12.5, count: int = 9) -> Path:
    options = EncodeOptions(fps)
    assert encode(frames(count), choose_target(path), PALETTE, SIZE, options) == count
    return path


def pixels_of(count: int) -> Iterator[Indexed]:
    """Yields what the sink takes."""
    return as_indices(frames(count), PALETTE, SIZE)


def compressed(source: Iterator[Indexed], threads: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields what each frame adds to a file."""
    with contextlib.ExitStack() as resources:
        stream = GifStream(SIZE, 20.0, resources, threads)
        for frame in source:
            yield from stream.add(frame)
        yield from stream.rest()


def test_another_decoder_sees_every_pixel(tmp_path: Path) -> None:
    path = write(tmp_path / "run.gif")
    shown = np.frombuffer(read_video(path), np.uint8).reshape(-1, *SIZE, 3)
    right = [rgb_of(frame, PALETTE) for frame in frames(9)]
    np.testing.assert_array_equal(shown, right)


@pytest.mark.parametrize("cmap", ["gray", "viridis", "tab10"])
def test_maps_are_exact_and_a_picture_of_many_colours_is_near(tmp_path: Path, cmap: str) -> None:
    palette = Palette(cmap, 168)
    box = np.s_[11:32, 13:28]

    def source() -> Iterator[Frame]:
        rng = np.random.default_rng(1)
        for number in range(5):
            colours = np.zeros((7, 5, 3), np.uint8) + np.uint8(40 * number)
            colours[..., 0] += np.arange(5, dtype=np.uint8) * 9
            plane = rng.integers(0, 168, (90, 134), dtype=np.uint8)
            yield Frame(plane, (Overlay(colours, 11, 13, 3),))

    path = tmp_path / "run.gif"
    encode(source(), choose_target(path), palette, (90, 134), EncodeOptions(10.0))
    for image, frame in zip(read_images(path), source(), strict=True):
        right = rgb_of(frame, palette)
        assert np.abs(image[box].astype(int) - right[box]).max() <= 8
        image[box] = right[box]
        np.testing.assert_array_equal(image, right)


@pytest.mark.parametrize(("fps", "milliseconds"), [(50.0, 20), (100 / 3, 30), (4.0, 250)])
def test_how_long_a_frame_stays(tmp_path: Path, fps: float, milliseconds: int) -> None:
    with Image.open(write(tmp_path / "run.gif", fps)) as image:
        for number in range(image.n_frames):
            image.seek(number)
            assert image.info["duration"] == milliseconds
        assert image.info["loop"] == 0


def test_the_bytes_do_not_depend_on_how_many_are_compressed_at_a_time() -> None:
    made = [list(compressed(pixels_of(9), n)) for n in (1, 2, 5)]
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 9


def test_it_ends_at_the_first_frame_that_is_too_much(tmp_path: Path) -> None:
    """So the size that is given up does not depend on how fast the threads are."""
    each = [len(head) + len(pixels) for head, pixels in compressed(pixels_of(40), 1)]
    for number in (1, 9, 30):
        target = choose_target(tmp_path / "run.gif")
        options = EncodeOptions(20.0, limit=sum(each[:number]) - 1)
        with pytest.raises(LimitError) as error:
            encode(frames(40), target, PALETTE, SIZE, options)
        assert (error.value.bytes, error.value.frames) == (sum(each[:number]), number)


@pytest.mark.parametrize("count", [9, 40])
def test_a_helper_that_falls_behind_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Whoever makes the frames compresses others meanwhile, each once, and does not run away."""
    right = list(compressed(pixels_of(count), 1))
    compress, maker = Image.Image.save, threading.get_ident()
    by: collections.Counter[str] = collections.Counter()
    made: list[tuple[bytes, bytes]] = []
    ahead = []

    def slow(image: Image.Image, *args: Any, **options: Any) -> None:
        who = "maker" if threading.get_ident() == maker else "helper"
        by[who] += 1
        if who == "helper" and by[who] == 1:
            time.sleep(0.2)
        compress(image, *args, **options)

    def watched() -> Iterator[Indexed]:
        for number, frame in enumerate(pixels_of(count)):
            ahead.append(number - len(made))
            yield frame

    monkeypatch.setattr(Image.Image, "save", slow)
    for block in compressed(watched(), 2):
        made.append(block)
    assert made == right
    assert by["maker"] + by["helper"] == count
    assert by["maker"] >= 5
    assert by["helper"] >= 1
    assert max(ahead) <= 13


def test_only_what_changed_is_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    compress = Image.Image.save

    def noted(image: Image.Image, *args: Any, **options: Any) -> None:
        sizes.append(image.size[::-1])
        compress(image, *args, **options)

    monkeypatch.setattr(Image.Image, "save", noted)
    list(compressed(pixels_of(5), 1))
    # The second with a picture below its box, the third where that picture was.
    assert sizes == [SIZE, (32, 96), (34, 46), (1, 1), (39, 55)]


def test_the_compressed_pixels_are_those_of_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "one.gif"
    plane = np.arange(SIZE[0] * SIZE[1], dtype=np.uint32).astype(np.uint8).reshape(SIZE)
    image = Image.fromarray(plane)
    image.save(path, "GIF", comment=b"x" * 300, interlace=False, optimize=False, loop=3)
    source = as_indices(iter([Frame(plane)]), PALETTE, SIZE)
    [(_, pixels)] = compressed(source, 1)
    assert len(pixels) > 200
    assert path.read_bytes().endswith(pixels + TRAILER)


def test_a_full_disk_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TestGif().break_encoder(tmp_path, monkeypatch)
    with pytest.raises(EncodeError, match=r"^cannot write the GIF: No space left on device$"):
        write(tmp_path / "run.gif")
    assert not list(tmp_path.iterdir())


def test_a_gif_needs_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "missing"))
    assert write(tmp_path / "run.gif").stat().st_size > 1000
