"""The buffers in which batches are gathered and carried, used again and again."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Protocol

_LARGE = 1 << 16  # bytes of a buffer
_BYTES = 256 << 20  # of all buffers
_FRAMES = (3, 64)  # at least, at most


class Buffer(Protocol):
    """A batch's flat float16 values in main memory."""

    @property
    def data(self) -> memoryview:
        """The bytes."""


Make = Callable[["memoryview | None"], Buffer]
"""Makes a buffer for a frame, in the memory that it is given or, for None, in its own."""


def room_for(nbytes: int) -> int:
    """How many buffers there may be of so many bytes each."""
    low, high = _FRAMES
    return max(low, min(high, _BYTES // max(1, nbytes)))


class Pool:
    """The buffers of one layout.

    Of large ones the last that came back is used first: it is still in the processor's cache, and
    pushes nothing of the training's out of it. Small ones go round, so that those that are written
    together lie beside each other.

    Args:
        make: Makes one.
        room: How many there may be.
        slots: Parts of the shared memory for them; none where frames go through the pipe.
        nbytes: Bytes of each.

    Attributes:
        free: The buffers that are free, in the order in which they came back.
        take_free: Takes one of them, of which there must be one; no other thread may take any.
        shared: Whether the buffers lie in memory that the writer sees.
        slot_numbers: By a buffer's id, in which slot of that memory it lies.
    """

    def __init__(self, make: Make, room: int, slots: list[memoryview], nbytes: int) -> None:
        self._make, self._room, self._slots = make, room, slots
        self._made: list[Buffer] = []
        self.free: collections.deque[Buffer] = collections.deque()
        self.take_free = self.free.pop if nbytes >= _LARGE else self.free.popleft
        self.shared = bool(slots)
        self.slot_numbers: dict[int, int] = {}

    def make_another(self) -> Buffer | None:
        """Returns a buffer that is made anew; None where there are as many as there may be."""
        number = len(self._made)
        if number == self._room:
            return None
        buffer = self._make(self._slots[number] if self._slots else None)
        self._made.append(buffer)
        if self._slots:
            self.slot_numbers[id(buffer)] = number
        return buffer

    @property
    def spare(self) -> int:
        """How many buffers are free or may still be made."""
        return len(self.free) + self._room - len(self._made)
