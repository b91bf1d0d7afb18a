"""Processes of this machine that render ranges of a film.

Each writes a line for every frame, then an empty line, then what became of its job.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from replay.jobs import Done, Job, render_job
from replay.schema import EncodeError, RecordingError


class Processes:
    """Starts a process for each job; none of them imports the caller's script.

    Args:
        total: Frames in all.
        progress: Called with (frames done, frames in all) after each.
    """

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._total, self._progress = total, progress
        self._lock = threading.Lock()
        self._done = 0
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends those that are still at work: something has gone wrong."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.kill()

    def run(self, job: Job) -> Done:
        """Renders a range of frames in a new process."""
        with tempfile.TemporaryFile() as messages:
            process = self._start(messages)
            assert process.stdin is not None
            assert process.stdout is not None
            with process:
                with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                    pipe.write(pickle.dumps(job))
                for line in process.stdout:
                    if line == b"\n":
                        break
                    self._count()
                answer = process.stdout.read()
            with self._lock:
                self._running.discard(process)
            messages.seek(0)
            words = messages.read().decode("utf-8", "replace").strip().splitlines()
        try:
            result = pickle.loads(answer)
        except Exception:
            reason = words[-1] if words else f"exit code {process.returncode}"
            raise EncodeError(f"a rendering process failed: {reason}") from None
        if isinstance(result, RecordingError):
            raise result
        assert isinstance(result, Done)
        return result

    def _start(self, messages: IO[bytes]) -> subprocess.Popen[bytes]:
        root = Path(__file__).resolve().parent.parent
        with self._lock:
            if self._ended:
                raise EncodeError("given up")
            process = subprocess.Popen(
                [sys.executable, "-m", "replay.processes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                cwd=root,
            )
            self._running.add(process)
        return process

    def _count(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None and not self._ended:
                self._progress(self._done, self._total)


def _serve() -> None:
    out = sys.stdout.buffer

    def tell(done: int) -> None:
        out.write(b"%d\n" % done)
        out.flush()

    job = pickle.loads(sys.stdin.buffer.read())
    result: Done | RecordingError
    try:
        result = render_job(job, tell)
    except RecordingError as error:
        result = error
    out.write(b"\n" + pickle.dumps(result))


if __name__ == "__main__":
    _serve()
