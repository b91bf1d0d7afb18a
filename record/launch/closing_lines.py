"""The lines at the end of `record run`: what was recorded and where."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from record.protocol.layout import BatchLayout
from record.short_path import short_path
from record.summary import closing_line
from replay.schema.unfinished import unfinished_path

_MAX_LINES = 12  # recordings that are named one by one, where more than one follow
_COUNT_FILE = "MAPREEL_RUN_TALLY"  # names the file of `RecordingCount` to all processes of a run


class ClosedRecording(NamedTuple):
    """A recording that is closed.

    Attributes:
        number: Which recording of its process it is, in the order in which they began, from 0.
        name: The model's class.
        path: The file.
        batches: The number of batches that a reader can see.
        layout: The layers in it.
        lost: The number of frames that were lost.
        no_probe: Why the first image was not shown again, in words; empty where it was.
        doubts: Why its epochs may differ from the script's, in words.
    """

    number: int
    name: str
    path: Path
    batches: int
    layout: BatchLayout
    lost: int = 0
    no_probe: str = ""
    doubts: Sequence[str] = ()


def closing_lines(recordings: Sequence[ClosedRecording]) -> list[str]:
    """Returns the lines that say what was recorded, in the order in which recordings began.

    Args:
        recordings: All recordings of this process; those without a batch are left out.
    """
    found = sorted(
        (recording for recording in recordings if recording.batches),
        key=lambda recording: recording.number,
    )
    named = len(found) if len(found) == _MAX_LINES + 1 else _MAX_LINES
    lines = [
        closing_line(
            recording.path,
            recording.name,
            recording.batches,
            recording.layout,
            recording.lost,
            recording.no_probe,
        )
        for recording in found[:named]
    ]
    rest = found[named:]
    if rest:
        names = ", ".join(dict.fromkeys(recording.name for recording in rest))
        lines.append(
            f"recorded {len(rest):,} more trainings of {names}, in their order: "
            f"{short_path(rest[0].path)} to {short_path(rest[-1].path)}"
        )
    doubts: dict[str, list[str]] = {}
    for recording in found:
        for doubt in recording.doubts:
            doubts.setdefault(doubt, []).append(recording.name)
    doubtful = [
        f"{', '.join(dict.fromkeys(names))}: nothing says where an epoch of these batches ends, "
        f"since {doubt}: they are counted on in one epoch"
        for doubt, names in doubts.items()
    ]
    return doubtful + lines  # the last thing said is what to do next


class RecordingCount:
    """Counts the recordings of all processes of a run, its spawned children among them.

    The count is kept in a file that an environment variable names to the children.

    Args:
        path: The file, in the process that begins the run; None in a child.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = os.environ.get(_COUNT_FILE) if path is None else path
        if path is not None:
            os.environ[_COUNT_FILE] = path

    @classmethod
    def begin(cls) -> RecordingCount:
        """Begins to count; a file that a killed run has left is removed."""
        try:
            return cls(str(unfinished_path(Path(tempfile.gettempdir(), "mapreel"), ".count")))
        except OSError:  # no folder for it: then only this process's recordings are known
            return cls("")

    def begin_one(self, path: Path) -> None:
        """Notes that a child records into a file: it may be ended before it can say so."""
        self._note({"begun": str(path)})

    def add(self, recordings: int, paths: Sequence[Path] = ()) -> None:
        """Adds the recordings of this process, of which it has said what is in them.

        Args:
            recordings: How many have batches.
            paths: Those that `begin_one` may have noted.
        """
        if recordings or paths:
            self._note({"recorded": recordings, "paths": [str(path) for path in paths]})

    def total(self) -> int:
        """Returns the number of recordings of all processes, as far as it is known."""
        recorded: int = sum(note.get("recorded", 0) for note in self._notes())
        return recorded + len(self.untold())

    def untold(self) -> list[str]:
        """Returns the files of children that have not said what they recorded."""
        notes = self._notes()
        told = {path for note in notes for path in note.get("paths", ())}
        return [note["begun"] for note in notes if "begun" in note and note["begun"] not in told]

    def _note(self, note: dict[str, Any]) -> None:
        if self.path:
            with contextlib.suppress(OSError), open(self.path, "a") as file:
                file.write(f"{json.dumps(note)}\n")

    def _notes(self) -> list[dict[str, Any]]:
        try:
            with open(self.path or "") as file:
                return [json.loads(line) for line in file if line.endswith("}\n")]
        except (OSError, ValueError):
            return []

    def remove(self) -> None:
        """Removes the file: the run is over."""
        if self.path:
            with contextlib.suppress(OSError):
                os.remove(self.path)
