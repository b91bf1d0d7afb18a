"""What is measured of the processes of a soak, and whether it has grown."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

MEMORY = 8.0  # MB that a process may grow by from the first tenth to the last one
FEW = 2  # descriptors or threads: of what is left once for each recorder there would be hundreds
SHARED = 1.0  # MB of memory that training and writer share
PAGE = os.sysconf("SC_PAGE_SIZE")
WARM = 0.05  # of a soak, before anything counts


@dataclass
class Measure:
    """One quantity over a soak.

    Attributes:
        limit: How much it may grow.
        peak: Whether the largest values are compared, else those in the middle.
        seen: How far the soak was, from 0 to 1, and the value.
    """

    limit: float
    peak: bool
    seen: list[tuple[float, float]] = field(default_factory=list)

    def between(self, start: float, end: float) -> float:
        """Returns the value in a part of the soak."""
        values = [value for at, value in self.seen if start <= at <= end]
        if not values:
            return float("nan")
        return max(values) if self.peak else statistics.median(values)

    @property
    def begins(self) -> float:
        return self.between(WARM, WARM + 0.15)

    @property
    def ends(self) -> float:
        return self.between(0.85, 1.0)

    @property
    def good(self) -> bool:
        return self.ends - self.begins <= self.limit  # also wrong where there is no value


class Measures:
    """All that is measured, by what it is of and what it is."""

    def __init__(self) -> None:
        self.by_name: dict[tuple[str, str], Measure] = {}

    def add(self, at: float, who: str, what: str, value: float, limit: float, peak: bool) -> None:
        self.by_name.setdefault((who, what), Measure(limit, peak)).seen.append((at, value))

    def add_process(self, at: float, who: str, pid: int) -> None:
        """Measures a process, unless it has just ended."""
        try:
            status = dict(
                line.split(":", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":" in line
            )
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
            private, shared = (int(status[name].split()[0]) / 1e3 for name in ("VmRSS", "RssShmem"))
        except (OSError, KeyError):
            return
        self.add(at, who, "memory, MB", private - shared, MEMORY, False)
        if who in ("training", "writer"):
            self.add(at, who, "shared memory, MB", shared, SHARED, True)
        self.add(at, who, "descriptors", descriptors, FEW, False)
        self.add(at, who, "threads", int(status["Threads"]), FEW, False)

    def lines(self) -> list[str]:
        form = "{:<12} {:<20} {:>10.1f} {:>10.1f} {:>8.1f}  {}"
        return [
            form.format(who, what, m.begins, m.ends, m.limit, "" if m.good else "GREW")
            for (who, what), m in sorted(self.by_name.items())
        ]

    @property
    def good(self) -> bool:
        return all(measure.good for measure in self.by_name.values())


def writers_of(pid: int) -> list[int]:
    """Returns the writer processes that a training has started, also those not yet waited for."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in children]


def names_in(folder: Path) -> dict[str, int]:
    """Returns the sizes of what lies in a folder, by name."""
    found: dict[str, int] = defaultdict(int)
    for entry in os.scandir(folder):
        try:
            found[entry.name] = entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return found
