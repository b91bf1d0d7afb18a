"""A small training and a recording of a few frames, for tests of locks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from record import Recorder
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.writer.recording_file import RecordingFile
from replay.schema import FORMAT, VERSION, Layer

ROOT = Path(__file__).parents[1]
ABOUT = {"format": FORMAT, "version": VERSION, "run_id": "", "created": "now", "meta": "{}"}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def train(recorder: Recorder, model: nn.Module, batches: int = 3) -> None:
    for images in recorder.track([torch.ones(1, 3, 8, 8)] * batches):
        model(images)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def record_frames(path: Path, frames: int = 3, **options: Any) -> RecordingFile | None:
    file = RecordingFile(str(path), options.pop("overwrite", False), ABOUT, **options)
    layout = BatchLayout((), (Layer("conv", "Conv2d()", (2, 4, 4)),))
    file.set_layout(layout, None)
    for number in range(frames):
        header = messages.FrameHeader(0, number, number, 0.0)
        file.write([header], np.full((1, layout.size), number, np.float16))
    file.close()
    return None


def python(code: str, environment: dict[str, str], *arguments: object) -> str:
    """What a process of its own prints; its errors are those of the test."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
