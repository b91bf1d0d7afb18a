"""The sink of numbered PNG files: the contract of all sinks, and the names of the files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from sink_contract import SinkContract, format_named, frames, read_images


class TestFolder(SinkContract):
    format = format_named("folder")

    def read(self, path: Path) -> list[np.ndarray]:
        return [read_images(picture)[0] for picture in sorted(path.iterdir())]

    def test_files_are_numbered_from_nought_under_any_path(self, tmp_path: Path) -> None:
        target = self.target(tmp_path, "100% of it")
        self.write(target, frames(5))
        assert sorted(os.listdir(target.path)) == [f"{number:06}.png" for number in range(5)]
