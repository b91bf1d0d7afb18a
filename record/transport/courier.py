"""Carries frames out of the training process: starts the writer, queues frames, ends it all.

Nothing here may harm the training. A writer that died, a full disk or a writer that stands still
costs frames, which are counted, and one warning; it never raises into the training loop and
never waits for long.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from record.formatting import format_count
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.buffer_pool import BufferPool, MakeBuffer, max_buffers
from record.transport.frame_channel import STALL_SECONDS, FrameChannel, QueueItem
from record.transport.startup import may_be_held, note_started
from record.transport.weakcall import weakly
from record.transport.writer_process import WriterProcess, refusal

_MAX_HEADERS = 16  # that are sent at once
_GATHER_SECONDS = 0.02  # in which the courier's thread lets a GPU's small frames gather
_MANY = 4  # frames that the writer may leave lying: then they are small


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
        path: The recording.
        channel: Hands out buffers, and sends frames.
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
        self.path = path
        self._warn = warn
        self._flushes = 0  # asked for
        self._reported = False
        self._process = WriterProcess()
        self.channel = FrameChannel(self._process, path, when_full, warn)
        self._thread = threading.Thread(target=self._carry, name="mapreel-courier", daemon=True)
        self._process.listen()
        self._thread.start()
        opening = {
            "path": str(path),
            "overwrite": overwrite,
            "attributes": attributes,
            "resume": resume,
            "durability": durability,
        }
        self.channel.put(messages.pack(messages.OPEN, opening))
        if resume is not None or may_be_held(path):
            self._require_opened()
        note_started(self)
        # A thread that sits in a system call when the interpreter ends must have been joined.
        self._at_exit = weakly(self.close)
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=weakly(self._leave_to_parent))

    @property
    def failure(self) -> str | None:
        """Why the writer no longer takes frames, or None."""
        return self._process.failure

    @property
    def dropped(self) -> int:
        """The number of frames given up because the queue was full."""
        return self.channel.dropped

    @property
    def lost(self) -> int:
        """The number of frames given up for any other reason."""
        return self.channel.lost + self._process.refused

    @property
    def sent(self) -> int:
        """The number of frames handed to the pipe."""
        return self.channel.sent

    @property
    def committed(self) -> int:
        """The number of frames that the writer has made readable."""
        return self._process.committed

    @property
    def opening(self) -> dict[str, int]:
        """What the file held at the start: frames, the last one's step and epoch."""
        return self._process.opening

    def set_layout(
        self,
        layout: BatchLayout,
        batches: int | None,
        make: MakeBuffer,
        shared: bool = True,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Sets what the frames consist of from now on.

        Args:
            layout: The parts of a frame.
            batches: The number of batches in an epoch, if it is known.
            make: Makes one buffer for a frame.
            shared: Whether it can make them in given memory.
            meta: What is known of the run by now; it takes the place of what was said before.
        """
        capacity = max_buffers(layout.nbytes)
        region, slots = None, list[memoryview]()
        memory = self._process.memory
        if shared and memory is not None:
            with contextlib.suppress(OSError, ValueError):  # a limit; the pipe has none
                region, slots = memory.make_slots(layout.nbytes, capacity)
        self.channel.set_pool(BufferPool(make, capacity, slots, layout.nbytes))
        data = {
            "layout": layout.encode(),
            "batches": batches,
            "region": None if region is None else region.encode(),
            "meta": meta,
        }
        self.channel.put(messages.pack(messages.LAYOUT, data))

    def set_probes(
        self, images: npt.NDArray[np.float16], labels: Sequence[int | None] = ()
    ) -> None:
        """Sends the fixed images; before the layout in which their maps have a place.

        Args:
            images: The images, float16 (N, C, H, W).
            labels: The class of each, None where it is not known.
        """
        data = {"shape": images.shape, "labels": list(labels)}
        header = messages.pack(messages.PROBES, data, images.nbytes)
        self.channel.put(header + images.tobytes())

    def flush(self) -> bool:
        """Waits until all that was sent is readable in the file.

        Returns:
            Whether it is: False where the writer has failed or stands still.
        """
        self._flushes += 1
        self._process.last_progress = time.monotonic()
        self.channel.put(messages.pack(messages.FLUSH, {"number": self._flushes}))
        while self._process.flushed < self._flushes and not (self.failure or self.channel.closed):
            self.channel.take_back()
            if self.channel.idle_seconds > self.channel.patience:
                return False
            time.sleep(0.002)
        return self.failure is None

    def thin(self, keep: int) -> None:
        """Has the writer keep, of every `keep` frames sent so far, only the first."""
        self.channel.put(messages.pack(messages.THIN, {"keep": keep}))

    def close(self) -> None:
        """Waits until the writer has closed the file; gives up if it stands still."""
        if self.channel.closed:
            return
        self.channel.closed = True
        atexit.unregister(self._at_exit)
        counts = {"dropped": self.dropped, "lost": self.channel.lost}  # the writer adds its own
        self.channel.put(messages.pack(messages.DONE, counts))
        self.channel.put(None)
        self._process.last_progress = time.monotonic()
        while not self._process.finished.wait(timeout=0.05):
            self.channel.take_back()
            patience = self.channel.patience
            if self.channel.idle_seconds > patience:
                self._process.fail(
                    f"the writer has stood still for {patience:.0f} s; it closes the file "
                    "by itself when it moves again"
                )
                self._settle_counts()
                self.check()
                return
        self._thread.join(timeout=1.0)
        self._settle_counts()
        self.check()
        self._process.wait(STALL_SECONDS)
        self._let_go()

    def _settle_counts(self) -> None:
        """Counts frames as lost that were sent, and never acknowledged by a writer that failed."""
        if self.failure is not None:
            known = self._process.acknowledged + self._process.refused
            self.channel.count_lost(max(0, self.sent - known))

    def await_opened(self) -> None:
        """Waits until the writer has opened the file, or has failed."""
        if not self.channel.closed:
            self._process.await_ready()

    def check(self) -> None:
        """Warns, once, if the writer has failed; called from the training's own thread."""
        self.channel.warn_of_moved()
        failure = self.failure
        if failure is None or self._reported:
            return
        self._reported = True
        if self._process.is_ready:
            self._warn(
                f"recording to {self.path} has ended: {failure}. Training is not affected; "
                f"{self._what_is_left()}"
            )
        else:
            reason = refusal(self.path, failure)
            self._warn(f"nothing is recorded: {reason}. Training is not affected")

    def _what_is_left(self) -> str:
        """Returns what a reader finds of a recording whose writer has failed, in words."""
        frames, is_one = format_count(self.committed, "frame"), self.committed == 1
        if not self.path.exists():
            return f"{frames} {'is' if is_one else 'are'} gone with the file"
        if (self.failure or "").endswith(messages.REPLACED):
            return (
                f"{frames} {'is' if is_one else 'are'} gone: the file there is not this recording"
            )
        return f"{frames} {'is' if is_one else 'are'} in the file"

    def _require_opened(self) -> None:
        """Waits until the writer has opened the file.

        Raises:
            OutputError: It could not.
        """
        if self._process.await_ready():
            return
        self.channel.closed = self._reported = True
        self.channel.put(None)
        self._process.kill()
        self._thread.join()
        self._let_go()
        raise refusal(self.path, self.failure or "it did not answer")

    def _carry(self) -> None:
        """Sends what is queued, to its end; runs in the courier's thread."""
        channel = self.channel
        item: QueueItem = b""
        while item is not None:
            headers: list[bytes] = []  # of frames in shared memory: several go together
            taken = 0
            while taken == 0 or not (channel.waiting.empty() or len(headers) >= _MAX_HEADERS):
                item = channel.waiting.get()
                if not taken and isinstance(item, tuple) and channel.rings_from >= _MANY:
                    # Of small frames there are soon more. Python's lock, which the training holds
                    # all the time, is then asked for once for all of them.
                    time.sleep(_GATHER_SECONDS)
                taken += 1
                if item is None:
                    break
                if isinstance(item, bytes):
                    channel.post(headers)
                    with contextlib.suppress(OSError):
                        channel.write(memoryview(item))
                    channel.ring()
                else:
                    channel.deliver(*item, headers)
            channel.post(headers)
            channel.carried += taken
        with contextlib.suppress(OSError):
            self._process.end_input()
        channel.ring()

    def _let_go(self) -> None:
        """Closes what is left of the writer, once both threads are done with it."""
        self.channel.let_go()
        self._process.let_go()

    def _leave_to_parent(self) -> None:
        """Ends the courier in a forked child: the pipe and the file are the parent's."""
        self.channel.closed = True
        self._process.failure = "recording goes on in the parent process only"
        self._reported = True
        self._process.disown()
