"""What a film shows, in words for those who cannot see it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from replay.film.film import Film
from replay.film.sections import MapSection
from replay.formatting import format_count, format_loss, format_number, format_numbers
from replay.maps.axes import spread
from replay.maps.runs import FilmFacts, LayerPanel
from replay.maps.unfinite import count_unfinite
from replay.overwriting import ALT_TEXT
from replay.schema import Cell

if TYPE_CHECKING:
    from replay.film.probe_grid import ProbeGridFilm

_READ = 256  # frames that were not drawn, read at most to see where a value was not finite


def describe(film: Film | ProbeGridFilm, cells: Sequence[Cell], fps: float) -> str:
    """Returns a few plain sentences for those who cannot see a film, in one line.

    Args:
        film: What is shown.
        cells: The (epoch, batch) of each frame that is shown.
        fps: Frames a second.
    """
    facts, panels = film.facts, film.panels
    epochs = sorted({epoch for epoch, _ in cells})
    batches = sorted({batch for _, batch in cells})
    when = format_numbers("epoch", epochs)
    if len(batches) > 1:
        when += f", batches {batches[0]} to {batches[-1]}"
    else:
        when += f", batch {batches[0]}"
    seconds = len(cells) / fps
    lasts = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    number = len(panels)
    shown = "feature maps" if film.quantity == "activation" else film.quantity
    if facts.loss_of:  # of several recordings
        what = f"{shown} of neural networks while they train, in {format_count(number, 'row')}"
    else:
        layers = "a layer" if number == 1 else format_count(number, "layer")
        what = f"the {shown} of {layers} of a neural network while it trains"
    values = [_Values(section, cells) for section in film.map_sections]
    listed = [_panel_in_words(*each) for each in zip(panels, values, strict=bool(values))]
    listed = listed or [f"{panels[0].name} ({panels[0].details})"]
    sentences = [
        f"{ALT_TEXT}{what}: {'; '.join(listed)}.",
        f"It shows {format_count(len(cells), 'recorded batch')} ({when}) in {lasts} "
        f"{'second' if lasts == '1' else 'seconds'}.",
        _scale_in_words(film, cells, values),
        *_loss_in_words(facts, cells),
    ]
    return " ".join(sentences)


class _Values:
    """What the values of a layer are in the frames that are shown.

    Args:
        section: The layer's maps.
        cells: The (epoch, batch) of the frames.
    """

    def __init__(self, section: MapSection, cells: Sequence[Cell]) -> None:
        self._maps, self._channels = section.row.maps, section.channels
        present = self._maps.series.present
        self._cells = [cell for cell in cells if present[cell]]
        self.low, self.high = self._find_ends()

    @property
    def vary(self) -> bool:
        """Whether it is known that there are two different values."""
        return bool((self.low < self.high).any())

    def in_words(self) -> list[str]:
        """Returns what there is to say, in a few words each."""
        words = [*self._ends_in_words()]
        found = self._find_unfinite()
        for kind, place in (("NaN", 0), ("infinite values", 1)):
            where = sorted(cell for cell, count in found.items() if count[place])
            if where:
                words.append(f"{kind} in {_share(where, self._cells)}")
        return words

    def _find_ends(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Returns the least and the greatest finite value of each channel, NaN without one."""
        series, nothing = self._maps.series, np.zeros(0, np.float32)
        if not self._cells or not series.has_ranges or not series.unit:
            return nothing, nothing
        ranges = series.ranges()[tuple(np.array(self._cells).T)] * series.unit  # (frames, C, 2)
        if ranges.shape[1] != self._maps.channels:
            return nothing, nothing
        chosen = ranges[:, self._channels]
        low = np.fmin.reduce(chosen[..., 0], axis=0)
        return low, np.fmax.reduce(chosen[..., 1], axis=0)

    def _ends_in_words(self) -> list[str]:
        if not self.low.size:
            return []
        finite = ~np.isnan(self.low)
        if not finite.any():
            return ["without any finite value"]
        low, high = float(np.nanmin(self.low)), float(np.nanmax(self.high))
        if low == high:
            return [f"everywhere {format_number(low)}"]
        words = [f"values from {format_number(low)} to {format_number(high)}"]
        constant = int((self.low == self.high).sum())
        if constant:
            of = len(self.low)
            words.append(f"{constant} of {format_count(of, 'channel')} constant")
        return words

    def _find_unfinite(self) -> dict[Cell, tuple[int, int]]:
        """Returns how many values of a frame are NaN and infinite, where some are."""
        anywhere, counts = self._maps.series.unfinite(), self._maps.counts
        suspected = [cell for cell in self._cells if anywhere is None or anywhere[cell]]
        found = {cell: counts[cell] for cell in suspected if any(counts.get(cell, ()))}
        unseen = [cell for cell in suspected if cell not in counts]
        for cell in spread(unseen, _READ):
            count = count_unfinite(self._maps[cell][self._channels])
            if cell not in self._maps.damaged and any(count):
                found[cell] = count
        return found


def _panel_in_words(panel: LayerPanel, values: _Values) -> str:
    details = [text for text in panel.details.split("   ") if text] + values.in_words()
    text = ", ".join(details)
    return f"{panel.name} ({text})" if text and panel.name else panel.name or text


def _scale_in_words(
    film: Film | ProbeGridFilm, cells: Sequence[Cell], values: Sequence[_Values]
) -> str:
    """Returns the sentence that says what the colours of a film stand for."""
    scale = film.scale
    if not film.map_sections or film.map_sections[0].row.maps.series.in_colour:
        return f"{film.quantity.capitalize()} in colours: {scale}."
    if len(film.panels) == 1 and film.scale_mode == "run" and (not values or values[0].vary):
        section = film.map_sections[0]
        shown = section.range_of(cells[-1])
        shown = shown and shown.times(section.row.maps.series.unit)
        if shown is not None and not shown.word:
            scale = f"from {format_number(shown.low)} to {format_number(shown.high)}, {scale}"
    return f"Values are colours of the colormap {film.cmap}: {scale}."


def _loss_in_words(facts: FilmFacts, cells: Sequence[Cell]) -> list[str]:
    if facts.loss is None:
        return []
    places = [bisect.bisect_left(facts.cells, cell) for cell in cells]
    known = [facts.logged is None or bool(facts.logged[place]) for place in places]
    cells, places = list(compress(cells, known)), list(compress(places, known))
    if not cells:
        return []
    losses = {cell: float(facts.loss[place]) for cell, place in zip(cells, places, strict=True)}
    whose = f"The loss{' of ' + facts.loss_of if facts.loss_of else ''}"
    wrong = [cell for cell, loss in losses.items() if not np.isfinite(loss)]
    finite = [loss for loss in losses.values() if np.isfinite(loss)]
    what = "NaN" if all(np.isnan(losses[cell]) for cell in wrong) else "not finite"
    if not finite:
        return [f"{whose} is {what}{' throughout' if len(cells) > 1 else ''}."]
    first, last = format_loss(finite[0]), format_loss(finite[-1])
    if len(finite) == 1:
        text = f"is {first}"
    elif first == last:
        text = f"goes from {first} to {last}"
    else:
        text = f"{'falls' if finite[-1] < finite[0] else 'rises'} from {first} to {last}"
    if wrong:
        text += f", and is {what} in {_share(wrong, cells)}"
    return [f"{whose} {text}."]


def _share(some: Sequence[Cell], cells: Sequence[Cell]) -> str:
    """Returns in how many of some frames something was found, and where at first."""
    if len(some) == len(cells):
        return "every frame"
    epoch, batch = some[0]
    of = format_count(len(cells), "frame")
    return f"{len(some):,} of {of}, first in epoch {epoch}, batch {batch}"
