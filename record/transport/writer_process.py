"""The writer process as the training sees it: its start, its answers and its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from record.locking import own_recordings
from record.protocol.shared_memory import SharedFrames
from replay.schema import OutputError, RecordingError
from replay.schema.faces import refuse_existing

START_SECONDS = 120.0  # for the writer's first answer: a cold network file system is slow
_END_SECONDS = 5.0  # for its end, when the training is interrupted before it began
_PIPE_BYTES = 1 << 20


class WriterProcess:
    """A writer that has been started, and what it answers.

    Raises:
        RecordingError: The writer could not be started.

    Attributes:
        pid: Its process number.
        memory: The memory that it shares with the training; None where the system has no such
            memory, and once it is given back.
        descriptor: The end of the pipe into which messages are written.
        capacity: Bytes that the pipe holds; 0 where that is not known.
        committed: The number of frames in the file that it has made readable.
        acknowledged: The number of frames of this training that it has ever made readable.
        flushed: The number of the last request to flush that it has done.
        opening: What the file held at the start: frames, the last one's step and epoch.
        finished: Set once it has given its last answer.
        is_ready: Whether it has opened the file.
        failure: Why it no longer takes frames, or None.
        refused: The number of frames of this training that have no place in a file.
        moved: What is to be said of frames that were not written where they should have been:
            epoch, batch, the epoch as which they were written, and why.
        last_progress: When it last moved, in seconds of `time.monotonic`.
        is_stalled: Whether it was said that it stands still, and it has not moved since.
    """

    def __init__(self) -> None:
        self.committed = self.acknowledged = 0
        self.flushed = 0
        self.opening: dict[str, int] = {}
        self.finished = threading.Event()
        self.is_ready = False
        self.failure: str | None = None
        self.refused = 0
        self.moved: list[tuple[int, int, int, str]] = []
        self.last_progress = time.monotonic()
        self.is_stalled = False
        self._ready = threading.Event()
        self.memory = _shared_frames()
        self._process = self._start()
        self.pid = self._process.pid
        own_recordings.add_writer(self.pid)
        assert self._process.stdin is not None
        self.descriptor = self._process.stdin.fileno()
        self.capacity = _widen(self.descriptor)

    def listen(self) -> None:
        """Begins to take in its answers, in a thread."""
        self._listener = threading.Thread(target=self._listen, name="mapreel-answers", daemon=True)
        self._listener.start()

    def fail(self, reason: str) -> None:
        """Notes why it no longer takes frames; only the first reason counts."""
        if self.failure is None:
            self.failure = reason

    def await_ready(self) -> bool:
        """Waits until the writer has opened the file.

        Where the waiting is interrupted the writer is ended: nobody will ever send it anything,
        and it would keep others from the file.

        Returns:
            Whether it has.
        """
        deadline = time.monotonic() + START_SECONDS
        try:
            while not self._ready.wait(timeout=0.05):
                if self.finished.is_set() or time.monotonic() > deadline:
                    break
        except BaseException:
            self._end()
            raise
        return self._ready.is_set()

    def end_input(self) -> None:
        """Closes the pipe, which tells the writer to close the file."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self, seconds: float) -> None:
        """Waits until the writer has ended, for so many seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=seconds)

    def _end(self) -> None:
        """Has the writer close the file and end."""
        with contextlib.suppress(OSError):
            self._process.terminate()
        self.wait(_END_SECONDS)
        if self._process.poll() is None:
            self.kill()
        self.finished.wait(timeout=1.0)

    def kill(self) -> None:
        """Kills the writer."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()

    def let_go(self) -> None:
        """Closes what is left of the writer, once nobody else uses it."""
        self._listener.join(timeout=1.0)
        if self._errors is not None:
            self._errors.close()
        if self.memory is not None:
            self.memory.close()
            self.memory = None
        if self._process.stdout is not None and not self._listener.is_alive():
            self._process.stdout.close()

    def disown(self) -> None:
        """Lets go of the writer in a forked child: the process and the pipe are the parent's."""
        with contextlib.suppress(OSError, ValueError):
            self.end_input()
        self._process.returncode = 0  # not this process's child: nothing to wait for

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts the process.

        Raises:
            RecordingError: It could not be started.
        """
        root = Path(__file__).resolve().parents[2]
        self._errors: IO[bytes] | None = None  # without a folder for it, nobody hears of errors
        with contextlib.suppress(OSError):
            self._errors = tempfile.TemporaryFile()
        memory = () if self.memory is None else self.memory.descriptors
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "record.writer", *map(str, memory)],
                pass_fds=memory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if self._errors is None else self._errors,
                # HDF5 asks for no lock then, whatever the file system and its own version.
                env={**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"},
                cwd=root,  # `-m` looks there first: no record.py of the user's comes in between
                bufsize=0,
                start_new_session=True,  # a terminal's Ctrl-C and hang-up are for the training
            )
        except OSError as error:
            for kept in (self.memory, self._errors):
                if kept is not None:
                    kept.close()
            raise RecordingError(f"cannot start the writer process: {error}") from error

    def _listen(self) -> None:
        """Takes in the writer's answers until it ends; runs in the thread."""
        assert self._process.stdout is not None
        closed = False
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                answer = json.loads(line)
                self.last_progress = time.monotonic()
                self.is_stalled = False
                self.committed = answer.get("committed", self.committed)
                self.acknowledged = answer.get("acknowledged", self.acknowledged)
                closed = closed or answer.get("closed", False)
                self.refused = answer.get("refused", self.refused)
                if "moved" in answer:
                    epoch, batch, row, reason = answer["moved"]
                    self.moved.append((epoch, batch, row, reason))
                if "error" in answer:
                    self.fail(answer["error"])
                self.opening = answer.get("opening", self.opening)
                self.flushed = answer.get("flushed", self.flushed)
                if answer.get("ready"):
                    self.is_ready = True
                    self._ready.set()
        if not closed:
            self.fail(self._why_ended())
        own_recordings.remove_writer(self.pid)
        self.finished.set()

    def _why_ended(self) -> str:
        """Returns why the writer ended: what it said on stderr last, or its exit code."""
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            code = self._process.wait(timeout=1.0)
            if self._errors is not None:
                self._errors.seek(0)
                if said := last_words(self._errors.read().decode("utf-8", "replace")):
                    return said
            return f"the writer process ended (exit code {code})"
        return "the writer process ended"


def last_words(said: str) -> str:
    """Returns why a writer has ended, from what it said on stderr; empty where it said nothing.

    That may be all that HDF5 prints where it crashes: then the system's words in it.
    """
    if told := re.search(r"error message = '([^']+)'", said):
        return f"cannot write: {told[1]}"
    return (said.strip().splitlines() or [""])[-1]


def refusal(path: Path, reason: str) -> OutputError:
    """Returns what to raise where the writer could not open the file.

    Args:
        path: The recording.
        reason: What the writer said.
    """
    if reason == "the file exists":
        return OutputError(refuse_existing(path))
    if reason.startswith("another process"):
        try:
            own_recordings.check_own(path)
        except OutputError as error:
            return error
        return OutputError(f"{path}: {reason}; choose another name, or end the other")
    if reason.startswith("cannot resume"):
        return OutputError(f"{path}: {reason}")
    return OutputError(f"cannot create {path}: {reason}")


def _shared_frames() -> SharedFrames | None:
    """Returns memory to share with the writer; None where the system has none."""
    with contextlib.suppress(OSError):
        return SharedFrames()
    return None


def _widen(descriptor: int) -> int:
    """Makes a pipe hold more, where that is possible.

    Returns:
        How many bytes it holds; 0 where that is not known.
    """
    capacity = 0
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import fcntl

        with contextlib.suppress(OSError):  # a user may have only so much of it
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        capacity = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return capacity
