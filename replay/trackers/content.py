"""What is pushed of a recording: its film, its sheet and its page, made into a folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replay.figures.contact_sheet import sheet
from replay.idle_options import check_given, idle_for_format
from replay.maps.selection import choose_cells
from replay.option_values import either
from replay.recording import Recording
from replay.rendering.animation import animate
from replay.schema import OptionError, RecordingError
from replay.schema.faces import spell
from replay.schema.suggestions import did_you_mean
from replay.trackers.interface import FILM, PAGE, SCALARS, SHEET, File
from replay.trackers.scalars import step_of
from replay.webpage.document import page

# What each takes otherwise than the others, or cannot be asked for.
_OWN = {"recording", "out", "overwrite", "progress", "alt", "poster", "preset", "executor", "jobs"}
_ALIASES = {"epoch": "epochs", "batch": "batches", "layer": "layers"}
_SHEET_ONLY = {"rows"}  # its `width` and `columns` are those of a sheet of paper, not of a film


def _taken(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - _OWN - set(_ALIASES)


_OF_FILM = _taken(animate)
_OF_PAGE = _taken(page) - {"max_mb"}
_OF_SHEET = (_taken(sheet) & _OF_FILM) - {"batches", "columns", "layers"} | _SHEET_ONLY
KNOWN = _OF_FILM | _SHEET_ONLY
"""The options that may be given: those of the film, and of the sheet where it has others."""


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options, each under the first of its names.

    Raises:
        OptionError: One of them is not known, was given under two names, or changes nothing of the
            view that is asked for.
    """
    found = {name: value for name, value in options.items() if name not in _ALIASES}
    for name in found:
        if name not in KNOWN:
            meant = did_you_mean(name, KNOWN | set(_ALIASES))
            raise OptionError(f"push: no option {name!r} of a film, a sheet or a page{meant}")
    check_given({"view": "maps", **options})
    for alias in _ALIASES.keys() & options.keys():
        name = _ALIASES[alias]
        found[name] = either(name, found.get(name), alias, options[alias])
    return found


@dataclass
class Content:
    """Makes the files of a recording as it is now, each once.

    Attributes:
        recording: The recording; more may be committed later.
        folder: Where the files go.
        options: Those of `animate`, `sheet` and `page`, by name.
        progress: Called with (frames done, frames in all) of the film.
        last_epoch: The last epoch that is shown; None for all that were asked for.
        remarks: What a reader should know, a line each.
    """

    recording: Recording
    folder: Path
    options: Mapping[str, Any]
    progress: Callable[[int, int], None] | None = None
    last_epoch: int | None = None
    remarks: list[str] = field(default_factory=list)
    _made: dict[str, list[File]] = field(default_factory=dict)

    def files(self, kinds: Sequence[str], film_suffix: str) -> list[File]:
        """Returns the files of some kinds.

        What cannot be made is left out, and is a remark.

        Args:
            kinds: Of `film`, `sheet` and `page`; others are passed over.
            film_suffix: The format of the film.

        Raises:
            RecordingError: None of them can be made.
        """
        found: list[File] = []
        problems: list[RecordingError] = []
        makers = {FILM: self._film, SHEET: self._sheet, PAGE: self._page}
        for kind in kinds:
            if kind == SCALARS:
                continue
            key = kind + (film_suffix if kind == FILM else "")
            try:
                if key not in self._made:
                    self._made[key] = makers[kind](film_suffix)
                found += self._made[key]
            except RecordingError as problem:
                problems.append(problem)
                self._remark(f"no {kind}: {problem}")
        if problems and not found:
            raise problems[0]
        return found

    def forget(self, last_epoch: int | None) -> None:
        """Forgets what was made: there are more frames now, up to an epoch."""
        self._made.clear()
        self.last_epoch = last_epoch

    def _chosen(self, names: set[str]) -> dict[str, Any]:
        chosen = {name: value for name, value in self.options.items() if name in names}
        if chosen.get("layers", "") is None:
            del chosen["layers"]  # each has a default of its own
        if self.last_epoch is not None and chosen.get("epochs") is None:
            chosen["epochs"] = f"0:{self.last_epoch + 1}"
        return chosen

    @property
    def _step(self) -> int:
        """The step of the last batch that is shown."""
        chosen = self._chosen(_OF_FILM)
        present = self.recording.order > 0
        cells = choose_cells(present, chosen.get("epochs"), chosen.get("batches"))
        return max(step_of(self.recording, cell) for cell in cells)

    def _film(self, suffix: str) -> list[File]:
        out = self.folder / f"film{suffix}"
        chosen = self._chosen(_OF_FILM)
        for name in idle_for_format(chosen, suffix):
            self._remark(f"{spell(name)} has no effect on a film that is a {suffix}")
            del chosen[name]
        made = animate(self.recording, out, overwrite=True, progress=self.progress, **chosen)
        for remark in made.remarks:
            self._remark(remark)
        return [File(FILM, FILM, out, self._step, made.alt)]

    def _sheet(self, _: str) -> list[File]:
        chosen = self._chosen(_OF_SHEET)
        made = sheet(
            self.recording,
            self.folder / "sheet.png",
            overwrite=True,
            layer=self.options.get("layers"),
            **chosen,
        )
        for remark in made.remarks:
            self._remark(remark)
        names = [SHEET]
        if len(made.paths) > 1:
            names = [f"{SHEET}-{layer}" for layer in made.layers]
        return [
            File(SHEET, name, path, self._step, caption)
            for name, path, caption in zip(names, made.paths, made.captions, strict=True)
        ]

    def _page(self, _: str) -> list[File]:
        made = page(
            self.recording, self.folder / "page.html", overwrite=True, **self._chosen(_OF_PAGE)
        )
        for note in made.notes:
            self._remark(f"page: {note}")
        return [File(PAGE, PAGE, made.path, self._step)]

    def _remark(self, remark: str) -> None:
        if remark not in self.remarks:
            self.remarks.append(remark)
