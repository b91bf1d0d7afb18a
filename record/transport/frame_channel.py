"""The way of frames to the writer: buffers that are lent to it, the queue, headers, the pipe.

Where the system has memory that two processes can share, a frame is in it from the beginning and
stays there until the writer has written it; only its header takes the way through the pipe.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from record.protocol import messages
from record.transport.buffer_pool import Buffer, BufferPool
from record.transport.moved_frames import describe_moved
from record.transport.writer_process import START_SECONDS, WriterProcess

STALL_SECONDS = 4.0  # without any progress of the writer, after which training waits no longer
_POLL_SECONDS = 0.0002  # how often a training that waits looks for a free buffer
_MAX_SHORT_HEADER = 1024  # bytes of a header that the training's own thread sends, at most


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


QueueItem = tuple[BufferPool, QueuedFrame] | bytes | None
"""What waits in the queue: a frame with its pool, a message, or None for the end."""


class FrameChannel:
    """Hands out buffers, sends frames to the writer, and takes the buffers back.

    What a training does for each frame is all here. Frames that may have to wait, and messages,
    are left in a queue to the courier's thread; never do both threads send at once.

    Args:
        process: The writer.
        path: The recording.
        when_full: `wait` until there is room in the queue, or `drop` the frame and count it.
        warn: Called with one line when the writer stands still.

    Attributes:
        dropped: The number of frames given up because the queue was full.
        lost: The number of frames given up for any other reason.
        last_refusal: As what the last frame was counted for which there was no buffer: `lost` or
            `dropped`.
        sent: The number of frames handed to the pipe.
        pool: The buffers of the present layout; None before the first.
        closed: Whether no more frames are taken.
        waiting: The queue.
        queued: How many items were ever put into the queue, by the training.
        carried: How many of these were sent, by the courier's thread.
        rings_from: The number of frames in the writer's hands from which it is woken up.
    """

    def __init__(
        self, process: WriterProcess, path: Path, when_full: str, warn: Callable[[str], None]
    ) -> None:
        self.dropped = 0
        self.lost = 0
        self.last_refusal = ""
        self._counting = threading.Lock()  # of losses: in the training's threads and the courier's
        self.sent = 0
        self.pool: BufferPool | None = None
        self.closed = False
        self.waiting: queue.SimpleQueue[QueueItem] = queue.SimpleQueue()
        self.queued = 0
        self.carried = 0
        self.rings_from = 1
        self._process = process
        self._descriptor = process.descriptor
        self._path = path
        self._when_full = when_full
        self._warn = warn
        self._max_short_header = 0  # bytes
        self._lent: collections.deque[tuple[BufferPool, Buffer]] = collections.deque()
        self._returned = 0  # buffers that have come back
        self._returning = threading.Lock()

    def set_pool(self, pool: BufferPool) -> None:
        """Takes the buffers of a new layout."""
        self.pool = pool
        self.rings_from = max(1, pool.capacity // 4)
        # The training never waits for the pipe: half of it holds the headers of all slots.
        half = self._process.capacity // (2 * pool.capacity)
        self._max_short_header = min(_MAX_SHORT_HEADER, half)

    def let_go(self) -> None:
        """Lets go of all buffers."""
        self.pool = None
        self._lent.clear()

    @property
    def failure(self) -> str | None:
        """Why the writer no longer takes frames, or None."""
        return self._process.failure

    @property
    def spare(self) -> int:
        """How many more buffers there are that nobody waits for."""
        pool = self.pool
        if pool is None or self._process.failure is not None or self.closed:
            return 0
        self.take_back()
        return pool.spare

    @property
    def patience(self) -> float:
        """Seconds for which a writer that does not move is waited for."""
        return STALL_SECONDS if self._process.is_ready else START_SECONDS

    @property
    def idle_seconds(self) -> float:
        """Seconds since the writer last moved."""
        return time.monotonic() - self._process.last_progress

    def buffer(self) -> Buffer | None:
        """Returns a free buffer.

        Waits while the queue is full, unless frames are to be dropped then or the writer has
        stood still for some seconds.

        Returns:
            The buffer; None where the frame is to be given up, which is then counted.
        """
        process, pool = self._process, self.pool
        if process.moved is not None:
            self.warn_of_moved()
        if process.failure is not None or self.closed:
            self._refuse("lost")
            return None
        assert pool is not None
        self.take_back()
        buffer = pool.take_free() if pool.free else pool.make_another()
        if buffer is not None:
            return buffer
        self.ring()
        if self._when_full == "wait":
            while process.failure is None:
                time.sleep(_POLL_SECONDS)
                self.take_back()
                if pool.free:
                    return pool.take_free()
                if self.idle_seconds >= self.patience:
                    self._warn_of_stall()
                    break
        self._refuse("dropped" if process.failure is None else "lost")
        return None

    def _refuse(self, kind: str) -> None:
        """Counts a frame for which there is no buffer."""
        self.last_refusal = kind
        if kind == "lost":
            self.count_lost(1)
        else:
            self.dropped += 1

    def count_lost(self, frames: int) -> None:
        """Counts so many frames as lost; may be called in any thread."""
        with self._counting:
            self.lost += frames

    def give_back(self, buffer: Buffer) -> None:
        """Takes a buffer that was not sent."""
        assert self.pool is not None
        self.pool.free.append(buffer)

    def send(self, frame: QueuedFrame) -> None:
        """Sends a batch; its buffer belongs to the channel from now on.

        A frame that lies in shared memory needs no carrying: where nothing is queued before it,
        its header goes into the pipe at once, which has room for the headers of all slots, and no
        thread wakes up for it in the middle of the training's next step.
        """
        pool = self.pool
        assert pool is not None
        carries = frame.arrived is not None or not pool.shared or self.queued != self.carried
        if carries or not self._process.is_ready or not self._send_short(pool, frame):
            self.put((pool, frame))

    def hold(self, frame: QueuedFrame) -> None:
        """Tells the writer of a batch in shared memory that is sent later, if that is free to do.

        The writer writes it where the pipe ends before another batch comes.
        """
        pool, process = self.pool, self._process
        slot = None if pool is None else pool.slot_numbers.get(id(frame.buffer))
        if slot is None or self.queued != self.carried or not process.is_ready or process.failure:
            return
        values = {name: float(value) for name, value in frame.values.items()}
        text = frame.header.encode(values, self.dropped, self.lost, slot)
        message = messages.pack(messages.HELD, text)
        if len(message) <= self._max_short_header:
            with contextlib.suppress(OSError):  # the listener knows why the writer has ended
                self.write(memoryview(message))

    def put(self, item: QueueItem) -> None:
        """Leaves something to the courier's thread."""
        self.queued += 1
        self.waiting.put(item)

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

    def _send_short(self, pool: BufferPool, frame: QueuedFrame) -> bool:
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

    def warn_of_moved(self) -> None:
        """Warns, once for each reason, of frames that were not written where they should be."""
        while self._process.moved:
            self._warn(describe_moved(self._path, *self._process.moved.pop(0)))

    def _warn_of_stall(self) -> None:
        """Warns that the writer stands still; once until it moves again."""
        if not self._process.is_stalled:
            self._process.is_stalled = True
            self._warn(
                f"the writer of {self._path} has stood still for {self.patience:.0f} s; training "
                "goes on, frames are dropped and counted until it moves"
            )

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
            if len(self._lent) >= self.rings_from:
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
                slot = pool.slot_numbers.get(id(frame.buffer))
                text = frame.header.encode(values, self.dropped, self.lost, slot)
                if slot is not None:
                    return messages.pack(messages.SLOT, text)
                return messages.pack(messages.FRAME, text, frame.buffer.data.nbytes)
            self.count_lost(1)
        except Exception as error:
            self._give_up(1, error)
        pool.free.append(frame.buffer)
        return None

    def _give_up(self, frames: int, error: Exception) -> None:
        """Counts lost frames, and ends the recording because of an error."""
        self.count_lost(frames)
        if not isinstance(error, BrokenPipeError):  # the listener knows why the writer ended
            self._process.fail(f"{type(error).__name__}: {error}")
