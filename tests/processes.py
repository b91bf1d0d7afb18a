"""What the system tells of processes: the writers of a training, and the memory that they share."""

from __future__ import annotations

import os
from pathlib import Path


def writers_of(training: int) -> list[int]:
    """Returns the process ids of the writers that a training has started and that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if int(parent) == training and state != "Z" and b"\0record.writer\0" in command:
            found.append(int(folder.name))
    return found


def shared_memory() -> dict[int, os.stat_result]:
    """Returns what the system knows of the memory that this process shares, by its number."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            name, about = os.readlink(link), link.stat()
        except OSError:  # the one that the folder was read by
            continue
        if name.startswith("/memfd:mapreel "):  # which each mapping of it holds open once more
            found[about.st_ino] = about
    return found
