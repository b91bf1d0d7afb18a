"""Everything that goes into a page, at any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from replay.film.comparison_facts import choose_common_layers
from replay.formatting import clean, format_count
from replay.maps.overlay_view import check_pictures
from replay.maps.runs import RunSet
from replay.maps.selection import choose_frames, choose_layers
from replay.maps.views import look_at, views_of
from replay.option_values import Numbers
from replay.options import MADE, FilmOptions
from replay.recording import Recording
from replay.recording.snapshot import cells_of
from replay.schema import OptionError, SelectionError
from replay.schema.faces import spell
from replay.webpage.components_data import PageBases
from replay.webpage.manifest import describe_page, files_of
from replay.webpage.over_input import usual_colors
from replay.webpage.page_source import PageSource
from replay.webpage.page_workers import pack_parts
from replay.webpage.size_budget import (
    Fidelity,
    PageItem,
    PagePlan,
    fits_as_it_is,
    plan_page,
    planned_bytes,
)
from replay.webpage.template import render

_ATTEMPTS = 8
_LARGE = 5_000  # frames that are not built for a trial
_TRIALS = 200, 400  # but so many of them, twice, from which follows what a frame takes
_MOST_LAYERS = 1_000  # more take minutes, and nobody finds one among them
_LISTED = 3  # kinds of images of which each is told by itself
_MANY = 12  # sentences of one kind
_DEPTH = (
    "8 bits a value: each map of a frame is stored in steps of 1/253 of the narrowest range under "
    "which it is shown here; the recording has float16. Histograms are of these steps."
)


class PageContent:
    """The images, layers and frames of a page.

    Args:
        runs: One recording or two.
        layers: As in `page`.
        channels: As in `page`.
        epochs: As in `page`.
        batches: As in `page`.
        probe: As in `page`.
        input: Whether the input pictures are in the page.
        title: A heading, or None.
        settings: What the page's controls are set to, for the manifest.
        view: As in `page`.

    Attributes:
        names: The layers.
    """

    def __init__(
        self,
        runs: Sequence[Recording],
        layers: str | Sequence[str] | None,
        channels: Numbers,
        epochs: Numbers,
        batches: Numbers,
        probe: int | None,
        input: bool,
        title: str | None,
        settings: dict[str, Any],
        view: str | None = None,
    ) -> None:
        self._runs, self._settings = runs, {**settings, "usual": usual_colors()}
        self._title = "" if title is None else clean(title)
        self._view, self._remarks = view, list[str]()
        self.sources: list[PageSource] = []
        probes: Sequence[int | None] = [probe]
        if probe is None:
            probes = [None, *range(min(run.probes for run in runs))]
        for number in probes:
            shown = runs if number is None else [run.probe(number) for run in runs]
            errors: list[SelectionError] = []
            before = len(self.sources)
            for each in views_of(shown) or ["maps"] if view is None else [view]:
                try:
                    self._add(shown, layers, channels, epochs, batches, input, each)
                except SelectionError as error:
                    errors.append(error)
            needed = number is None or probe is not None
            if needed and errors and len(self.sources) == before:
                raise errors[0]
        first = [place for place, source in enumerate(self.sources) if source.probe is not None]
        self._first = first[0] if first else 0
        self._bases = PageBases()
        self.names = tuple(
            dict.fromkeys(layer.name for source in self.sources for layer in source.layers)
        )

    def _add(
        self,
        runs: Sequence[Recording],
        layers: str | Sequence[str] | None,
        channels: Numbers,
        epochs: Numbers,
        batches: Numbers,
        input: bool,
        view: str,
    ) -> None:
        labels = [""]
        made = view if self._view in ("maps", *MADE) else ""
        if made == "overlay":
            check_pictures(runs)
        own = ("cmap", "symmetric") if self._view else ()  # else each view has its own
        colours = {name: self._settings[name] for name in own}
        runs, options = look_at(runs, FilmOptions(layers, view=view, **colours), values=True)
        layers = options.layers
        if len(runs) == 1:
            names = choose_layers(runs[0], layers)
            seldom = view != "maps" or runs[0].probe_number is not None
            cells = choose_frames(runs[0], epochs, batches, names if seldom else None)
            recorded = runs[0].order > 0
        else:
            names, remarks = choose_common_layers(runs, layers)
            shown = RunSet(runs, names)
            cells, labels = shown.cells(epochs, batches), shown.labels
            recorded = shown.recorded
            remarks += [each for each in shown.remarks if "different runs" not in each]
            probe = runs[0].probe_number
            of = "" if probe is None else f"fixed image {probe}: "
            remarks = [f"{of}{each}" for each in remarks]
            self._remarks += [each for each in remarks if each not in self._remarks]
        if len(names) > _MOST_LAYERS:
            raise SelectionError(
                f"{len(names):,} layers in {runs[0].path} are too many for a page, which shows at "
                f"most {_MOST_LAYERS:,}; choose some with {spell('layers', flag='--layer')}"
            )
        timeline = cells
        if batches is None:  # all of these epochs: a fixed image is seldom shown
            rows = np.isin(np.arange(len(recorded)), [epoch for epoch, _ in cells])
            timeline = cells_of(recorded & (rows[:, None] | (epochs is None)))
        place = len(self.sources)
        self.sources.append(
            PageSource(runs, labels, names, channels, cells, input, place, options, made, timeline)
        )

    @property
    def kept(self) -> tuple[int, int]:
        """Frames in the page, and those that were asked for, of what it opens with."""
        source = self.sources[self._first]
        return source.kept, len(source.cells)

    def write(
        self, limit: int, progress: Callable[[int, int], None] | None
    ) -> tuple[bytes, tuple[str, ...]]:
        """Returns a document of at most `limit` bytes, and the notes."""
        for fixed in (False, True):
            shown = [each for each in self.sources if (each.probe is not None) == fixed]
            of = [layer for each in shown if each.has_components for layer in each.layers]
            self._bases.add(of)
        items = self._items()
        counts = [len(source.cells) for source in self.sources]
        empty = len(self._document({"sources": [], **self._settings}, self._bases.blocks))
        budget = (limit - empty) * 0.985 - 40 * sum(counts) ** 0.5
        if not fits_as_it_is(items, counts, budget):
            for source in self.sources:
                source.tell_from_pictures()
            items = self._items()
        plan = plan_page(items, counts, budget, self._first)
        if sum(plan.frames) > _LARGE and min(plan.frames):
            budget = min(budget, self._foretell(plan, limit))
        for attempt in range(_ATTEMPTS):
            plan = plan_page(items, counts, budget, self._first)
            if min(plan.frames) < 1:
                break
            document, notes = self._build(plan, limit, progress)
            if len(document) <= limit:
                return document, notes
            # A little less may change nothing, so that each attempt gives up more.
            budget -= max(1.1 * (len(document) - limit), 0.004 * 2**attempt * budget)
        each = sum(item.cost(Fidelity(max(1, item.side // 4), 12.0)) for item in items)
        raise OptionError(
            f"max-mb {limit / 1e6:g}: not even one frame fits; the page without maps takes "
            f"{empty / 1e6:.2f} MB and a frame at its smallest {each / 1e6:.2f} MB; choose a "
            "larger size, or fewer layers or channels"
        )

    def _foretell(self, plan: PagePlan, limit: int) -> float:
        """Returns the budget with which a page of many frames fits, as pages of few have it."""
        planned: list[float] = []
        taken: list[int] = []
        for number in _TRIALS:
            frames = tuple(-(-each * number // sum(plan.frames)) for each in plan.frames)
            few = replace(plan, frames=frames)
            planned.append(planned_bytes(self._items(), few))
            taken.append(len(self._build(few, limit, None)[0]))
        if planned[0] == planned[1]:  # of many kinds of images one frame each
            return math.inf
        of_each = (taken[1] - taken[0]) / (
            planned[1] - planned[0]
        )  # bytes for each that is planned
        return 0.99 * (planned[0] + (limit - taken[0]) / of_each)

    def _items(self) -> list[PageItem]:
        """Returns what each frame has, of all sources."""
        return [item for source in self.sources for item in source.items]

    def _build(
        self, plan: PagePlan, limit: int, progress: Callable[[int, int], None] | None
    ) -> tuple[bytes, tuple[str, ...]]:
        start = 0
        for source, frames in zip(self.sources, plan.frames, strict=True):
            count = len(source.items)
            source.prepare(frames, plan.fidelity[start : start + count])
            start += count
        total = sum(source.count for source in self.sources)

        def report(done: float) -> None:
            if progress is not None:
                progress(min(round(done * total), total), total)

        packed = iter(pack_parts([p for each in self.sources for p in each.parts], report))
        blocks = list(self._bases.blocks)
        for source in self.sources:
            blocks += source.blocks([next(packed) for _ in source.parts])
        given = tuple(map(clean, self._remarks)) + self._fitting(plan, limit)
        pooled = self._pooled()
        given += tuple(pooled[:_MANY])
        if len(pooled) > _MANY:
            given += (f"{format_count(len(pooled) - _MANY, 'more layer')} averaged likewise",)
        given += tuple(dict.fromkeys(each for source in self.sources for each in source.damage()))
        manifest = {
            **describe_page(self._title, self._runs),
            "notes": [*given, _DEPTH],
            "sources": [source.describe() for source in self.sources],
            "first": self._first,
            **self._settings,
        }
        return self._document(manifest, blocks), given

    def _fitting(self, plan: PagePlan, limit: int) -> tuple[str, ...]:
        """Returns what was done so that the page fits its size, a sentence each."""
        below = f"so that the file stays below {limit / 1e6:g} MB"
        found = []
        several = len(self.sources) > 1
        thinned: dict[tuple[int, int], list[str]] = {}
        for source in self.sources:
            if source.kept < len(source.cells):
                thinned.setdefault((source.kept, len(source.cells)), []).append(source.words)
        for (kept, there), words in thinned.items():
            of = f" of {_listed(words, ', ')}" if several else ""
            found.append(f"{kept:,} of {format_count(there, 'frame')}{of}, evenly spread, {below}")
        tell = any(source.tells for source in self.sources)
        if tell or any(each.step > 1 for each in plan.fidelity):
            found.append(
                f"fine detail is rounded {below}: pixels are off by so many of 254 levels "
                f"(root mean square): {self._errors()}"
            )
        if several and thinned:
            only = spell("probe", self.sources[self._first].probe or 0)
            opening = self.sources[self._first].words
            found.append(
                f"the room is shared among {len(self.sources)} kinds of images and views, and "
                f"{opening}, which the page opens with, has the most; {only} gives all of it to one"
            )
        return tuple(found)

    def _pooled(self) -> list[str]:
        """Returns what was averaged, a sentence each; and of which images, if not of all."""
        found: dict[str, list[str]] = {}
        for source in self.sources:
            for note in source.pooled():
                found.setdefault(note, []).append(source.words)
        return [
            note if len(words) == len(self.sources) else f"{note} ({_listed(words, ', ')})"
            for note, words in found.items()
        ]

    def _errors(self) -> str:
        """Returns by how much pixels are off: of each layer, or of many images the largest."""
        each = [(source.words, source.errors()) for source in self.sources]
        if len(each) <= _LISTED:
            return "; ".join(
                (f"{words}: " if len(each) > 1 else "")
                + ", ".join(f"{name} {error:.1f}" for name, error in errors.items())
                for words, errors in each
            )
        most = sorted(((max(errors.values()), words) for words, errors in each), reverse=True)
        return _listed([f"{words} up to {error:.1f}" for error, words in most], "; ", "less")

    def _document(self, manifest: dict[str, Any], blocks: Sequence[tuple[str, bytes]]) -> bytes:
        name = self._title or files_of(self._runs)
        opening = self.sources[self._first].opening
        return render(f"{name}: feature maps", manifest, blocks, opening=opening)


def _listed(words: Sequence[str], between: str, others: str = "") -> str:
    """Returns the first of them in words, and how many more there are."""
    if len(words) <= _LISTED + 1:
        return between.join(words)
    more = f"{len(words) - _LISTED} others{f' {others}' if others else ''}"
    return f"{between.join(words[:_LISTED])} and {more}"
