"""The process that owns the file. Imports no torch.

Run as `python -m record.writer` by `writerprocess.py`. It ignores Ctrl-C and takes the end of its
input as "close the file", so that a training process killed with SIGKILL still leaves a cleanly
closed recording.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from record.locking.lock import BusyError
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.protocol.shared_memory import SharedFramesReader
from record.writer.recording_file import RecordingFile
from record.writer.summaries import GROUP
from replay import schema

COMMIT_SECONDS = 0.5
_TOGETHER = 16  # small frames, so that the others of a full queue are free before these are written
_PARENT_SECONDS = 0.5  # how often to look whether the training process is still there


class Inbox:
    """Messages from the pipe, read ahead by a thread so that reading and writing overlap.

    Args:
        descriptor: The pipe's end.
        gather: Called before the pipe is waited for, with its descriptor.
        depth: How many payloads may be read ahead.
    """

    def __init__(
        self, descriptor: int, gather: Callable[[int], None] | None = None, depth: int = 3
    ) -> None:
        self._messages: queue.SimpleQueue[list[messages.Message | Exception | None]]
        self._messages = queue.SimpleQueue()
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(depth):
            self._free.put(bytearray())
        self._descriptor, self._gather = descriptor, gather
        self._stream = messages.Stream(descriptor, self._free.get)
        threading.Thread(target=self._read, daemon=True).start()

    def get(self, timeout: float) -> list[messages.Message | Exception | None]:
        """The next messages: None at the end, or the error that ended the reading.

        Raises:
            queue.Empty: Nothing came within `timeout` seconds.
        """
        return self._messages.get(timeout=timeout)

    def give_back(self, message: messages.Message) -> None:
        """Lets the message's buffer be used again."""
        if message.buffer is not None:
            self._free.put(message.buffer)

    def _read(self) -> None:
        together: list[messages.Message | Exception | None] = []
        while True:
            message: messages.Message | Exception | None
            try:
                if self._gather is not None and not self._stream.waiting:
                    self._gather(self._descriptor)
                message = self._stream.next()
            except Exception as error:  # raised again where the message is taken
                message = error
            together.append(message)
            # A message with a payload may not wait for others: there are few buffers.
            if not isinstance(message, messages.Message):
                self._messages.put(together)
                return
            if message.buffer is not None or not self._stream.waiting:
                self._messages.put(together)
                together = []


class Service:
    """Writes what arrives until DONE, the end of the pipe or the end of the training process.

    Args:
        inbox: The messages.
        answer: Called with each answer, a JSON-ready dict.
        stopped: Once it is set, the file is closed with what has arrived.
        shared: Where frames lie that do not come through the pipe.
    """

    def __init__(
        self,
        inbox: Inbox,
        answer: Callable[[dict[str, Any]], None],
        stopped: threading.Event,
        shared: SharedFramesReader | None = None,
    ) -> None:
        self._inbox, self._answer, self._stopped = inbox, answer, stopped
        self._shared = shared
        # Kept to the end: letting go of a file whose disk is full would make HDF5 close it,
        # which writes half of a closed file over a readable one.
        self._file: RecordingFile | None = None
        self._layout = BatchLayout((), ())
        self._due = time.monotonic()  # the next commit

    def run(self) -> None:
        """Serves to the end, and closes the file."""
        parent = os.getppid()
        final: dict[str, Any] | None = None
        while final is None and not self._stopped.is_set():
            wait = _PARENT_SECONDS
            if self._file is not None and self._file.dirty:
                wait = max(0.0, min(wait, self._due - time.monotonic()))
            try:
                final = self._take(self._inbox.get(timeout=wait))
            except queue.Empty:
                if os.getppid() != parent:  # it died, and a forked child holds its end of the pipe
                    break
            self._commit_if_due()
            if self._file is not None:
                self._file.renew()
        if self._file is not None:
            ended = final or {}
            self._file.close(ended.get("dropped"), ended.get("lost"))
            self._answer({"committed": self._file.committed, "closed": True})

    def abandon(self) -> None:
        """Leaves the file readable after a failure."""
        if self._file is not None:
            self._file.abandon()

    def _take(self, received: list[messages.Message | Exception | None]) -> dict[str, Any] | None:
        """Does what the messages say; returns what the last one of all says, else None."""
        for kind, same in itertools.groupby(received, _kind):
            if self._stopped.is_set():
                break
            if kind == messages.SLOT:
                self._write_slots([message.header for message in same])  # type: ignore[union-attr]
                continue
            for message in same:
                if message is None:
                    return {}
                if isinstance(message, Exception):
                    raise message
                if kind == messages.DONE:
                    return message.data
                self._handle(message)
                self._inbox.give_back(message)
                self._commit_if_due()
        return None

    def _handle(self, message: messages.Message) -> None:
        file = self._file
        if message.kind == messages.OPEN:
            data = message.data
            self._file = file = RecordingFile(
                data["path"],
                data["overwrite"],
                data["attributes"],
                data["resume"],
                data["durability"],
            )
            self._answer({"ready": True, "opening": file.opening, "committed": file.committed})
        elif file is None:
            raise ValueError(f"expected OPEN first, found {message.kind!r}")
        elif message.kind == messages.LAYOUT:
            data = message.data
            self._layout = BatchLayout.decode(data["layout"])
            if self._shared is not None and data["region"] is not None:
                self._shared.expect(data["region"])
            file.set_layout(self._layout, data["batches"], data.get("meta"))
        elif message.kind == messages.FLUSH:
            file.commit()
            file.sync()
            self._answer({"committed": file.committed, "flushed": message.data["number"]})
        elif message.kind == messages.THIN:
            file.thin(message.data["keep"], lambda: self._tell(file))
            self._answer({"committed": file.committed})
        elif message.kind == messages.PROBES:
            file.set_probes(tuple(message.data["shape"]), message.payload)
        else:
            frame = np.frombuffer(message.payload, schema.FRAME_DTYPE)
            self._write([message.header], frame[None])

    def _tell(self, file: RecordingFile) -> None:
        """Shows that it still works on something that takes its time."""
        file.renew()
        self._answer({})

    def _write_slots(self, headers: list[messages.FrameHeader]) -> None:
        """Writes frames that lie in the shared memory, small ones together."""
        assert self._shared is not None
        size = self._layout.size
        together = max(1, min(_TOGETHER, GROUP // max(1, size)))
        for start in range(0, len(headers), together):
            if self._stopped.is_set():
                break
            some = headers[start : start + together]
            slots = [header.slot for header in some if header.slot is not None]
            self._write(some, self._shared.frames(slots, size))
            self._shared.done(len(slots))
            self._commit_if_due()

    def _write(self, headers: list[messages.FrameHeader], frames: np.ndarray[Any, Any]) -> None:
        assert self._file is not None
        if not self._file.dirty:
            self._due = time.monotonic() + COMMIT_SECONDS
        self._file.write(headers, frames)

    def _commit_if_due(self) -> None:
        file = self._file
        if file is None or not file.dirty or time.monotonic() < self._due:
            return
        file.commit()
        if file.must_sync:
            file.sync()
        file.check_place()
        self._answer({"committed": file.committed})


def _kind(message: messages.Message | Exception | None) -> bytes | None:
    return message.kind if isinstance(message, messages.Message) else None


def main() -> None:
    """Serves the messages on standard input; answers on standard output.

    The arguments, if there are any, are the descriptors of the shared memory and of its bell.
    """
    stopped = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    output = os.fdopen(os.dup(1), "w")

    def answer(data: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # nobody may be left to listen
            output.write(json.dumps(data) + "\n")
            output.flush()

    code = 0
    shared = SharedFramesReader(*map(int, sys.argv[1:])) if len(sys.argv) > 1 else None
    inbox = Inbox(0, None if shared is None else shared.gather)
    service = Service(inbox, answer, stopped, shared)
    try:
        service.run()
        if stopped.is_set():
            answer({"error": "the writer process was told to stop (SIGTERM)"})
    except Exception as error:
        answer({"error": describe(error)})
        code = 1
        service.abandon()
    # After a failed flush HDF5 crashes in its own clean-up at exit; what is committed is on its
    # way to the disk already, and there is nothing else to clean up.
    os._exit(code)


def describe(error: Exception) -> str:
    """An exception in one line; HDF5 hides the errno of a full disk in its text."""
    text = " ".join(str(error).split())
    reason = re.search(r"errno = \d+, error message = '([^']+)'", text)
    if reason is not None:
        words = f"cannot write: {reason.group(1)}"
        # Only where HDF5 has been told to lock whatever is asked of it.
        hint = "; set HDF5_USE_FILE_LOCKING=FALSE" if "lock file" in text else ""
        return words + hint
    if isinstance(error, BusyError):
        return str(error)
    if isinstance(error, FileExistsError) or "file exists" in text.lower():
        return "the file exists"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror} ({error.filename})"
    return f"{type(error).__name__}: {text[:300]}"


if __name__ == "__main__":
    main()
