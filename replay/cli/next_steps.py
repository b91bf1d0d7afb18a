"""What each command offers at its end: a next command that works as typed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from replay.cli.console import say
from replay.schema.faces import command, python


def offer(name: str, *words: object) -> None:
    """Writes a command of replay to stderr, after what was printed: `next: mapreel replay ...`.

    Args:
        name: The command.
        *words: What follows it; paths are quoted where they have to be.
    """
    _say_next(command("replay", name, *words))


def offer_after_info(recordings: Sequence[str], frames: bool, closed: bool) -> None:
    """Offers what one does with recordings that one knows now.

    Args:
        recordings: Their paths.
        frames: Whether each has something to show.
        closed: Whether each is finished.
    """
    if not frames:
        return
    if len(recordings) == 2:
        offer("compare", *recordings)
    elif closed:
        offer("animate", recordings[0])
    else:
        offer("watch", recordings[0])


def offer_repair(recording: str) -> None:
    """Offers to copy what is whole of a damaged recording."""
    offer("repair", recording, "-o", beside(recording, "repaired.h5"))


def offer_to_load(exported: Path, recording: str) -> None:
    """Offers a line of Python that loads an array, or, where that takes more, the recording."""
    if exported.suffix.lower() not in (".npz", ".npy"):
        offer("info", recording)
        return
    shown = "['maps'].shape" if exported.suffix.lower() == ".npz" else ".shape"
    code = f"import numpy; print(numpy.load({str(exported)!r}){shown})"
    _say_next(shlex.join([python(), "-c", code]))


def beside(recording: str, ending: str) -> Path:
    """Returns `run-repaired.h5` for `run.h5` and `repaired.h5`, or `run-2-repaired.h5`..., free."""
    from replay.recording.address import read_path  # at the end: help needs no HDF5

    path = read_path(recording)
    found = path.with_name(f"{path.stem}-{ending}")
    number = 2
    while found.exists():
        found = path.with_name(f"{path.stem}-{number}-{ending}")
        number += 1
    return found


def _say_next(words: str) -> None:
    sys.stdout.flush()
    say("next", words)
