from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from replay.encoding.ffmpeg import encode
from replay.encoding.target import choose_fps, choose_target
from replay.film.film import Overlay
from replay.raster.frame import Frame
from replay.raster.palette import Palette
from replay.schema import EncodeError, OptionError, OutputError

SIZE = (90, 134)
PALETTES = {"gif": Palette("viridis", 168), "rest": Palette("viridis", 240)}


def frames(count: int = 5, levels: int = 168, picture: bool = True) -> Iterator[Frame]:
    """Coarse blocks of the colormap that move, and a picture at an odd place."""
    rng = np.random.default_rng(1)
    for number in range(count):
        blocks = rng.integers(0, levels, (45, 67), dtype=np.uint8)
        plane = np.kron(blocks, np.ones((2, 2), np.uint8))
        colours = np.zeros((7, 5, 3), np.uint8) + np.uint8(40 * number)
        colours[..., 0] += np.arange(5, dtype=np.uint8) * 9
        yield Frame(plane, (Overlay(colours, 11, 13, 3),) if picture else ())


def expected(palette: Palette, **options: object) -> list[np.ndarray]:
    images = []
    for frame in frames(**options):  # type: ignore[arg-type]
        image = palette.table[frame.plane]
        for picture in frame.pictures:
            image[11 : 11 + 21, 13 : 13 + 15] = np.kron(
                picture.pixels, np.ones((3, 3, 1), np.uint8)
            )
        images.append(image)
    return images


def write(path: str, palette: Palette, source: Iterator[Frame] | None = None, **options: object):
    target = choose_target(path)
    return encode(source or frames(), target, palette, SIZE, 10.0, **options)  # type: ignore[arg-type]


def pillow(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        return [np.array((image.seek(i), image.convert("RGB"))[1]) for i in range(image.n_frames)]


@pytest.mark.parametrize("picture", [True, False])
@pytest.mark.parametrize("suffix", [".webp", ".png", ".apng"])
def test_lossless_formats_are_exact(tmp_path: Path, suffix: str, picture: bool) -> None:
    path = tmp_path / f"run{suffix}"
    palette = PALETTES["rest"]
    assert write(str(path), palette, frames(picture=picture)) == 5
    images = pillow(path)
    assert len(images) == 5
    for image, right in zip(images, expected(palette, picture=picture), strict=True):
        np.testing.assert_array_equal(image, right)
    with Image.open(path) as image:
        assert image.info["loop"] == 0


@pytest.mark.parametrize("picture", [True, False])
@pytest.mark.parametrize("cmap", ["gray", "viridis", "tab10"])
def test_gif_has_exactly_the_colours_of_the_colormap(
    tmp_path: Path, cmap: str, picture: bool
) -> None:
    path = tmp_path / "run.gif"
    palette = Palette(cmap, 168)
    write(str(path), palette, frames(picture=picture))
    images = pillow(path)
    assert len(images) == 5
    for image, right in zip(images, expected(palette, picture=picture), strict=True):
        if picture:
            box = np.s_[11 : 11 + 21, 13 : 13 + 15]
            assert np.abs(image[box].astype(int) - right[box]).max() <= 8
            image[box] = right[box]
        np.testing.assert_array_equal(image, right)
    with Image.open(path) as image:
        assert (image.info["loop"], image.info["duration"]) == (0, 100)


def test_numbered_frames_are_exact(tmp_path: Path) -> None:
    folder = tmp_path / "100% of it"
    folder.mkdir()
    write(f"{folder}/", PALETTES["rest"])
    assert sorted(os.listdir(folder)) == [f"{i:06}.png" for i in range(5)]
    for number, right in enumerate(expected(PALETTES["rest"])):
        np.testing.assert_array_equal(pillow(folder / f"{number:06}.png")[0], right)
    with pytest.raises(OutputError, match="new or empty"):
        choose_target(f"{folder}/")


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_mp4_has_every_frame_in_the_right_colours(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "-run: 1.mp4"
    done: list[int] = []
    write(str(path), PALETTES["rest"], codec=codec, crf=8, progress=done.append)
    assert done == [1, 2, 3, 4, 5]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo"]
    decoded = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    assert f"{SIZE[1]}x{SIZE[0]}".encode() in decoded.stderr
    assert b"yuv420p(tv, bt709" in decoded.stderr
    assert b" 10 fps" in decoded.stderr
    images = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, *SIZE, 3)
    assert len(images) == 5
    for image, right in zip(images, expected(PALETTES["rest"]), strict=True):
        assert np.abs(image.astype(int) - right).mean() < 4


def test_existing_files_are_replaced_only_by_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "run.mp4"
    path.write_bytes(b"old")

    def interrupted() -> Iterator[Frame]:
        yield from frames(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(str(path), PALETTES["rest"], interrupted())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["run.mp4"]
    with pytest.raises(KeyboardInterrupt):
        write(f"{tmp_path}/frames/", PALETTES["rest"], interrupted())
    assert os.listdir(tmp_path) == ["run.mp4"]
    write(str(path), PALETTES["rest"])
    assert path.stat().st_size > 1000
    assert os.listdir(tmp_path) == ["run.mp4"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_failing_encoder_is_quoted_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "ffmpeg"
    fake.parent.mkdir()
    loud = "import sys; sys.stderr.write('x' * 300_000 + '\\nno space left\\n'); sys.exit(3)"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{loud}"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(fake))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(EncodeError, match=r"^ffmpeg failed: no space left$"):
        write(f"{out}/run.mp4", PALETTES["rest"], frames(50))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "missing"))
    with pytest.raises(EncodeError, match="cannot start ffmpeg"):
        write(f"{out}/run.mp4", PALETTES["rest"])
    assert os.listdir(out) == []


def test_targets_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    for bad, message in [
        ("run.avi", "unknown suffix '.avi'"),
        ("run", "ending in /"),
        ("missing/run.mp4", "no folder"),
    ]:
        with pytest.raises(OutputError, match=message):
            choose_target(tmp_path / bad)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="not a file"):
        choose_target(tmp_path / "folder.mp4")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="new or empty"):
        choose_target(f"{tmp_path}/file/")
    with pytest.raises(OutputError, match="cannot write"):
        choose_target("/proc/run.mp4")


def test_options_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    target = choose_target(tmp_path / "run.mp4")
    palette = PALETTES["rest"]
    for options, message in [
        ({"codec": "vp9"}, "unknown codec"),
        ({"crf": 52}, "0 to 51"),
        ({"codec": "av1", "crf": -1}, "0 to 63"),
    ]:
        with pytest.raises(OptionError, match=message):
            encode(frames(), target, palette, SIZE, 10.0, **options)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_frame_rates() -> None:
    assert choose_fps(None, 300, "mp4") == 12
    assert (choose_fps(None, 1, "mp4"), choose_fps(None, 9000, "mp4")) == (4, 30)
    assert choose_fps(None, 300, "gif") == 12.5
    assert (choose_fps(60, 9, "gif"), choose_fps(30, 9, "gif")) == (50, 100 / 3)
    for bad in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(OptionError, match="fps"):
            choose_fps(bad, 9, "mp4")
