"""WebP and APNG: only what is new is written, nothing where nothing is, and what quality means."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, features
from sink_contract import SIZE, format_named, frames, read_images, rgb_of

from replay.encoding import join
from replay.output import EncodeOptions, Target, encode, retime
from replay.raster.frame import Frame
from replay.raster.mosaic import Box
from replay.raster.palette import Palette
from replay.schema import EncodeError


def write(path: Path, source: Iterator[Frame], fps: float = 10.0, **options: int) -> Path:
    target = Target(path, format_named({".webp": "webp", ".png": "apng"}[path.suffix]))
    encode(source, target, Palette("magma", 240), SIZE, EncodeOptions(fps, **options))
    return path


def chunks(path: Path) -> list[tuple[bytes, bytes]]:
    """Returns the name and the body of each chunk of a file."""
    data, found = path.read_bytes(), []
    form, at = ("<4sI", 12) if data[:4] == b"RIFF" else (">I4s", 8)
    while at < len(data):
        name, size = sorted(struct.unpack_from(form, data, at), key=lambda part: type(part) is int)
        found.append((name, data[at + 8 : at + 8 + size]))
        at += 8 + size + (size % 2 if form == "<4sI" else 4)
    return found


def boxes(path: Path) -> list[Box]:
    """Returns where each frame of a file lies."""
    found = []
    for name, body in chunks(path):
        if name == b"ANMF":
            left, top, width, height = (
                int.from_bytes(body[3 * n : 3 * n + 3], "little") for n in range(4)
            )
            found.append((2 * top, 2 * left, 2 * top + height + 1, 2 * left + width + 1))
        elif name == b"fcTL":
            width, height, left, top = struct.unpack_from(">4I", body, 4)
            found.append((top, left, top + height, left + width))
    return found


def lasts(path: Path) -> list[float]:
    """Returns for how many milliseconds each frame of a file stays, as Pillow reads it."""
    with Image.open(path) as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            found.append(image.info["duration"])
        return found


def steps(*changes: Box | None) -> Iterator[Frame]:
    """Yields a frame, and for each box one that differs there, though it may everywhere."""
    rng = np.random.default_rng(4)
    plane = rng.integers(0, 240, SIZE, dtype=np.uint8)
    yield Frame(plane)
    for box in changes:
        if box is not None:
            top, left, bottom, right = box
            plane[top:bottom, left:right] += 1
        yield Frame(plane)


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_of_each_frame_the_smallest_box_with_even_edges_is_written(
    tmp_path: Path, suffix: str
) -> None:
    changes = [(3, 5, 20, 40), (63, 95, 64, 96), (0, 0, 1, 1), (7, 3, 9, 4), (0, 0, *SIZE)]
    path = write(tmp_path / f"a{suffix}", steps(*changes))
    whole = (0, 0, *SIZE)
    assert boxes(path) == [
        whole, (2, 4, 20, 40), (62, 94, 64, 96), (0, 0, 2, 2), (6, 2, 10, 4), whole
    ]  # fmt: skip
    palette = Palette("magma", 240)
    for found, frame in zip(read_images(path), steps(*changes), strict=True):
        np.testing.assert_array_equal(found, rgb_of(frame, palette))


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_frames_that_are_alike_are_one_that_stays_longer(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", steps(None, None, (1, 1, 3, 3), None, (0, 0, 2, 2)), 30)
    assert len(boxes(path)) == 3
    np.testing.assert_allclose(lasts(path), [100, 200 / 3, 100 / 3], atol=0.5)
    slower = tmp_path / f"b{suffix}"
    slower.write_bytes(path.read_bytes())
    retime(slower, format_named("webp" if suffix == ".webp" else "apng"), 30, 4)
    assert lasts(slower) == [750, 500, 250]
    right = write(tmp_path / f"c{suffix}", steps(None, None, (1, 1, 3, 3), None, (0, 0, 2, 2)), 4)
    assert slower.read_bytes() == right.read_bytes()
    still = write(tmp_path / f"d{suffix}", steps(None, None, None))
    assert lasts(still) == [400]
    np.testing.assert_array_equal(read_images(still)[0], read_images(path)[0])


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_parts_whose_frames_are_alike_are_joined(tmp_path: Path, suffix: str) -> None:
    parts = [write(tmp_path / f"{n}{suffix}", steps(None, (1, 1, 4, 4), None)) for n in range(2)]
    joined = tmp_path / f"joined{suffix}"
    join(parts, joined, format_named("webp" if suffix == ".webp" else "apng"))
    assert lasts(joined) == [200, 200, 200, 200]
    first, second = read_images(parts[0])
    for found, right in zip(read_images(joined), [first, second] * 2, strict=True):
        np.testing.assert_array_equal(found, right)


def test_one_frame_is_a_plain_picture(tmp_path: Path) -> None:
    picture = [name for name, _ in chunks(write(tmp_path / "a.webp", steps()))]
    assert picture == [b"VP8X", b"VP8L", b"MPRL"]
    assert [name for name, _ in chunks(write(tmp_path / "a.png", steps()))] == [
        b"IHDR", b"IDAT", b"tEXt", b"IEND"
    ]  # fmt: skip


@pytest.mark.parametrize("cmap", ["gray", "viridis"])
def test_ffmpeg_sees_what_was_drawn(tmp_path: Path, cmap: str) -> None:
    palette, path = Palette(cmap, 240), tmp_path / "a.png"
    encode(frames(7), Target(path, format_named("apng")), palette, SIZE, EncodeOptions(10.0))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "apng", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert not done.stderr
    found = np.frombuffer(done.stdout, np.uint8).reshape(7, *SIZE, 3)
    for image, frame in zip(found, frames(7), strict=True):
        np.testing.assert_array_equal(image, rgb_of(frame, palette))


def blocks() -> Iterator[Frame]:
    """Yields smooth maps in blocks of 2 x 2 pixels, such as films have."""
    rows, columns = np.mgrid[: SIZE[0] // 2, : SIZE[1] // 2]
    for number in range(6):
        wave = np.sin(rows / 7 + number) * np.cos(columns / 9 - number / 3)
        yield Frame(np.kron((119.5 + 119 * wave).astype(np.uint8), np.ones((2, 2), np.uint8)))


def test_a_lossy_webp_is_close_and_smaller_the_lower_its_quality(tmp_path: Path) -> None:
    palette = Palette("magma", 240)
    right = np.stack([rgb_of(frame, palette) for frame in blocks()]).astype(int)
    sizes, errors = [], []
    for quality in (90, 60, 30):
        path = write(tmp_path / f"{quality}.webp", blocks(), quality=quality)
        assert {body[16:20] for name, body in chunks(path) if name == b"ANMF"} == {b"VP8 "}
        found = np.stack(read_images(path))
        assert found.shape == right.shape
        sizes.append(path.stat().st_size)
        errors.append(np.abs(found - right).mean())
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < 2.5
    assert errors[1] < 4
    assert sizes[1] < 0.6 * write(tmp_path / "exact.webp", blocks()).stat().st_size
    assert lasts(tmp_path / "90.webp") == 6 * [100]


def test_a_pillow_without_webp_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    with pytest.raises(EncodeError, match="^Pillow is installed without WebP"):
        write(tmp_path / "a.webp", steps())
    assert not list(tmp_path.iterdir())
