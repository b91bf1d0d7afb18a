"""Whether a wheel holds what it must: `git ls-files mapreel record replay | wheel_files.py WHEEL`.

A package that pyproject.toml does not list, or a file that is no Python and is not among the
package data, is missing from a wheel without anybody being told.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterable


def missing(wheel: str, expected: Iterable[str]) -> list[str]:
    """Those of the expected files that the wheel does not hold."""
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    return sorted(set(expected) - there)


def main() -> int:
    """Says what is missing, and returns the exit code."""
    expected = sys.stdin.read().splitlines()
    if not expected:
        print("error: expected the names of files on standard input, found none", file=sys.stderr)
        return 2
    lost = missing(sys.argv[1], expected)
    for name in lost:
        print(f"error: {name} is not in the wheel: name it in pyproject.toml", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
