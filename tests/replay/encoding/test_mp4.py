"""The sink of MP4: the contract of all sinks, its codecs, and what ffmpeg has to say."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from sink_contract import SIZE, SinkContract, format_named, frames, read_video, rgb_of

from replay.encoding.formats import FORMATS, join
from replay.encoding.pixel_formats import as_yuv
from replay.output import EncodeOptions, choose_target, encode
from replay.raster.frame import Frame
from replay.raster.palette import Palette
from replay.schema import EncodeError

PALETTE = Palette("viridis", 240)


class VideoContract(SinkContract):
    """What is read of a video are its planes of Y, U and V."""

    def read(self, path: Path) -> list[np.ndarray]:
        height, width = size_in_file(path)
        planes = np.frombuffer(read_video(path, "yuv420p"), np.uint8)
        return list(planes.reshape(-1, height * width * 3 // 2))

    def read_shapes(self, path: Path) -> list[tuple[int, ...]]:
        return len(self.read(path)) * [size_in_file(path)]

    def times(self, path: Path) -> object:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-c", "copy"]
        told = subprocess.check_output([*command, "-f", "framecrc", "-"], text=True).splitlines()
        unit = Fraction(next(line for line in told if line.startswith("#tb")).split()[-1])
        rows = [line.split(",")[1:4] for line in told if not line.startswith("#")]
        report = imageio_ffmpeg.read_frames(str(path))
        lasts = next(report)["duration"]
        return [tuple(int(value) * unit for value in row) for row in rows], lasts

    def exact(self, source: Iterator[Frame]) -> list[np.ndarray]:
        first = next(source)
        height, width = first.plane.shape
        planes = as_yuv(itertools.chain([first], source), self.palette(), (height, width))
        return [np.concatenate([part.ravel() for part in parts]) for parts in planes]


class TestMp4(VideoContract):
    """With a crf of 0 H.264 is exact in the planes of Y, U and V."""

    format = format_named("mp4")
    options = EncodeOptions(10.0, crf=0)

    @pytest.mark.parametrize("joined", [False, True])
    def test_a_browser_can_begin_before_it_has_all(self, tmp_path: Path, joined: bool) -> None:
        target = self.target(tmp_path)
        self.write(target, frames(5))
        path = target.path
        if joined:
            join([path, path], path := tmp_path / "joined.mp4", self.format)
        data = path.read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")


def size_in_file(path: Path) -> tuple[int, int]:
    """Returns the height and width that the file names."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, check=True).stderr.decode()
    found = re.search(r"Video: .*, (\d+)x(\d+)", said)
    assert found is not None
    return int(found[2]), int(found[1])


def coarse() -> Iterator[Frame]:
    """Yields frames that no halving of colours changes."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        blocks = rng.integers(0, 240, (45, 67), dtype=np.uint8)
        yield Frame(np.kron(blocks, np.ones((2, 2), np.uint8)))


def check_colours(path: Path, codec: str) -> bytes:
    """Asserts that a video has the colours of its frames; returns what ffmpeg says of the file."""
    options = EncodeOptions(10.0, codec, 8)
    encode(coarse(), choose_target(path, FORMATS), PALETTE, (90, 134), options)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo"]
    decoded = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    for words in (b"134x90", b"yuv420p(tv, bt709", b" 10 fps"):
        assert words in decoded.stderr
    images = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 90, 134, 3)
    for image, frame in zip(images, coarse(), strict=True):
        assert np.abs(image.astype(int) - rgb_of(frame, PALETTE)).mean() < 4
    return decoded.stderr


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_every_frame_has_the_right_colours(tmp_path: Path, codec: str) -> None:
    check_colours(tmp_path / "-run: 1.mp4", codec)


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
    target = choose_target(out / "run.mp4", FORMATS)
    with pytest.raises(EncodeError, match=r"^ffmpeg failed: no space left$"):
        encode(frames(50), target, PALETTE, SIZE, EncodeOptions(10.0))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "missing"))
    with pytest.raises(EncodeError, match="cannot start ffmpeg"):
        encode(frames(50), target, PALETTE, SIZE, EncodeOptions(10.0))
    assert os.listdir(out) == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("exit 0", "it said nothing", id="it stops reading"),
        pytest.param(
            "cat >/dev/null\necho disk full >&2\nexit 1", "disk full", id="it fails at the end"
        ),
    ],
)
def test_an_encoder_that_does_not_do_its_work_is_no_success(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(fake))
    target = choose_target(tmp_path / "run.mp4", FORMATS)
    with pytest.raises(EncodeError, match=rf"^ffmpeg failed: {said}$"):
        encode(frames(50), target, PALETTE, SIZE, EncodeOptions(10.0))
    assert os.listdir(tmp_path) == ["ffmpeg"]
