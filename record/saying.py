"""What is said on stderr beside the output of somebody's script."""

from __future__ import annotations

import contextlib
import sys


def say(text: str) -> None:
    """One line on stderr, marked as ours."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed by the script
        sys.stderr.write(f"mapreel: {text}\n")  # in one: several processes may speak at once
        sys.stderr.flush()
