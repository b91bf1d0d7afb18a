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
    """

    def __init__(self, make: Make, room: int, slots: list[memoryview], nbytes: int) -> None:
        self._make, self._room, self._slots = make, room, slots
        self._large = nbytes >= _LARGE
        self._made: list[Buffer] = []
        self._places: dict[int, int] = {}  # by a buffer's id
        self.free: collections.deque[Buffer] = collections.deque()

    def take(self) -> Buffer | None:
        """A buffer, if there is one that is free or may still be made."""
        if self.free:  # which no other thread takes from
            return self.free.pop() if self._large else self.free.popleft()
        number = len(self._made)
        if number == self._room:
            return None
        buffer = self._make(self._slots[number] if self._slots else None)
        self._made.append(buffer)
        self._places[id(buffer)] = number
        return buffer

    @property
    def spare(self) -> int:
        """How many buffers `take` would give."""
        return len(self.free) + self._room - len(self._made)

    @property
    def shared(self) -> bool:
        """Whether the buffers lie in memory that the writer sees."""
        return bool(self._slots)

    def slot_of(self, buffer: Buffer) -> int | None:
        """In which slot it lies; None where it has memory of its own."""
        return self._places[id(buffer)] if self._slots else None
