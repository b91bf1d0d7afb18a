"""What is said at the end of `record run`: what was recorded and where, or why nothing was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_MOST = 12  # recordings that are named one by one
_TALLY = "MAPREEL_RUN_TALLY"  # a file in which every process of a run notes what it recorded


class Recorded(NamedTuple):
    """A recording that is closed.

    Attributes:
        name: The model's class.
        path: The file.
        batches: That a reader can see.
        layers: In it.
        doubts: Why its epochs may be others than the script's.
    """

    name: str
    path: Path
    batches: int
    layers: int
    doubts: Sequence[str] = ()


def counted(number: int, noun: str) -> str:
    """`1 batch`, `1,234 batches`."""
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def summary(recorded: Sequence[Recorded]) -> list[str]:
    """What was recorded, in lines."""
    there = [one for one in recorded if one.batches]
    lines = [
        f"recorded {counted(one.batches, 'batch')} of {one.name}, "
        f"{counted(one.layers, 'layer')}: {one.path}; python -m replay animate {one.path}"
        for one in there[:_MOST]
    ]
    rest = there[_MOST:]
    if rest:
        names = ", ".join(dict.fromkeys(one.name for one in rest))
        lines.append(
            f"recorded {len(rest):,} more trainings of {names}, in their order: "
            f"{rest[0].path} to {rest[-1].path}"
        )
    doubts: dict[str, list[str]] = {}
    for one in there:
        for doubt in one.doubts:
            doubts.setdefault(doubt, []).append(one.name)
    lines += [
        f"{', '.join(dict.fromkeys(names))}: nothing says where an epoch of these batches ends, "
        f"since {doubt}: they are counted on in one epoch"
        for doubt, names in doubts.items()
    ]
    return lines


class Tally:
    """How many recordings the processes of a run have made, its spawned children among them."""

    def __init__(self, path: str | None = None) -> None:
        self.path = os.environ.get(_TALLY) if path is None else path
        if path is not None:
            os.environ[_TALLY] = path

    def add(self, recordings: int) -> None:
        """This process has made so many."""
        if self.path and recordings:
            with contextlib.suppress(OSError), open(self.path, "a") as file:
                file.write(f"{recordings}\n")

    def total(self) -> int:
        """All of them, of processes that have ended."""
        try:
            with open(self.path or "") as file:
                return sum(int(line) for line in file if line.strip().isdigit())
        except OSError:
            return 0

    def remove(self) -> None:
        """The run is over."""
        if self.path:
            with contextlib.suppress(OSError):
                os.remove(self.path)
