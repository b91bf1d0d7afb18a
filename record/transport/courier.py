"""Carries frames out of the training process: a bounded queue, a thread, a pipe, the writer.

Where the system has memory that two processes can share, a frame is in it from the beginning and
stays there until the writer has written it; only its header takes the way through the pipe.

Nothing here may harm the training. A writer that died, a full disk or a writer that stands still
costs frames, which are counted, and one warning; it never raises into the training loop and
never waits for long.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import multiprocessing
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from record.formatting import format_count
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.buffer_pool import Buffer, Make, Pool, room_for
from record.transport.weakcall import weakly
from record.transport.writer_process import START_SECONDS, WriterProcess, refusal

_STALL_SECONDS = 4.0  # without any progress of the writer, after which training waits no longer
_TOGETHER = 16  # headers that are sent at once, at most
_PLENTY = 4  # frames that the writer may leave lying
_GATHER_SECONDS = 0.02  # in which the courier's thread leaves a GPU's small frames lying
_SHORT = 1024  # bytes of a header, at most, that the training's own thread sends
_LOOK_SECONDS = 0.0002  # how often a training that waits looks for a free buffer


_begun: weakref.WeakSet[Courier] = weakref.WeakSet()  # whose writers may not hold their file yet


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


class Courier:
    """Starts the writer and carries frames to it.

    The writer takes its time to start, as long as hundreds of steps of a small network; nobody
    waits for it, and frames queue meanwhile. Only where it may well refuse the file, or where one
    has to know what the file holds, its answer is waited for.

    Args:
        path: The recording, absolute.
        overwrite: Whether an existing file is replaced.
        attributes: The file's root attributes.
        when_full: `wait` until there is room in the queue, or `drop` the frame and count it.
        warn: Called with one line when recording stops short; never twice for one cause.
        resume: Goes on with an existing file, keeping its frames of the epochs before this one.
        durability: `fsync` puts the file's data on the disk now and then, `flush` does not.

    Raises:
        OutputError: The file is being recorded into, or cannot be gone on with. What the writer
            meets later, while it opens the file, is a `failure`.
        RecordingError: The writer could not be started.

    Attributes:
        dropped: Frames given up because the queue was full.
        lost: Frames given up for any other reason.
        failure: Why the writer no longer takes frames, or None.
    """

    def __init__(
        self,
        path: Path,
        overwrite: bool,
        attributes: dict[str, Any],
        when_full: str,
        warn: Callable[[str], None],
        resume: int | None = None,
        durability: str = "fsync",
    ) -> None:
        self.dropped = 0
        self.lost = 0
        self.failure: str | None = None
        self._flushes = 0  # asked for
        self._path = path
        self._when_full = when_full
        self._warn = warn
        self._closed = False
        self._reported = False
        self._stalled = False
        self._progress = time.monotonic()
        self._sent = 0
        self._work: queue.SimpleQueue[tuple[Pool, QueuedFrame] | bytes | None] = queue.SimpleQueue()
        self._queued = 0  # of these, so many were ever put in, by the training
        self._carried = 0  # and so many sent, by the courier's thread
        self._pool: Pool | None = None
        self._short = 0  # bytes of a header that the training's thread may send
        self._many = 1  # frames in the writer's hands with which it had better begin to write
        self._with_writer: collections.deque[tuple[Pool, Buffer]] = collections.deque()
        self._returned = 0  # of those, how many have come back
        self._returning = threading.Lock()
        self._process = WriterProcess()
        self._descriptor = self._process.descriptor
        self._memory = self._process.memory
        self._thread = threading.Thread(target=self._carry, name="mapreel-courier", daemon=True)
        self._process.listen(self._heard, self._fail)
        self._thread.start()
        opening = {
            "path": str(path),
            "overwrite": overwrite,
            "attributes": attributes,
            "resume": resume,
            "durability": durability,
        }
        self._queue(messages.pack(messages.OPEN, opening))
        if resume is not None or _may_be_held(path):
            self._await_ready()
        _begun.add(self)
        # A thread that sits in a system call when the interpreter ends must have been joined.
        self._at_exit = weakly(self, "close")
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=weakly(self, "_forget"))

    @property
    def path(self) -> Path:
        """The recording."""
        return self._path

    @property
    def is_ready(self) -> bool:
        """Whether the writer has opened the file."""
        return self._process.is_ready

    @property
    def _patience(self) -> float:
        """Seconds for which a writer that does not move is waited for."""
        return _STALL_SECONDS if self._process.is_ready else START_SECONDS

    @property
    def committed(self) -> int:
        """Frames that the writer has made readable."""
        return self._process.committed

    @property
    def opening(self) -> dict[str, int]:
        """What the file held at the start: frames, the last one's step and epoch."""
        return self._process.opening

    @property
    def sent(self) -> int:
        """Frames handed to the pipe."""
        return self._sent

    @property
    def spare(self) -> int:
        """How many more buffers there are that nobody waits for."""
        if self._pool is None or self.failure is not None or self._closed:
            return 0
        self._take_back()
        return self._pool.spare

    def set_layout(
        self,
        layout: BatchLayout,
        batches: int | None,
        make: Make,
        shared: bool = True,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """What the frames consist of from now on.

        Args:
            layout: The parts of a frame.
            batches: Batches in an epoch, if it is known.
            make: Makes one buffer for a frame.
            shared: Whether it can make them in given memory.
            meta: What is known of the run by now; it takes the place of what was said before.
        """
        room = room_for(layout.nbytes)
        region, slots = None, list[memoryview]()
        if shared and self._memory is not None:
            with contextlib.suppress(OSError, ValueError):  # a limit; the pipe has none
                region, slots = self._memory.lend(layout.nbytes, room)
        self._pool = Pool(make, room, slots, layout.nbytes)
        self._many = max(1, room // 4)
        # The training never waits for the pipe: half of it holds the headers of all slots.
        self._short = min(_SHORT, self._process.capacity // (2 * room))
        data = {
            "layout": layout.encode(),
            "batches": batches,
            "region": None if region is None else region.encode(),
            "meta": meta,
        }
        self._queue(messages.pack(messages.LAYOUT, data))

    def set_probes(self, images: npt.NDArray[np.float16]) -> None:
        """The fixed images, float16 (N, C, H, W); before the first layout."""
        head = messages.pack(messages.PROBES, {"shape": images.shape}, images.nbytes)
        self._queue(head + images.tobytes())

    def flush(self) -> bool:
        """Waits until all that was sent is readable in the file; False where that failed."""
        self._flushes += 1
        self._progress = time.monotonic()
        self._queue(messages.pack(messages.FLUSH, {"number": self._flushes}))
        while self._process.flushed < self._flushes and self.failure is None and not self._closed:
            self._take_back()
            if time.monotonic() - self._progress > self._patience:
                return False
            time.sleep(0.002)
        return self.failure is None

    def thin(self, keep: int) -> None:
        """Of every `keep` frames sent so far, only the first stays in the file."""
        self._queue(messages.pack(messages.THIN, {"keep": keep}))

    def buffer(self) -> Buffer | None:
        """A free buffer; None where the frame is to be given up, which is then counted.

        Waits while the queue is full, unless frames are to be dropped then or the writer has
        stood still for some seconds.
        """
        if self.failure is not None or self._closed:
            self.lost += 1
            return None
        assert self._pool is not None
        self._take_back()
        buffer = self._pool.take()
        if buffer is not None:
            return buffer
        self._ring()
        if self._when_full == "wait":
            while self.failure is None:
                time.sleep(_LOOK_SECONDS)
                self._take_back()
                if self._pool.free:
                    return self._pool.take()
                patience = self._patience
                if time.monotonic() - self._progress >= patience:
                    if not self._stalled:
                        self._stalled = True
                        self._warn(
                            f"the writer of {self._path} has stood still for "
                            f"{patience:.0f} s; training goes on, frames are dropped and "
                            "counted until it moves"
                        )
                    break
        if self.failure is None:
            self.dropped += 1
        else:
            self.lost += 1
        return None

    def give_back(self, buffer: Buffer) -> None:
        """Returns a buffer that was not sent."""
        assert self._pool is not None
        self._pool.free.append(buffer)

    def send(self, parcel: QueuedFrame) -> None:
        """Hands a batch on; its buffer belongs to the courier from now on.

        A frame that lies in shared memory needs no carrying: where nothing is queued before it,
        its header goes into the pipe at once, which has room for the headers of all slots, and no
        thread wakes up for it in the middle of the training's next step.
        """
        pool = self._pool
        assert pool is not None
        carries = parcel.arrived is not None or not pool.shared or self._queued != self._carried
        if carries or not self._process.is_ready or not self._send_short(pool, parcel):
            self._queue((pool, parcel))

    def _send_short(self, pool: Pool, parcel: QueuedFrame) -> bool:
        """Sends a header that fits; False where it has to be carried."""
        head = self._head(pool, parcel)
        if head is None or len(head) > self._short:
            return head is None
        self._with_writer.append((pool, parcel.buffer))  # first: see `_take_back`
        self._post([head])
        return True

    def _queue(self, item: tuple[Pool, QueuedFrame] | bytes | None) -> None:
        """Leaves something to the courier's thread."""
        self._queued += 1
        self._work.put(item)

    def close(self) -> None:
        """Waits until the writer has closed the file; gives up if it stands still."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._at_exit)
        self._queue(messages.pack(messages.DONE, {"dropped": self.dropped, "lost": self.lost}))
        self._queue(None)
        self._progress = time.monotonic()
        while not self._process.finished.wait(timeout=0.05):
            self._take_back()
            patience = self._patience
            if time.monotonic() - self._progress > patience:
                self._fail(
                    f"the writer has stood still for {patience:.0f} s; it closes the file "
                    "by itself when it moves again"
                )
                self._report()
                return
        self._report()
        self._thread.join(timeout=1.0)
        self._process.wait(_STALL_SECONDS)
        self._let_go()

    def settle(self) -> None:
        """Waits until the writer has opened the file, or has failed."""
        if not self._closed:
            self._process.await_ready()

    # The other side

    def _await_ready(self) -> None:
        if self._process.await_ready():
            return
        self._closed = self._reported = True
        self._queue(None)
        self._process.kill()
        self._thread.join()
        self._let_go()
        raise refusal(self._path, self.failure or "it did not answer")

    def _heard(self) -> None:
        """The writer has answered, so it moves."""
        self._progress = time.monotonic()
        self._stalled = False

    def _let_go(self) -> None:
        """Closes what is left of the writer, once both threads are done with it."""
        self._pool = None
        self._with_writer.clear()
        self._process.let_go()
        self._memory = None

    def _ring(self) -> None:
        """Has the writer look at what is in the pipe, rather than wait for more."""
        memory = self._memory
        if memory is not None:
            memory.ring()

    def _take_back(self) -> None:
        """Frees the buffers that the writer is done with."""
        memory = self._memory
        if memory is None or not self._with_writer:
            return
        done = memory.done
        if done == self._returned:
            return
        self._progress = time.monotonic()
        self._stalled = False
        # A buffer is among these before its header is sent: where an interrupt comes in between,
        # the ones behind it come back late, never early.
        with self._returning:
            while self._returned < done:
                pool, buffer = self._with_writer.popleft()
                pool.free.append(buffer)
                self._returned += 1

    # The courier's thread

    def _carry(self) -> None:
        item: tuple[Pool, QueuedFrame] | bytes | None = b""
        while item is not None:
            heads: list[bytes] = []  # of what lies in slots: several go together
            taken = 0
            while taken == 0 or not (self._work.empty() or len(heads) >= _TOGETHER):
                item = self._work.get()
                if not taken and isinstance(item, tuple) and self._many >= _PLENTY:
                    # Of small frames there are soon more. Python's lock, which the training holds
                    # all the time, is then asked for once for all of them.
                    time.sleep(_GATHER_SECONDS)
                taken += 1
                if item is None:
                    break
                if isinstance(item, bytes):
                    self._post(heads)
                    with contextlib.suppress(OSError):
                        self._write(memoryview(item))
                    self._ring()
                else:
                    self._deliver(*item, heads)
            self._post(heads)
            self._carried += taken
        with contextlib.suppress(OSError):
            self._process.end_input()
        self._ring()

    def _deliver(self, pool: Pool, parcel: QueuedFrame, heads: list[bytes]) -> None:
        """Sends a frame, or puts its header with those that are to be sent."""
        if parcel.arrived is not None:
            self._post(heads)  # what is here does not wait for what is still on a GPU
        head = self._head(pool, parcel)
        if head is None:
            return
        if pool.shared:
            heads.append(head)
            self._with_writer.append((pool, parcel.buffer))
            return
        self._post(heads)
        try:
            self._write(memoryview(head))
            self._ring()
            self._write(parcel.buffer.data)
            self._sent += 1
        except Exception as error:
            self._give_up(1, error)
        finally:
            pool.free.append(parcel.buffer)

    def _head(self, pool: Pool, parcel: QueuedFrame) -> bytes | None:
        """A batch's message up to its data, once they are here; None if it is lost."""
        try:
            if parcel.arrived is not None:
                parcel.arrived()
            if self.failure is None:
                values = {name: float(value) for name, value in parcel.values.items()}
                slot = pool.slot_of(parcel.buffer)
                text = parcel.header.encode(values, self.dropped, self.lost, slot)
                if slot is not None:
                    return messages.pack(messages.SLOT, text)
                return messages.pack(messages.FRAME, text, parcel.buffer.data.nbytes)
            self.lost += 1
        except Exception as error:
            self._give_up(1, error)
        pool.free.append(parcel.buffer)
        return None

    def _post(self, heads: list[bytes]) -> None:
        """Sends the headers of frames that lie in slots."""
        if not heads:
            return
        try:
            self._write(memoryview(b"".join(heads)))
            self._sent += len(heads)
            if len(self._with_writer) >= self._many:
                self._ring()
        except Exception as error:
            self._give_up(len(heads), error)
        heads.clear()

    def _give_up(self, frames: int, error: Exception) -> None:
        self.lost += frames
        if not isinstance(error, BrokenPipeError):  # the listener knows why the writer ended
            self._fail(f"{type(error).__name__}: {error}")

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]
            self._progress = time.monotonic()

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason

    def check(self) -> None:
        """Warns, once, if the writer has failed; called from the training's own thread."""
        if self.failure is not None:
            self._report()

    def _report(self) -> None:
        if self.failure is None or self._reported:
            return
        self._reported = True
        if self._process.is_ready:
            self._warn(
                f"recording to {self._path} has ended: {self.failure}. Training is not affected; "
                f"{format_count(self.committed, 'frame')} "
                f"{'is' if self.committed == 1 else 'are'} in the file"
            )
        else:
            reason = refusal(self._path, self.failure)
            self._warn(f"nothing is recorded: {reason}. Training is not affected")

    def _forget(self) -> None:
        """In a forked child: the pipe and the file are the parent's."""
        self._closed = True
        self.failure = "recording goes on in the parent process only"
        self._reported = True
        self._process.disown()


def await_own(path: Path) -> None:
    """Waits, where this process has just begun to record into a file, until its writer holds it.

    Only then can one see by the file that it is being recorded into.
    """
    real = os.path.realpath(path)
    for courier in list(_begun):
        if os.path.realpath(courier.path) == real:
            courier.settle()


def _may_be_held(path: Path) -> bool:
    """Whether somebody may be recording into a file: it has a lock file, or we have siblings.

    Processes that one program has started at once may all be about to record into one file.
    """
    has_siblings = multiprocessing.parent_process() is not None
    return has_siblings or os.path.exists(f"{os.path.realpath(path)}.lock")
