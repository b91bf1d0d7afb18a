"""The number of an epoch, as a training loop gives it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from record.protocol.messages import LARGEST_NUMBER


def whole_epoch(number: Any, following: int, warn: Callable[[str], None]) -> int:
    """Returns an epoch's number as a whole one.

    Args:
        number: What the training says: also a whole number of numpy, of a tensor, or a float.
        following: What it is counted as where it is none; that is said.
        warn: Says it.
    """
    with contextlib.suppress(Exception):  # whatever it is
        whole = int(number)
        if whole == number and 0 <= whole <= LARGEST_NUMBER:
            return whole
    text = repr(number)[:40]
    warn(f"epoch({text}): expected a whole number from 0; it is counted as epoch {following}")
    return following
