"""Runs the process that owns the file: `python -m record.writer`. Imports no torch.

`record.transport.writer_process` starts it. It ignores Ctrl-C and takes the end of its input as
"close the file", so that a training process killed with SIGKILL still leaves a cleanly closed
recording.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
from typing import Any

from record.locking.lock import BusyError
from record.protocol.shared_memory import SharedFramesReader
from record.writer.inbox import Inbox
from record.writer.service import Service


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
        answer({"error": describe_failure(error)})
        code = 1
        service.abandon()
    # After a failed flush HDF5 crashes in its own clean-up at exit; what is committed is on its
    # way to the disk already, and there is nothing else to clean up.
    os._exit(code)


def describe_failure(error: Exception) -> str:
    """Returns an exception in one line; HDF5 hides the errno of a full disk in its text."""
    text = " ".join(str(error).split())
    reason = re.search(r"errno = \d+, error message = '([^']+)'", text)
    if reason is not None:
        words = f"cannot write: {reason.group(1)}"
        # Only where HDF5 has been told to lock whatever is asked of it.
        hint = "; set HDF5_USE_FILE_LOCKING=FALSE" if "lock file" in text else ""
        return words + hint
    if isinstance(error, BusyError) or text.startswith("cannot resume"):
        return text
    if isinstance(error, FileExistsError) or "file exists" in text.lower():
        return "the file exists"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror} ({error.filename})"
    return f"{type(error).__name__}: {text[:300]}"


if __name__ == "__main__":
    main()
