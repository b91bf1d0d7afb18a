"""The sink of WebP: the contract of all sinks, and that it is played again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from sink_contract import SinkContract, format_named, frames

from replay.encoding.pixel_formats import Bytes
from replay.encoding.webp import WebpSink


class TestWebp(SinkContract):
    format = format_named("webp")

    def break_encoder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(self: WebpSink, pixels: Bytes) -> bytes:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(WebpSink, "compress", full)

    def test_it_is_played_again_and_again(self, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        self.write(target, frames(3))
        with Image.open(target.path) as image:
            assert (image.info["loop"], image.n_frames) == (0, 3)
            image.seek(1)
            image.load()
            assert image.info["duration"] == 100
