"""The way of frames to the writer: buffers that it is lent, headers, and the pipe.

Where the system has memory that two processes can share, a frame is in it from the beginning and
stays there until the writer has written it; only its header takes the way through the pipe.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from record.protocol import messages
from record.transport.writer_process import WriterProcess

_LARGE = 1 << 16  # bytes of a buffer
_MAX_BYTES = 256 << 20  # of all buffers
_MIN_BUFFERS, _MAX_BUFFERS = 3, 64
_MAX_SHORT_HEADER = 1024  # bytes of a header that the training's own thread sends, at most


class Buffer(Protocol):
    """A batch's flat float16 values in main memory."""

    @property
    def data(self) -> memoryview:
        """The bytes."""


MakeBuffer = Callable[["memoryview | None"], Buffer]
"""Makes a buffer for a frame, in the memory that it is given or, for None, in its own."""


class QueuedFrame(NamedTuple):
    """One batch on its way to the writer.

    Attributes:
        buffer: Its values.
        header: What goes along, but for `values`.
        values: What was logged: numbers, or what becomes one by `float`.
        arrived: Waits until buffer and values have come from a GPU; None where they are here.
            Called in the courier's thread, so the training does not wait.
    """

    buffer: Buffer
    header: messages.FrameHeader
    values: Mapping[str, Any] = MappingProxyType({})
    arrived: Callable[[], Any] | None = None


def max_buffers(nbytes: int) -> int:
    """Returns how many buffers of so many bytes there may be."""
    return max(_MIN_BUFFERS, min(_MAX_BUFFERS, _MAX_BYTES // max(1, nbytes)))


class BufferPool:
    """The buffers of one layout, used again and again.

    Of large ones the last that came back is used first: it is still in the processor's cache, and
    pushes nothing of the training's out of it. Small ones go round, so that those that are written
    together lie beside each other.

    Args:
        make: Makes one.
        capacity: How many there may be.
        slots: Parts of the shared memory for them; none where frames go through the pipe.
        nbytes: Bytes of each.

    Attributes:
        shared: Whether the buffers lie in memory that the writer sees.
        free: Buffers that are not in use.
    """

    def __init__(
        self, make: MakeBuffer, capacity: int, slots: list[memoryview], nbytes: int
    ) -> None:
        self.shared = bool(slots)
        self.free: collections.deque[Buffer] = collections.deque()
        self._make, self._capacity, self._slots = make, capacity, slots
        self._is_large = nbytes >= _LARGE
        self._made: list[Buffer] = []
        self._numbers: dict[int, int] = {}  # by a buffer's id

    def take(self) -> Buffer | None:
        """Returns a buffer, if there is one that is free or may still be made."""
        if self.free:  # which no other thread takes from
            return self.free.pop() if self._is_large else self.free.popleft()
        number = len(self._made)
        if number == self._capacity:
            return None
        buffer = self._make(self._slots[number] if self.shared else None)
        self._made.append(buffer)
        self._numbers[id(buffer)] = number
        return buffer

    @property
    def spare(self) -> int:
        """How many buffers `take` would give."""
        return len(self.free) + self._capacity - len(self._made)

    def slot_of(self, buffer: Buffer) -> int | None:
        """Returns in which slot a buffer lies; None where it has memory of its own."""
        return self._numbers[id(buffer)] if self.shared else None


class FrameChannel:
    """Sends frames to the writer, and takes their buffers back.

    Used by the training's thread and by the courier's, never by both at once for sending.

    Args:
        process: The writer.

    Attributes:
        dropped: Frames given up because the queue was full.
        lost: Frames given up for any other reason.
        sent: Frames handed to the pipe.
        pool: The buffers of the present layout; None before the first.
    """

    def __init__(self, process: WriterProcess) -> None:
        self.dropped = 0
        self.lost = 0
        self.sent = 0
        self.pool: BufferPool | None = None
        self._process = process
        self._descriptor = process.descriptor
        self._max_short_header = 0  # bytes
        self._ring_from = 1  # frames in the writer's hands with which it had better begin to write
        self._lent: collections.deque[tuple[BufferPool, Buffer]] = collections.deque()
        self._returned = 0  # buffers that have come back
        self._returning = threading.Lock()

    def set_pool(self, pool: BufferPool, capacity: int) -> None:
        """Takes the buffers of a new layout.

        Args:
            pool: The buffers.
            capacity: How many there may be.
        """
        self.pool = pool
        self._ring_from = max(1, capacity // 4)
        # The training never waits for the pipe: half of it holds the headers of all slots.
        self._max_short_header = min(_MAX_SHORT_HEADER, self._process.capacity // (2 * capacity))

    def close(self) -> None:
        """Lets go of all buffers."""
        self.pool = None
        self._lent.clear()

    @property
    def gathers(self) -> bool:
        """Whether frames are so many that it pays to send several headers at once."""
        return self._ring_from >= 4

    def take_back(self) -> None:
        """Frees the buffers that the writer is done with."""
        memory = self._process.memory
        if memory is None or not self._lent:
            return
        done = memory.counter[0]
        if done == self._returned:
            return
        self._process.last_progress = time.monotonic()
        self._process.is_stalled = False
        # A buffer is among these before its header is sent: where an interrupt comes in between,
        # the ones behind it come back late, never early.
        with self._returning:
            while self._returned < done:
                pool, buffer = self._lent.popleft()
                pool.free.append(buffer)
                self._returned += 1

    def send_short(self, pool: BufferPool, frame: QueuedFrame) -> bool:
        """Sends the header of a frame in shared memory, if it is short enough not to wait.

        Returns:
            Whether nothing is left to do: False where the frame has to be carried by the thread.
        """
        header = self._encode(pool, frame)
        if header is None or len(header) > self._max_short_header:
            return header is None
        self._lent.append((pool, frame.buffer))  # first: see `take_back`
        self.post([header])
        return True

    def deliver(self, pool: BufferPool, frame: QueuedFrame, headers: list[bytes]) -> None:
        """Sends a frame, or puts its header with those that are to be sent.

        Args:
            pool: The buffers that the frame's is one of.
            frame: The frame.
            headers: Headers of frames before it that are not sent yet.
        """
        if frame.arrived is not None:
            self.post(headers)  # what is here does not wait for what is still on a GPU
        header = self._encode(pool, frame)
        if header is None:
            return
        if pool.shared:
            headers.append(header)
            self._lent.append((pool, frame.buffer))
            return
        self.post(headers)
        try:
            self.write(memoryview(header))
            self.ring()
            self.write(frame.buffer.data)
            self.sent += 1
        except Exception as error:
            self._give_up(1, error)
        finally:
            pool.free.append(frame.buffer)

    def post(self, headers: list[bytes]) -> None:
        """Sends the headers of frames that lie in shared memory, and empties the list."""
        if not headers:
            return
        try:
            self.write(memoryview(b"".join(headers)))
            self.sent += len(headers)
            if len(self._lent) >= self._ring_from:
                self.ring()
        except Exception as error:
            self._give_up(len(headers), error)
        headers.clear()

    def write(self, data: memoryview) -> None:
        """Writes bytes into the pipe.

        Raises:
            OSError: The writer does not read any more.
        """
        while data:
            data = data[os.write(self._descriptor, data) :]
            self._process.last_progress = time.monotonic()

    def ring(self) -> None:
        """Has the writer look at what is in the pipe, rather than wait for more."""
        memory = self._process.memory
        if memory is not None:
            memory.ring()

    def _encode(self, pool: BufferPool, frame: QueuedFrame) -> bytes | None:
        """Returns a frame's message up to its data, once they are here; None if it is lost."""
        try:
            if frame.arrived is not None:
                frame.arrived()
            if self._process.failure is None:
                values = {name: float(value) for name, value in frame.values.items()}
                slot = pool.slot_of(frame.buffer)
                text = frame.header.encode(values, self.dropped, self.lost, slot)
                if slot is not None:
                    return messages.pack(messages.SLOT, text)
                return messages.pack(messages.FRAME, text, frame.buffer.data.nbytes)
            self.lost += 1
        except Exception as error:
            self._give_up(1, error)
        pool.free.append(frame.buffer)
        return None

    def _give_up(self, frames: int, error: Exception) -> None:
        """Counts lost frames, and ends the recording because of an error."""
        self.lost += frames
        if not isinstance(error, BrokenPipeError):  # the listener knows why the writer ended
            self._process.fail(f"{type(error).__name__}: {error}")
