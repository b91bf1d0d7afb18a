"""A batch's flat float16 values in main memory, where a GPU can copy to without anyone waiting."""

from __future__ import annotations

import contextlib
import functools
import mmap
import weakref
from typing import Any

import numpy as np
import torch

from record.taps import Slices


class HostBuffer:
    """A batch's flat float16 values in main memory.

    Args:
        size: Number of values.
        pinned: Page-locked, for a GPU's asynchronous copy.
        memory: Where they lie, else in memory of their own.

    Raises:
        RuntimeError: The memory cannot be page-locked.
    """

    def __init__(self, size: int, pinned: bool, memory: memoryview | None = None) -> None:
        self.slices: Slices | None = None  # made once: a buffer belongs to one layout
        if memory is None or not size:
            self.tensor = torch.zeros(size, dtype=torch.float16, pin_memory=pinned)
            return
        self.tensor = torch.frombuffer(memory, dtype=torch.float16, count=size)
        if pinned:
            _register(self.tensor)
            # What is held here stays mapped until it is unlocked, at the latest at exit.
            weakref.finalize(self, _unregister, self.tensor)

    @functools.cached_property
    def event(self) -> Any:
        """Says when what a GPU has last copied to it has arrived. Who waits for it sleeps."""
        return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    @property
    def data(self) -> memoryview:
        """The bytes."""
        return self.tensor.numpy().view(np.uint8).data


@functools.cache
def can_register() -> bool:
    """Whether CUDA locks the pages of memory that is shared with another process."""
    try:
        page = torch.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), dtype=torch.uint8)
        _register(page)
        _unregister(page)
    except (RuntimeError, AttributeError):
        return False
    return True


def _register(tensor: torch.Tensor) -> None:
    error = _runtime().cudaHostRegister(tensor.data_ptr(), tensor.nbytes, 0)
    if int(error) != 0:
        # CUDA keeps an error for whoever asks next. That shall not be the training.
        with contextlib.suppress(RuntimeError):
            torch.zeros(1, device="cuda")
        raise RuntimeError(f"CUDA cannot lock {tensor.nbytes:,} bytes of memory: {error}")


def _unregister(tensor: torch.Tensor) -> None:
    _runtime().cudaHostUnregister(tensor.data_ptr())


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
