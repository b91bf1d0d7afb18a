"""Serves the messages of one training: opens the file, writes and commits frames, closes it."""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.protocol.shared_memory import SharedFramesReader
from record.writer.inbox import Inbox, Received
from record.writer.recording_file import RecordingFile
from record.writer.summaries import GROUP
from replay import schema

_COMMIT_SECONDS = 0.5
_TOGETHER = 16  # small frames, so that the others of a full queue are free before these are written
_PARENT_SECONDS = 0.5  # how often to look whether the training process is still there


class Service:
    """Writes what arrives until DONE, the end of the pipe or the end of the training process.

    Args:
        inbox: The messages.
        answer: Called with each answer, a JSON-ready dict.
        stopped: Once it is set, the file is closed with what has arrived.
        shared: The memory of frames that do not come through the pipe; None without any.
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
        self._held: messages.FrameHeader | None = None  # of a batch that the training still has
        self._next_commit = time.monotonic()
        self._said: set[str] = set()  # why frames were not written where they should have been

    def run(self) -> None:
        """Serves to the end, and closes the file."""
        parent = os.getppid()
        final: dict[str, Any] | None = None
        while final is None and not self._stopped.is_set():
            wait = _PARENT_SECONDS
            if self._file is not None and self._file.dirty:
                wait = max(0.0, min(wait, self._next_commit - time.monotonic()))
            try:
                final = self._handle_all(self._inbox.get(timeout=wait))
            except queue.Empty:
                if os.getppid() != parent:  # it died, and a forked child holds its end of the pipe
                    break
            self._commit_if_due()
            if self._file is not None:
                self._file.renew_lock()
        if self._file is not None:
            ended = final or {}
            if self._held is not None and not ended:
                self._write_slots([self._held])
            self._file.check_place()
            self._file.close(ended.get("dropped"), ended.get("lost"))
            self._answer({**_counts(self._file), "closed": True})

    def abandon(self) -> None:
        """Leaves the file readable after a failure."""
        if self._file is not None:
            self._file.abandon()

    def _handle_all(self, received: Received) -> dict[str, Any] | None:
        """Does what some messages say.

        Returns:
            The data of the last message of all, once it is among them; else None.
        """
        for kind, same in itertools.groupby(received, _kind):
            if self._stopped.is_set():
                break
            if kind not in (messages.FLUSH, None):  # it is among these, or has other memory
                self._held = None
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
        """Does what one message says, which is neither SLOT nor DONE.

        Raises:
            ValueError: The first message was not OPEN.
        """
        file = self._file
        if message.kind == messages.OPEN:
            data = message.data
            self._file = file = RecordingFile(
                data["path"],
                data["overwrite"],
                data["attributes"],
                data["resume"],
                data["durability"],
                self._say_moved,
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
        elif message.kind == messages.HELD:
            self._held = message.header
        elif message.kind == messages.FLUSH:
            file.commit()
            file.sync()
            self._answer({**_counts(file), "flushed": message.data["number"]})
        elif message.kind == messages.THIN:
            file.commit()
            self._answer(_counts(file))  # which stay so where there is no room for a copy
            file.thin(message.data["keep"], lambda: self._show_progress(file))
            self._answer(_counts(file))
        elif message.kind == messages.PROBES:
            data = message.data
            file.set_probes(tuple(data["shape"]), message.payload, data.get("labels", ()))
        else:
            frame = np.frombuffer(message.payload, schema.FRAME_DTYPE)
            self._write([message.header], frame[None])

    def _say_moved(self, epoch: int, batch: int, row: int, reason: str) -> None:
        """Says, once for each reason, that a frame was not written where it should have been."""
        if reason not in self._said:
            self._said.add(reason)
            self._answer({"moved": [epoch, batch, row, reason]})

    def _show_progress(self, file: RecordingFile) -> None:
        """Shows the training and other writers that this one still works on something long."""
        file.renew_lock()
        self._answer({})

    def _write_slots(self, headers: list[messages.FrameHeader]) -> None:
        """Writes frames that lie in the shared memory, small ones together."""
        assert self._shared is not None
        size = self._layout.size
        together = max(1, min(_TOGETHER, GROUP // max(1, size)))
        for start in range(0, len(headers), together):
            if self._stopped.is_set():
                break
            group = headers[start : start + together]
            slots = [header.slot for header in group if header.slot is not None]
            self._write(group, self._shared.frames(slots, size))
            self._shared.done(len(slots))
            self._commit_if_due()

    def _write(self, headers: list[messages.FrameHeader], frames: npt.NDArray[np.float16]) -> None:
        """Writes frames, float16 (len(headers), size), and sets when they are to be committed."""
        assert self._file is not None
        if not self._file.dirty:
            self._next_commit = time.monotonic() + _COMMIT_SECONDS
        refused = self._file.cells.refused
        self._file.write(headers, frames)
        if self._file.cells.refused > refused:
            self._answer(_counts(self._file))

    def _commit_if_due(self) -> None:
        """Commits what was written, if that is due."""
        file = self._file
        if file is None or not file.dirty or time.monotonic() < self._next_commit:
            return
        file.commit()
        if file.must_sync:
            file.sync()
        file.check_place()
        self._answer(_counts(file))


def _counts(file: RecordingFile) -> dict[str, Any]:
    """Returns how many frames a reader may see, were ever committed, and had no place."""
    counts = {"committed": file.committed, "acknowledged": file.acknowledged}
    return {**counts, "refused": file.cells.refused} if file.cells.refused else counts


def _kind(message: messages.Message | Exception | None) -> bytes | None:
    """Returns a message's kind; None for the end and for an error."""
    return message.kind if isinstance(message, messages.Message) else None
