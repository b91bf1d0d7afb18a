"""How many things it pays to do at a time."""

from __future__ import annotations

import contextlib
import os


def cores() -> int:
    """Processor cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
