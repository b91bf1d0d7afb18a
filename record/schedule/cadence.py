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
    """Decides at which batches something is done: at each one, or at every second, fourth ...

    The first three times are at the first three batches: until then nobody knows what it costs, and
    the first one takes longer than all others. From then on it is done at the batches of each epoch
    whose numbers a power of two divides, the smallest at which its time is at most a share of the
    time that the batches take; and at the last batch of an epoch, if there is time. So two runs of
    a training have it at common batches, and so have two epochs.

        with cadence:
            ...  # where cadence.is_due(epoch, batch)

    Args:
        share: That share.
        clock: Returns the time in seconds; by default `now`.

    Attributes:
        stride: That power of two.
        done: How many times it was done.
    """

    def __init__(self, share: float = SHARE, clock: Callable[[], float] | None = None) -> None:
        self.stride = 1
        self.done = 0
        self._share = share
        self._clock = clock or now
        self._since = 0  # batches since it was last done
        self._at = (-1, 0)  # the epoch and the number of the last batch
        self._first_costs: list[float] = []
        self._spent = 0.0  # seconds, the first times being counted as the shortest of them
        self._passed = 0.0  # seconds between batches, without what it took itself
        self._batches = 0
        self._last: float | None = None  # when the last batch was asked for, or it had been done
        self._begun = 0.0

    def is_due(self, epoch: int, batch: int, ends_epoch: bool = False) -> bool:
        """Whether it is to be done at this batch; asked at its end, of a batch once.

        Args:
            epoch: The epoch.
            batch: The batch's number in it.
            ends_epoch: Whether it is known to be the last one of its epoch.
        """
        time = self._clock()
        if self._last is not None:
            self._passed += time - self._last
            self._batches += 1
        self._last = time
        self._since += 1
        if self._batches and self.done:
            self._choose_stride()
        before, self._at = self._at, (epoch, batch)
        if self.done < _SAMPLES:
            return not self.done or self._since >= self.stride
        # Where batches are passed over, the first one behind a multiple counts for it.
        is_multiple = epoch != before[0] or batch // self.stride != before[1] // self.stride
        if is_multiple and self._since >= self.stride:
            return True
        return (is_multiple or ends_epoch) and self._has_time

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

    @property
    def _has_time(self) -> bool:
        """Whether once more is within the share."""
        return self._spent + self._spent / self.done <= self._share * self._passed

    def _choose_stride(self) -> None:
        if self.done < _SAMPLES and self._first_costs[0] < _SLOW_START:
            return
        step = max(self._passed / self._batches, 1e-9)
        needed = min(self._spent / self.done / (self._share * step), _LONGEST)
        power = 1 << max(0, math.ceil(math.log2(max(needed, 1)) - 0.01))
        if power > self.stride or needed < 0.4 * self.stride:
            self.stride = power
