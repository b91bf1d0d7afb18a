"""The sink of WebM: the contract of all sinks, its codecs, and its times."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from sink_contract import format_named, rgb_of
from test_mp4 import PALETTE, VideoContract

from replay.encoding.formats import FORMATS
from replay.output import EncodeOptions, choose_target, encode
from replay.raster.frame import Frame
from replay.schema import EncodeError


class TestWebm(VideoContract):
    """With a crf of 0 it differs by little in the planes of Y, U and V."""

    format = format_named("webm")
    options = EncodeOptions(10.0, "vp9", crf=0)
    most_off = 4


def coarse() -> Iterator[Frame]:
    rng = np.random.default_rng(1)
    for _ in range(5):
        blocks = rng.integers(0, 240, (45, 67), dtype=np.uint8)
        yield Frame(np.kron(blocks, np.ones((2, 2), np.uint8)))


@pytest.mark.parametrize(("codec", "said"), [("vp9", b"Video: vp9"), ("av1", b"Video: av1")])
def test_every_frame_has_the_right_colours(tmp_path: Path, codec: str, said: bytes) -> None:
    path = tmp_path / "-run: 1.webm"
    encode(
        coarse(), choose_target(path, FORMATS), PALETTE, (90, 134), EncodeOptions(10.0, codec, 8)
    )
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo"]
    decoded = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    for words in (said, b"matroska,webm", b"134x90", b"yuv420p(tv, bt709", b" 10 fps"):
        assert words in decoded.stderr
    images = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 90, 134, 3)
    for image, frame in zip(images, coarse(), strict=True):
        assert np.abs(image.astype(int) - rgb_of(frame, PALETTE)).mean() < 4


def test_an_ffmpeg_without_the_encoder_is_named_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text(
        "#!/bin/sh\necho \"[vost#0:0] Unknown encoder 'libvpx-vp9'\" >&2\n"
        "echo Error opening output files: Encoder not found >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(fake))
    target = choose_target(tmp_path / "run.webm", FORMATS)
    with pytest.raises(EncodeError, match=r"^this ffmpeg has no encoder libvpx-vp9; choose .*EXE$"):
        encode(coarse(), target, PALETTE, (90, 134), EncodeOptions(10.0, "vp9"))
