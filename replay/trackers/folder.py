"""A folder: the files side by side, the numbers as CSV, for what takes files.

`read` gives back what was put into it, for a run that is active in another process.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay.output import replacing
from replay.schema import FileError, OptionError
from replay.trackers.interface import File, Point, RunFacts, Tracker

_LIST, _NUMBERS = "pushed.json", "scalars.csv"
_COLUMNS = ("step", "time")


class Folder(Tracker):
    """A folder with `film.mp4`, `sheet.png`, `page.html`, `scalars.csv` and a list of them.

    Args:
        path: The folder, which is made if it is not there.
    """

    def __init__(self, path: Path, about: RunFacts) -> None:
        self._path, self._points = path, list[Point]()
        self._list: dict[str, Any] = {"name": about.name, "run": dict(about.facts), "files": {}}

    @classmethod
    def begin(cls, value: str, about: RunFacts) -> Folder:
        """Makes the folder."""
        path = Path(value)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"folder={value}: {error.strerror or error}") from error
        return cls(path, about)

    def log_points(self, points: Sequence[Point]) -> None:
        """Writes all numbers so far."""
        self._points += points
        names = list(dict.fromkeys(name for point in self._points for name in point.values))
        with (
            replacing(self._path / _NUMBERS) as unfinished,
            unfinished.open("w", newline="", encoding="utf-8") as file,
        ):
            rows = csv.writer(file)
            rows.writerow([*_COLUMNS, *names])
            for point in self._points:
                values = (point.values.get(name, "") for name in names)
                rows.writerow([point.step, "" if point.time is None else point.time, *values])

    def log_file(self, file: File) -> None:
        """Copies a file."""
        with replacing(self._path / file.path.name) as unfinished:
            shutil.copyfile(file.path, unfinished)
        self._list["files"][file.name] = {
            "file": file.path.name,
            "kind": file.kind,
            "step": file.step,
            "caption": file.caption,
        }

    def close(self) -> str:
        """Writes the list."""
        text = json.dumps(self._list, indent=2, default=str)
        with replacing(self._path / _LIST) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
        return str(self._path)


def read(path: Path) -> tuple[list[Point], list[File]]:
    """Returns the numbers and the files that were put into a folder.

    Raises:
        FileError: There is no whole list of them.
    """
    try:
        listed = json.loads((path / _LIST).read_text(encoding="utf-8"))["files"]
        files = [
            File(about["kind"], name, path / about["file"], about["step"], about["caption"])
            for name, about in listed.items()
        ]
        points = []
        if (path / _NUMBERS).exists():
            with (path / _NUMBERS).open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    step, time = (row.pop(column) for column in _COLUMNS)
                    values = {name: float(value) for name, value in row.items() if value}
                    points.append(Point(int(step), float(time) if time else None, values))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"nothing was pushed into {path}: {error}") from error
    return points, files
