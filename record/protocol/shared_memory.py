"""Memory that the training and the writer share, both halves side by side.

A frame is copied once, from the layer's output into a slot; the writer writes it to the file from
there. Through the pipe goes only which slot it is. The memory has no name: it is gone with the two
processes that hold it, however they end. Where the system has no such memory (`os.memfd_create`),
frames go through the pipe.

    page 0              int64: frames that the writer is done with
    then, by layout     slots of equal size, each a frame's flat float16 buffer

The writer does not wake up for each frame, but gathers some; a bell wakes it where that is urgent.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

GATHER_SECONDS = 0.1
_PAGE = mmap.ALLOCATIONGRANULARITY


@dataclass(frozen=True)
class Region:
    """The part of the shared memory that holds the slots of one layout.

    Attributes:
        offset: Bytes before the first slot.
        stride: Bytes from one slot to the next.
        slots: The number of slots.
    """

    offset: int
    stride: int
    slots: int

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return self.stride * self.slots

    def encode(self) -> dict[str, int]:
        """Returns the region as values for JSON, from which it can be made again."""
        return asdict(self)


class SharedFrames:
    """The training's half: makes the memory and its slots.

    Raises:
        OSError: The system has no such memory.

    Attributes:
        descriptors: For the writer, which inherits them: the memory, and the end of a pipe from
            which it hears the bell.
        counter: One number: how many frames the writer is done with, of all that lay in slots.
    """

    def __init__(self) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("no memory without a name on this system")
        self._memory = _beyond_standard(os.memfd_create("mapreel"))
        try:
            os.ftruncate(self._memory, _PAGE)
            self.counter = _counter(self._memory)
            heard, self._bell = map(_beyond_standard, os.pipe())
        except BaseException:
            os.close(self._memory)
            raise
        os.set_blocking(self._bell, False)
        self.descriptors = self._memory, heard
        self._end = _PAGE

    def make_slots(self, nbytes: int, slots: int) -> tuple[Region, list[memoryview]]:
        """Makes slots for a layout; a page that nobody writes to takes no memory.

        Args:
            nbytes: The bytes of a frame.
            slots: The number of slots.

        Returns:
            Where the slots lie, for the writer, and the slots themselves.

        Raises:
            OSError: There is not so much memory.
        """
        region = Region(self._end, max(1, -(-nbytes // _PAGE)) * _PAGE, slots)
        os.ftruncate(self._memory, region.offset + region.nbytes)
        pages = mmap.mmap(self._memory, region.nbytes, offset=region.offset)
        self._end += region.nbytes
        view = memoryview(pages)
        starts = range(0, region.nbytes, region.stride)
        return region, [view[start : start + nbytes] for start in starts]

    def ring(self) -> None:
        """Wakes the writer, which then looks at once at what is there for it."""
        with contextlib.suppress(OSError):  # it has not heard the last thousands, or is gone
            os.write(self._bell, b"!")

    def close(self) -> None:
        """Closes the descriptors; slots live as long as they are used."""
        bell, self._bell = self._bell, -1
        for descriptor in (*self.descriptors, bell):
            os.close(descriptor)


class SharedFramesReader:
    """The writer's half: finds the frames.

    Args:
        descriptor: The descriptor of the memory.
        bell: The end of the pipe from which the bell is heard.
    """

    def __init__(self, descriptor: int, bell: int) -> None:
        self._descriptor, self._bell = descriptor, bell
        self._counter = _counter(descriptor)
        self._pages: mmap.mmap | None = None
        self._next: Region | None = None
        self._frames: npt.NDArray[np.float16] = np.empty((0, 0), np.float16)
        self._done = 0

    def expect(self, region: dict[str, Any]) -> None:
        """Takes in the region in which frames lie from the next one on."""
        self._next = Region(**region)

    def frames(self, slots: list[int], size: int) -> npt.NDArray[np.float16]:
        """Returns the frames in some slots, a view where the slots follow one another.

        Args:
            slots: The numbers of the slots.
            size: The number of values of a frame.

        Returns:
            The frames, float16 (len(slots), size).
        """
        if self._next is not None:
            self._map(self._next)
        first = slots[0]
        if slots == list(range(first, first + len(slots))):
            return self._frames[first : first + len(slots), :size]
        return self._frames[slots, :size]

    def gather(self, messages: int) -> None:
        """Waits for a message, and then for those behind it, a tenth of a second or until it rings.

        To write several frames in one go takes half of the time that it takes to wake up for each
        of them, with all that it needs gone from the processor's caches: the training's time,
        where it uses all processors.

        Args:
            messages: The descriptor from which they will be read.
        """
        self._wait_for(messages, None)
        if self._wait_for(self._bell, GATHER_SECONDS):
            os.read(self._bell, 1 << 16)

    @staticmethod
    def _wait_for(descriptor: int, seconds: float | None) -> bool:
        poll = select.poll()  # select itself takes no numbers beyond 1,023
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if seconds is None else 1000 * seconds))

    def done(self, count: int) -> None:
        """Gives the slots of so many frames back to the training, in the order they came in."""
        self._done += count
        self._counter[0] = self._done

    def _map(self, region: Region) -> None:
        # The training's first frame in the new region says that it no longer needs the old one.
        old, self._next = self._pages, None
        self._pages = mmap.mmap(self._descriptor, region.nbytes, offset=region.offset)
        flat = np.frombuffer(self._pages, np.float16)
        self._frames = flat.reshape(region.slots, -1)
        if old is not None:
            with contextlib.suppress(OSError, AttributeError):
                old.madvise(mmap.MADV_REMOVE)


def _beyond_standard(descriptor: int) -> int:
    """Returns a descriptor that is none of the standard streams'.

    Where one of these is closed a new descriptor takes its number, which is another thing in the
    process that inherits it.
    """
    if descriptor > 2:
        return descriptor
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def _counter(descriptor: int) -> memoryview[int]:
    return memoryview(mmap.mmap(descriptor, _PAGE)).cast("q")
