"""What reads batches ahead of the training, and a small training that keeps what it trained on."""

from __future__ import annotations

import collections
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

PROBE = torch.linspace(-1, 1, 3 * 6 * 6).reshape(1, 3, 6, 6)


def by_a_thread(batches: Iterable[Any], ahead: int) -> Iterator[Any]:
    """Reads in another thread, as far ahead as it gets: so many batches and one."""
    box: queue.Queue[Any] = queue.Queue(ahead)

    def read() -> None:
        for batch in batches:
            box.put(batch)
        box.put(None)

    thread = threading.Thread(target=read)
    thread.start()
    while (batch := box.get()) is not None:
        yield batch
    thread.join()


def by_itself(batches: Iterable[Any], ahead: int) -> Iterator[Any]:
    """Asks for so many batches before it gives out the first."""
    waiting: collections.deque[Any] = collections.deque()
    for batch in batches:
        waiting.append(batch)
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


class ConvolutionTraining:
    """A model whose first map can be computed without a call of it, and its batches.

    Args:
        batches: How many there are.
    """

    def __init__(self, batches: int) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.5, momentum=0.9)
        self.data = [torch.randn(2, 3, 6, 6) for _ in range(batches)]

    def convolve(self, images: torch.Tensor) -> np.ndarray:
        """What the convolution makes of the first image, without a call of the model."""
        convolution: Any = self.model[0]
        with torch.no_grad():
            made = nn.functional.conv2d(images, convolution.weight, convolution.bias)
        return made[0].half().numpy()
