"""The names of the files that a script's models are recorded into."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path

_MAX_NUMBER = 100_000  # of recordings of one class beside each other


class RecordingPaths:
    """Names the recordings of a script.

    The first model is recorded into the file asked for. Others of the same class are numbered from
    2, in the order in which they are found; those of another class have its name.

    Args:
        path: The file asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: collections.Counter[str] = collections.Counter()  # by class, in their order

    def base(self, kind: str) -> Path:
        """Returns the file of the first model of a class.

        Args:
            kind: The class's name.
        """
        if self._counts and kind != next(iter(self._counts)):
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in kind)
            return _with_part(self._path, name)
        return self._path

    def choices(self, kind: str) -> Iterator[Path]:
        """Yields the file of the next model of a class, then those to try where that is taken.

        Args:
            kind: The class's name.
        """
        base = self.base(kind)
        for number in range(self._counts[kind] + 1, _MAX_NUMBER):
            self._counts[kind] = number
            yield base if number == 1 else _with_part(base, str(number))


def _with_part(path: Path, part: str) -> Path:
    """Returns `run.part.h5` for `run.h5`."""
    return path.with_name(f"{path.stem}.{part}{path.suffix}")
