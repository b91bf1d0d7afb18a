"""Weights & Biases: Video, Image and Html, online or offline as `WANDB_MODE` says."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from replay.trackers.interface import FILM, PAGE, PREFIX, File, Point, RunFacts, Tracker

_STEP = f"{PREFIX}step"


class Wandb(Tracker):
    """A run of wandb.

    Args:
        run: The run.
        own: Whether it was begun for this, and ends with it.
    """

    def __init__(self, run: Any, own: bool) -> None:
        self._run, self._own, self._reached = run, own, 0
        self._wandb: Any = import_module("wandb")
        if own:
            run.define_metric(_STEP)
            run.define_metric(f"{PREFIX}*", step_metric=_STEP)

    @classmethod
    def begin(cls, value: str, about: RunFacts) -> Wandb:
        """Begins a run in a project, `PROJECT` or `ENTITY/PROJECT`."""
        wandb: Any = import_module("wandb")
        entity, _, project = value.rpartition("/")
        run = wandb.init(
            project=project or None,
            entity=entity or None,
            name=about.name,
            config=dict(about.facts),
            reinit="create_new",
            settings=wandb.Settings(console="off", quiet=True, disable_git=True, save_code=False),
        )
        return cls(run, own=True)

    @classmethod
    def attach(cls, run: Any = None) -> Wandb | None:
        """Returns the run that is active in this process, if there is one."""
        found = import_module("wandb").run if run is None else run
        return None if found is None else cls(found, own=False)

    def log_points(self, points: Sequence[Point]) -> None:
        """Logs numbers at their steps.

        A run of somebody else has steps of its own, which only go forward: there the numbers are a
        table, which does not move them.
        """
        if self._own:
            for point in points:
                named = {PREFIX + name: value for name, value in point.values.items()}
                self._log(named, point.step)
        elif points:
            names = list(dict.fromkeys(name for point in points for name in point.values))
            rows = [[point.step, *map(point.values.get, names)] for point in points]
            table = self._wandb.Table(columns=["step", *names], data=rows)
            self._run.log({f"{PREFIX}scalars": table}, commit=False)

    def log_file(self, file: File) -> None:
        """Logs a film as a Video, a sheet as an Image, a page as Html, their bytes as they are."""
        path, caption = str(file.path), file.caption or None
        made: Any
        if file.kind == FILM:
            made = self._wandb.Video(path, caption=caption, format=file.path.suffix[1:])
        elif file.kind == PAGE:
            made = self._wandb.Html(path, inject=False)
        else:
            made = self._wandb.Image(path, caption=caption)
        logged = {PREFIX + file.name: made}
        if self._own:
            self._log(logged, file.step)
        else:
            self._run.log(logged, commit=False)

    def _log(self, values: dict[str, Any], step: int) -> None:
        """Logs at a step; at the last one where that is later, since wandb never goes back."""
        self._reached = max(self._reached, step)
        self._run.log({**values, _STEP: step}, step=self._reached)

    def close(self) -> str:
        """Ends the run if it was begun for this, and returns its address or its folder."""
        folder = str(self._run.dir).removesuffix("/files")
        where = f"{folder}; 'wandb sync {folder}' uploads it"
        where = where if self._run.offline else str(self._run.url)
        if self._own:
            self._run.finish()
        return where
