"""Aim: metrics and images by step. It has no video: the film is a GIF among the images.

Its pages cannot show HTML: the page is an artifact of the run, kept in the repository unless the
run has a place of its own for artifacts, and a text of each step says where.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from replay.trackers.interface import PAGE, PREFIX, File, Point, RunFacts, Tracker


class Aim(Tracker):
    """A run of Aim.

    Args:
        run: The run.
        own: Whether it was begun for this, and ends with it.
    """

    film_suffix = ".gif"

    def __init__(self, run: Any, own: bool) -> None:
        self._run, self._own = run, own

    @classmethod
    def begin(cls, value: str, about: RunFacts) -> Aim:
        """Begins a run in a repository, which is made if it is not there."""
        run = import_module("aim").Run(
            repo=value or None, system_tracking_interval=None, capture_terminal_logs=False
        )
        run.name = about.name
        run["mapreel"] = dict(about.facts)
        return cls(run, own=True)

    @classmethod
    def attach(cls, run: Any = None) -> Aim | None:
        """Returns a run that was given; Aim has none that is active in a process."""
        return None if run is None else cls(run, own=False)

    def log_points(self, points: Sequence[Point]) -> None:
        """Tracks numbers at their steps."""
        for point in points:
            epoch = int(point.values["epoch"])
            for name, value in point.values.items():
                self._run.track(value, name=PREFIX + name, step=point.step, epoch=epoch)

    def log_file(self, file: File) -> None:
        """Tracks a picture as its bytes are; stores a page as an artifact."""
        if file.kind == PAGE:
            if self._run.artifacts_uri is None:
                folder = Path(self._run.repo.path).absolute() / "mapreel"
                self._run.set_artifacts_uri(folder.as_uri())
            self._run.log_artifact(str(file.path), name=file.path.name, block=True)
            where = f"{self._run.artifacts_uri}/{file.path.name}"
            text: Any = import_module("aim").Text(
                f"The page to scrub and explore the maps: {where}"
            )
            self._run.track(text, name=PREFIX + file.name, step=file.step)
            return
        from PIL import Image

        with Image.open(file.path) as opened:
            first = opened.convert("RGB")
        image: Any = import_module("aim").Image(first, caption=file.caption)
        blob: Any = import_module("aim.storage.types").BLOB
        image.storage["data"] = blob(data=file.path.read_bytes())  # which Aim would encode anew
        image.storage["format"] = file.path.suffix[1:]
        self._run.track(image, name=PREFIX + file.name, step=file.step)

    def close(self) -> str:
        """Ends the run if it was begun for this, and returns its number and the repository."""
        where = f"run {self._run.hash} of {os.path.dirname(self._run.repo.path)}"
        if self._own:
            self._run.close()
        return where
