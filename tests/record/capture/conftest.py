"""Devices to train on, the same bits each time, and buffers that show what was not copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hazard_trainings.training import SIGNAL

from record.transport.frame_channel import FrameChannel


@pytest.fixture(autouse=True)
def _writers(quick_writers: None) -> None:
    """No test of this folder is one of how a writer starts."""


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(
            "no CUDA device: not tested on a GPU that the frames equal those of plain hooks and "
            "that the weights stay the same to the bit"
        )
    return request.param


@pytest.fixture
def poisoned_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills every buffer with a signal before it is used: what was copied covers all of it."""
    take = FrameChannel.buffer

    def poisoned(channel: FrameChannel) -> Any:
        buffer = take(channel)
        if buffer is not None:
            np.frombuffer(buffer.data, np.uint16)[:] = SIGNAL
        return buffer

    monkeypatch.setattr(FrameChannel, "buffer", poisoned)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """One thread, and kernels that give the same bits twice."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn.deterministic
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = cudnn
