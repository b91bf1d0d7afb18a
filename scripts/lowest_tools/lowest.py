"""Prints constraints: the lowest versions of the dependencies, and what they are pinned to beside.

The arguments are pyproject.toml, and constraints of which those are kept that are no dependency's.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_REQUIREMENT = re.compile(r'\s*"?([A-Za-z0-9-]+)\s*>=\s*([\d.]+)')


def lowest(pyproject: str) -> dict[str, str]:
    """The dependencies of a project, with the lowest version of each that is allowed."""
    listed = pyproject.split("\ndependencies = [\n", 1)[1].split("\n]\n", 1)[0]
    found = {}
    for line in listed.splitlines():
        if (match := _REQUIREMENT.match(line)) is not None:
            found[match[1].lower()] = match[2]
    return found


def constraints(pyproject: str, pinned: str) -> list[str]:
    """A line for each."""
    versions = lowest(pyproject)
    lines = [
        f"{name}=={version if '.' in version else version + '.0'}.*"
        for name, version in versions.items()
    ]
    kept = (line for line in pinned.splitlines() if line and not line.startswith("#"))
    return lines + [line for line in kept if line.partition("==")[0].lower() not in versions]


if __name__ == "__main__":
    print("\n".join(constraints(*(Path(name).read_text() for name in sys.argv[1:3]))))
