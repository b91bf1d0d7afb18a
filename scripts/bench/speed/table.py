"""The lines of the benchmarks' table: what was measured, its target, and whether it was met."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))


@dataclass
class Line:
    """A figure; `best` says whether it should be at `most` or at `least` the target."""

    what: str
    value: float | None
    unit: str = ""
    target: float | None = None
    best: str = "most"
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "skipped"
        if self.target is None:
            return ""
        met = self.value <= self.target if self.best == "most" else self.value >= self.target
        return "met" if met else "missed"

    def cells(self) -> list[str]:
        sign = "≤" if self.best == "most" else "≥"
        value = "–" if self.value is None else f"{number(self.value)}{self.unit}"
        target = "" if self.target is None else f"{sign} {number(self.target)}{self.unit}"
        return [self.what, value, target, self.verdict, self.note]


def number(value: float) -> str:
    """Three digits, of what is near 1 as many as the difference needs."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if 0.9 < value < 1.1 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """The middle 80 % of what was measured."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return f"{number(low)}–{number(high)}, {len(values)} pairs"


def ratio(what: str, values: Sequence[float], **more: object) -> Line:
    return Line(what, statistics.median(values), note=spread(values), **more)  # type: ignore[arg-type]


def difference(what: str, values: Sequence[float], **more: object) -> Line:
    """A line of differences between ratios of the same run, of which most are small."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    note = f"{low:+.3f} to {high:+.3f}, {len(values)} pairs"
    value = round(statistics.median(values), 4)
    return Line(what, value, note=note, **more)  # type: ignore[arg-type]


def show(lines: Iterable[Line], command: str) -> bool:
    """Prints the table as it grows; whether no target was missed."""
    print(f"{datetime.date.today()}, `{command}`, {os.cpu_count()} cores, {processor()}\n")
    print("| | measured | target | | |\n|---|---|---|---|---|", flush=True)
    good = True
    for line in lines:
        print(f"| {' | '.join(line.cells())} |", flush=True)
        good = good and line.verdict != "missed"
    return good


def processor() -> str:
    """The processor in words."""
    try:
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def run(lines: object, name: str, words: str) -> int:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--quick", action="store_true", help="shorter, and less certain")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a target is missed")
    options = parser.parse_args()
    command = f"scripts/bench/{name}{' --quick' * options.quick}"
    good = show(lines(options.quick), command)  # type: ignore[operator]
    return 1 if options.strict and not good else 0
