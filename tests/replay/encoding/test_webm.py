"""The sink of WebM: the contract of all sinks, its codecs, and its times."""

from __future__ import annotations

from pathlib import Path

import pytest
from sink_contract import format_named
from test_mp4 import PALETTE, VideoContract, check_colours, coarse

from replay.encoding.formats import FORMATS
from replay.output import EncodeOptions, choose_target, encode
from replay.schema import EncodeError


class TestWebm(VideoContract):
    """With a crf of 0 it differs by little in the planes of Y, U and V."""

    format = format_named("webm")
    options = EncodeOptions(10.0, "vp9", crf=0)
    most_off = 4


@pytest.mark.parametrize(("codec", "said"), [("vp9", b"Video: vp9"), ("av1", b"Video: av1")])
def test_every_frame_has_the_right_colours(tmp_path: Path, codec: str, said: bytes) -> None:
    described = check_colours(tmp_path / "-run: 1.webm", codec)
    assert said in described
    assert b"matroska,webm" in described


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
