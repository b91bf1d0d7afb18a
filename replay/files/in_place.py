"""Packs a recording in its own place, as a process of its own: `python -m replay.files.in_place`.

This is what a recorder starts when a run has ended. It gives way to everything else on the
machine, says nothing, and puts the packed file in the recording's place only when that is whole,
verified, and nobody has touched the recording meanwhile. However it ends before that, the recording
is as it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

from replay.files.packing import pack
from replay.files.verification import verify
from replay.recording import open_recording
from replay.schema import RecordingError
from replay.schema.unfinished import unfinished_path

_NICENESS = 15  # of 19: whatever else there is to do comes first


def pack_in_place(path: Path) -> bool:
    """Packs a finished recording with nothing lost.

    Args:
        path: The recording.

    Returns:
        Whether it is packed now; not where it is being written, or would hardly be smaller.

    Raises:
        RecordingError: It cannot be read, or there is no room.
    """
    before = _trace(path)
    with open_recording(path) as run:
        if not run.closed or not run.frames:
            return False
    small = unfinished_path(path)
    try:
        result = pack(path, small)
        sound = not result.damaged and not result.unreadable and verify(small)
        if not sound or result.ratio < 1 or _trace(path) != before:
            return False
        shutil.copymode(path, small)
        os.replace(small, path)
    finally:
        small.unlink(missing_ok=True)
    return True


def _trace(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def main() -> int:
    """Packs the recording that the command line names."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which leaves nothing behind
    with contextlib.suppress(OSError, AttributeError):  # not on every system
        os.nice(_NICENESS)
    try:
        return 0 if pack_in_place(Path(sys.argv[1])) else 1
    except (RecordingError, OSError):
        return 1


if __name__ == "__main__":
    sys.exit(main())
