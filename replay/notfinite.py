"""Looks for NaN and infinity: in the file's own counts, and in the maps of each layer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.extent import batches, where
from replay.findings import Cell, Finding
from replay.intact import Intact
from replay.recording import Recording
from replay.selection import spread
from replay.words import count, numbered

_FIRST = 24  # frames that are read, from the first suspect on
_LATER = 8  # of those behind them


def not_finite_in_all(run: Recording) -> list[Finding]:
    """What the file's own counts say, for all layers together."""
    found = []
    for kind in ("nan", "inf"):
        counts = run.batches.get(kind)
        cells = [] if counts is None else [cell for cell in run.frames if counts[cell] > 0]
        if not cells or counts is None:
            continue
        values = int(sum(int(counts[cell]) for cell in cells))
        text = (
            f"{count(values, 'value')} in {len(cells)} of {batches(len(run.frames))}, "
            f"{where(cells[0], 'first in')}"
        )
        found.append(Finding(kind, text, "", None, *cells[0], len(cells), values))
    return found


def not_finite(intact: Intact) -> list[Finding]:
    """What a layer's maps have, in the first frames of those that the file says have some."""
    fields = [intact.series.recording.batches.get(kind) for kind in ("nan", "inf")]
    known = [counts for counts in fields if counts is not None]
    suspects = [cell for cell in intact.frames if any(counts[cell] > 0 for counts in known)]
    if not known:
        suspects = spread(intact.frames, _FIRST)
    read = suspects[:_FIRST]
    read += spread(suspects[_FIRST:], _LATER)
    counted: dict[str, list[tuple[Cell, npt.NDArray[np.int64]]]] = {"nan": [], "inf": []}
    for cell in read:
        maps = intact.maps(cell)
        if maps is None:
            continue
        for kind, is_one in (("nan", np.isnan), ("inf", np.isinf)):
            each = is_one(maps).sum(axis=1)
            if each.any():
                counted[kind].append((cell, each))
    of = "" if len(read) == len(suspects) and known else "at least "
    return [
        _finding(intact.layer.name, kind, cells, of) for kind, cells in counted.items() if cells
    ]


def _finding(
    layer: str, kind: str, cells: list[tuple[Cell, npt.NDArray[np.int64]]], of: str
) -> Finding:
    """From the number of values in each channel, int64 (C,), of the frames that have some."""
    per_channel = np.sum([each for _, each in cells], axis=0)
    values = int(per_channel.sum())
    channels = np.flatnonzero(per_channel).tolist()
    first, _ = cells[0]
    text = (
        f"{of}{count(values, 'value')} in {of}{batches(len(cells))} and "
        f"{numbered('channel', channels)}, "
        f"{where(first, 'first in')}"
    )
    return Finding(kind, text, layer, None, *first, len(cells), values)
