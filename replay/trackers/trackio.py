"""Trackio: Video, Image and Html, local unless `TRACKIO_SPACE_ID` or a server is set."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from replay.trackers.interface import FILM, PAGE, PREFIX, File, Point, RunFacts, Tracker


class Trackio(Tracker):
    """A run of trackio.

    Args:
        run: The run.
        own: Whether it was begun for this, and ends with it.
    """

    def __init__(self, run: Any, own: bool) -> None:
        self._run, self._own = run, own
        self._trackio: Any = import_module("trackio")

    @classmethod
    def begin(cls, value: str, about: RunFacts) -> Trackio:
        """Begins a run in a project; one that is active in this process goes on."""
        trackio: Any = import_module("trackio")
        quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        name, config = about.name, dict(about.facts)
        # An active run is ended first where trackio finds one, which it does not in a new context.
        run = contextvars.Context().run(
            trackio.init, project=value, name=name, config=config, **quiet
        )
        return cls(run, own=True)

    @classmethod
    def attach(cls, run: Any = None) -> Trackio | None:
        """Returns the run that is active in this process, if there is one."""
        found = import_module("trackio.context_vars").current_run.get() if run is None else run
        return None if found is None else cls(found, own=False)

    def log_points(self, points: Sequence[Point]) -> None:
        """Logs numbers at their steps."""
        for point in points:
            named = {PREFIX + name: value for name, value in point.values.items()}
            self._run.log(named, step=point.step)

    def log_file(self, file: File) -> None:
        """Logs a film as a Video, a sheet as an Image, a page as Html, their bytes as they are."""
        path, caption = str(file.path), file.caption or None
        made: Any
        if file.kind == FILM:
            made = self._trackio.Video(path, caption=caption)
        elif file.kind == PAGE:
            made = self._trackio.Html(path, inject=False)
        else:
            made = self._trackio.Image(path, caption=caption)
        self._run.log({PREFIX + file.name: made}, step=file.step)

    def close(self) -> str:
        """Ends the run if it was begun for this, and returns its project and name."""
        where = f"run {self._run.name} of {self._run.project}; 'trackio show' opens it"
        if self._own:
            self._run.finish()
        return where
