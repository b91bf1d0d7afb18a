"""Whether a file is what a writer has left that was killed before it had committed a frame."""

from __future__ import annotations

import os

from record.writer.copies import open_reading
from replay import schema


def is_unfinished_start(path: str) -> bool:
    """Returns whether a recording was begun and never closed, and holds no frame.

    Until a recording can be read, an empty file keeps its name.

    Args:
        path: The file. Its last writer has ended, as the lock file says that it has left.
    """
    try:
        if os.path.islink(path) or not os.path.isfile(path):
            return False
        if not os.path.getsize(path):
            return True
        with open_reading(path) as file:
            if file.attrs.get("format") != schema.FORMAT or schema.STATE not in file:
                return False
            state = file[schema.STATE][:]
            frames = file.get(f"{schema.BATCHES}/recorded")
            begun = frames is not None and not (frames[:] > 0).any()
            return bool(schema.is_sound_state(state) and not state[0] and not state[3] and begun)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError):
        return False  # whatever it is
