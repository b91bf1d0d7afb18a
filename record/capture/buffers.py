"""The flat buffers in which the maps of a batch are gathered, in main memory and on a device.

A GPU's maps leave it together, in one copy that nobody waits for; those of a compiled model are
copied at every forward, also when no batch is awaited, into a buffer that is never sent.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from record.capture.captured_frames import CapturedFrames
from record.capture.phase import CaptureState, Slices

_SMALL = 1 << 20  # bytes that leave a GPU in less time than a second stream takes to set up


class DeviceBuffers:
    """A flat float16 buffer on the device; on a GPU two, used by turns.

    What is gathered for a batch then need not wait until the batch before it has left the GPU.

    Args:
        frames: Have the layout of the buffers.
        state: What the hooks of the recording share.
        device: Where the model is.
    """

    def __init__(self, frames: CapturedFrames, state: CaptureState, device: torch.device) -> None:
        self._state = state
        self._on_gpu = device.type == "cuda"
        size = frames.layout.size
        self._buffers = [
            torch.zeros(size, dtype=torch.float16, device=device) for _ in range(1 + self._on_gpu)
        ]
        self._slices: list[Slices] = [frames.slices(buffer) for buffer in self._buffers]
        self._events: list[Any] = [None] * len(self._buffers)  # of the last copies out of them
        self._number = 0  # of the buffer in use
        self._stream: Any = None  # beside the training's

    @property
    def buffer(self) -> torch.Tensor:
        """The buffer in which the current batch is gathered."""
        return self._buffers[self._number]

    @property
    def slices(self) -> Slices:
        """The parts of that buffer."""
        return self._slices[self._number]

    def turn(self) -> None:
        """Takes the other buffer for the next batch, which waits on the GPU for the copy out of it.

        Compiled code stays with one buffer: it would be compiled anew for the other.
        """
        if not self._on_gpu:
            return
        self._number = 0 if self._state.traced else 1 - self._number
        event = self._events[self._number]
        if event is not None:
            torch.cuda.current_stream(self.buffer.device).wait_event(event)
            self._events[self._number] = None

    def copy_to(self, host: HostBuffer) -> Callable[[], Any] | None:
        """Copies the current batch into main memory; the training waits for nothing.

        Args:
            host: The buffer in main memory.

        Returns:
            A function that waits until the batch has arrived, for another thread to call; None
            where it has arrived already.
        """
        gathered = self.buffer
        if not self._on_gpu:
            host.tensor.copy_(gathered)
            return None
        training = torch.cuda.current_stream(gathered.device)
        if gathered.nbytes <= _SMALL:
            host.tensor.copy_(gathered, non_blocking=True)
            host.event.record(training)
            return host.event.synchronize  # type: ignore[no-any-return]
        if self._stream is None:
            self._stream = torch.cuda.Stream(gathered.device)  # type: ignore[no-untyped-call]
            for buffer in self._buffers:  # whose memory is not to be used again before it is done
                buffer.record_stream(self._stream)
        self._stream.wait_stream(training)
        with torch.cuda.stream(self._stream):
            host.tensor.copy_(gathered, non_blocking=True)
            host.event.record(self._stream)
            self._events[self._number] = self._stream.record_event()
        return host.event.synchronize  # type: ignore[no-any-return]


class HostBuffer:
    """A batch's flat float16 values in main memory.

    Args:
        size: Number of values.
        pinned: Whether the memory is page-locked, for a GPU's asynchronous copy.
        memory: Where the values lie; None for memory of their own.

    Attributes:
        tensor: The values, float16 (size,).
        slices: The parts of the buffer, once they were made: a buffer belongs to one layout.

    Raises:
        RuntimeError: The memory cannot be page-locked.
    """

    def __init__(self, size: int, pinned: bool, memory: memoryview | None = None) -> None:
        self.slices: Slices | None = None
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
        """The event of a GPU's last copy into the buffer. A thread that waits for it sleeps."""
        return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    @property
    def data(self) -> memoryview:
        """The bytes of the values."""
        return self.tensor.numpy().view(np.uint8).data


@functools.cache
def can_register() -> bool:
    """Whether CUDA can lock the pages of memory that is shared with another process."""
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
