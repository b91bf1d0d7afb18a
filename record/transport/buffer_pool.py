"""The buffers in which batches are gathered and carried, used again and again."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Protocol

_LARGE = 1 << 16  # bytes of a buffer
_MAX_BYTES = 256 << 20  # of all buffers
_MIN_BUFFERS, _MAX_BUFFERS = 3, 64


class Buffer(Protocol):
    """A batch's flat float16 values in main memory."""

    @property
    def data(self) -> memoryview:
        """The bytes."""


MakeBuffer = Callable[["memoryview | None"], Buffer]
"""Makes a buffer for a frame, in the memory that it is given or, for None, in its own."""


def max_buffers(nbytes: int) -> int:
    """Returns how many buffers of so many bytes there may be."""
    return max(_MIN_BUFFERS, min(_MAX_BUFFERS, _MAX_BYTES // max(1, nbytes)))


class BufferPool:
    """The buffers of one layout.

    Of large ones the last that came back is used first: it is still in the processor's cache, and
    pushes nothing of the training's out of it. Small ones go round, so that those that are written
    together lie beside each other.

    Args:
        make: Makes one.
        capacity: How many there may be.
        slots: Parts of the shared memory for them; none where frames go through the pipe.
        nbytes: Bytes of each.

    Attributes:
        capacity: As the argument.
        free: The buffers that are free, in the order in which they came back.
        take_free: Takes one of them, of which there must be one; no other thread may take any.
        shared: Whether the buffers lie in memory that the writer sees.
        slot_numbers: By a buffer's id, in which slot of that memory it lies.
    """

    def __init__(
        self, make: MakeBuffer, capacity: int, slots: list[memoryview], nbytes: int
    ) -> None:
        self.capacity = capacity
        self.free: collections.deque[Buffer] = collections.deque()
        self.take_free = self.free.pop if nbytes >= _LARGE else self.free.popleft
        self.shared = bool(slots)
        self.slot_numbers: dict[int, int] = {}
        self._make, self._slots = make, slots
        self._made: list[Buffer] = []

    def make_another(self) -> Buffer | None:
        """Returns a buffer that is made anew; None where there are as many as there may be."""
        number = len(self._made)
        if number == self.capacity:
            return None
        buffer = self._make(self._slots[number] if self._slots else None)
        self._made.append(buffer)
        if self._slots:
            self.slot_numbers[id(buffer)] = number
        return buffer

    @property
    def spare(self) -> int:
        """How many buffers are free or may still be made."""
        return len(self.free) + self.capacity - len(self._made)
