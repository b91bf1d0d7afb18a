"""How often something is done whose time must stay a small share of the run's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

SHARE = 0.02  # of the run's time
_SAMPLES = 3
_SLOW_START = 1.0  # seconds: a first time that takes longer is not repeated at once
_LONGEST = 1 << 20


def now() -> float:
    """Returns the time in seconds, of which only differences mean something."""
    return time.perf_counter()


class Cadence:
    """Decides at which batches something is done: at each one, or at every second, third ...

    The first three times are at the first three batches: until then nobody knows what it costs, and
    the first one takes longer than all others. From then on it is done at every `stride`-th batch,
    for the smallest stride at which its time is at most a share of the time that the batches take.
    The stride changes only where it is too small, or more than twice as large as it must be, so
    that the batches at which it is done are regular.

        with cadence:
            ...  # where cadence.is_due()

    Args:
        share: That share.
        clock: Returns the time in seconds; by default `now`.

    Attributes:
        stride: At every how manieth batch it is done.
        done: How many times it was done.
    """

    def __init__(self, share: float = SHARE, clock: Callable[[], float] | None = None) -> None:
        self.stride = 1
        self.done = 0
        self._share = share
        self._clock = clock or now
        self._since = 0  # batches since it was last done
        self._first_costs: list[float] = []
        self._spent = 0.0  # seconds, the first times being counted as the shortest of them
        self._passed = 0.0  # seconds between batches, without what it took itself
        self._batches = 0
        self._last: float | None = None  # when the last batch was asked for, or it had been done
        self._begun = 0.0

    def is_due(self, ends_epoch: bool = False) -> bool:
        """Whether it is to be done at this batch; asked once for each, at its end.

        Args:
            ends_epoch: Whether the batch is the last one of its epoch, at which it is done before
                its time, if the share allows it.
        """
        now = self._clock()
        if self._last is not None:
            self._passed += now - self._last
            self._batches += 1
        self._last = now
        self._since += 1
        if self._batches and self.done:
            self._choose_stride()
        if ends_epoch and self.done >= _SAMPLES:
            once_more = self._spent + self._spent / self.done
            if once_more <= self._share * self._passed:
                return True
        return not self.done or self._since >= self.stride

    def __enter__(self) -> None:
        """Notes that it begins now."""
        self._begun = self._clock()

    def __exit__(self, *error: Any) -> None:
        """Notes that it has ended."""
        self._last = self._clock()
        cost = self._last - self._begun
        self.done += 1
        self._since = 0
        if self.done <= _SAMPLES:
            self._first_costs.append(cost)
            self._spent = min(self._first_costs) * self.done
        else:
            self._spent += cost

    def _choose_stride(self) -> None:
        if self.done < _SAMPLES and self._first_costs[0] < _SLOW_START:
            return
        step = max(self._passed / self._batches, 1e-9)
        needed = self._spent / self.done / (self._share * step)
        whole = max(1, math.ceil(min(needed, _LONGEST) - 0.01))
        if whole > self.stride or 2 * whole < self.stride:
            self.stride = whole
