"""The sink of animated PNG: the contract of all sinks, and that it is played again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from sink_contract import SinkContract, format_named, frames

from replay.encoding.apng import ApngSink
from replay.encoding.pixel_formats import Bytes


class TestApng(SinkContract):
    format = format_named("apng")

    def break_encoder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(self: ApngSink, pixels: Bytes) -> bytes:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(ApngSink, "compress", full)

    def test_it_is_played_again_and_again(self, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        self.write(target, frames(3))
        with Image.open(target.path) as image:
            assert (image.info["loop"], image.n_frames) == (0, 3)
            assert image.info["duration"] == 100
