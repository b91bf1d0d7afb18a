"""The sink of QuickTime: the contract of all sinks, and that ProRes keeps the colours."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from sink_contract import SIZE, format_named, frames, read_video, rgb_of
from test_mp4 import VideoContract, size_in_file

from replay.output import EncodeOptions
from replay.raster.frame import Frame


class TestMov(VideoContract):
    """It differs by little in red, green and blue, even of noise in colours."""

    format = format_named("mov")
    options = EncodeOptions(10.0, "prores")
    most_off = 40

    def read(self, path: Path) -> list[np.ndarray]:
        matrix = ("-vf", "scale=in_color_matrix=bt709:flags=accurate_rnd+full_chroma_int")
        pixels = np.frombuffer(read_video(path, "rgb24", matrix), np.uint8)
        return list(pixels.reshape(-1, *size_in_file(path), 3))

    def read_shapes(self, path: Path) -> list[tuple[int, ...]]:
        return [image.shape[:2] for image in self.read(path)]

    def exact(self, source: Iterator[Frame]) -> list[np.ndarray]:
        return [rgb_of(frame, self.palette()) for frame in source]

    def test_it_has_ten_bits_of_each_of_three_colours(self, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        self.write(target, frames(3))
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", target.path, "-f", "null", "-"]
        said = subprocess.run(command, capture_output=True, check=True).stderr.decode()
        assert "Video: prores (4444) (ap4h" in said
        assert "(tv, bt709" in said
        assert f"{SIZE[1]}x{SIZE[0]}" in said
        mean = [
            np.abs(one.astype(int) - other).mean()
            for one, other in zip(self.read(target.path), self.exact(frames(3)), strict=True)
        ]
        assert max(mean) < 1.5
