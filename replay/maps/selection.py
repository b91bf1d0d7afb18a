"""Which frames and which channels: words of a command line, or Python values, to numbers.

Epochs, batches and channels bear the zero-based numbers of the file. `A:B:C` is Python's slice
over those numbers (the end excluded), `3` one of them, `0,2,8-11` a list with inclusive spans,
and a negative number counts from the last one recorded.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.option_values import Numbers
from replay.recording import Recording
from replay.schema import OptionError, SelectionError, format_intervals
from replay.schema.suggestions import listed

_SLICE = re.compile(r"^\s*(-?\d*)\s*:\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?$")
_SPAN = re.compile(r"^\s*(-?\d+)\s*(?:-\s*(\d+)\s*)?$")


def choose(numbers: Numbers, existing: Sequence[int], what: str) -> list[int]:
    """Returns the numbers that were asked for, as far as they exist.

    Args:
        numbers: A number, a slice, a list, their spelling as text, or None for all.
        existing: The numbers that exist, ascending.
        what: What they number (`epoch`, `batch`, `channel`), for messages.

    Returns:
        The chosen numbers: a slice in its own order, a list as it was written.

    Raises:
        OptionError: The text is not a number, slice or list.
        SelectionError: A number that does not exist, or none is left; the message says what exists.
    """
    if numbers is None:
        return list(existing)
    if isinstance(numbers, str):
        numbers = _parse(numbers, what)
    if isinstance(numbers, slice):
        if numbers.step == 0:
            raise OptionError(f"{what} slice {_spell(numbers)}: a step of 0 leads nowhere")
        present = set(existing)
        length = existing[-1] + 1 if existing else 0
        ends = (_from_end(numbers.start, existing), _from_end(numbers.stop, existing))
        numbered = range(*slice(*ends, numbers.step).indices(length))
        chosen = [number for number in numbered if number in present]
        if not chosen:
            raise SelectionError(
                f"no {what} in {_spell(numbers)}; there: {format_intervals(existing)}"
            )
        return chosen
    each = list(numbers) if isinstance(numbers, Iterable) else [numbers]
    if not each:
        raise SelectionError(f"no {what} was chosen; there: {format_intervals(existing)}")
    present = set(existing)
    return [_find(number, existing, present, what) for number in each]


def choose_layers(recording: Recording, patterns: str | Iterable[str] | None = None) -> list[str]:
    """Returns the names of layers, in the order in which they were asked for, each once.

    Args:
        recording: The recording.
        patterns: Names or globs (`layer1.*`), or `all`; None means the first recorded layer.

    Raises:
        SelectionError: Nothing matches one of them; the message says what was recorded.
        FileError: The recording is empty.
    """
    recording.require_frames()
    if patterns is None:
        patterns = recording.first_layer or ""
    chosen: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if pattern in recording:
            chosen.append(pattern)
        elif pattern == "all":
            chosen += recording.layers
        else:
            found = [name for name in recording.layers if fnmatch.fnmatchcase(name, pattern)]
            chosen += found or [recording[pattern].name]  # which raises, and says what is there
    if not chosen:
        raise SelectionError(f"no layer was chosen; recorded: {listed(recording.layers)}")
    return list(dict.fromkeys(chosen))


def choose_frames(
    recording: Recording,
    epochs: Numbers = None,
    batches: Numbers = None,
    layers: Sequence[str] | None = None,
) -> list[tuple[int, int]]:
    """Returns the (epoch, batch) of the whole frames that were asked for, epoch by epoch.

    A batch that is named must exist in at least one of the chosen epochs; epochs without it (a
    shorter last one, say) are passed over. With `layers`, so is a batch in which none of them has
    a frame: they put out nothing, or something of another shape.

    Raises:
        OptionError: The text is not a number, slice or list.
        SelectionError: Nothing of it was recorded; the message says what was.
        FileError: The recording is empty.
    """
    recording.require_frames()
    present = recording.order > 0
    if layers is not None:
        present = np.logical_or.reduce([recording[name].present for name in layers])
        if not present.any():
            raise SelectionError(f"no frame of {listed(layers)} in {recording.path}")
    return choose_cells(present, epochs, batches)


def choose_cells(
    present: npt.NDArray[np.bool_], epochs: Numbers = None, batches: Numbers = None
) -> list[tuple[int, int]]:
    """Returns the (epoch, batch) that were asked for, of those in `present`; see `choose_frames`.

    Args:
        present: bool (epoch, batch), where there is a frame.
        epochs: Which epochs, as in `choose`.
        batches: Which batches of each epoch, as in `choose`.
    """
    epoch_numbers = [int(epoch) for epoch in np.flatnonzero(present.any(axis=1))]
    chosen_epochs = choose(epochs, epoch_numbers, "epoch")
    anywhere = [int(b) for b in np.flatnonzero(present[chosen_epochs].any(axis=0))]
    chosen_batches = choose(batches, anywhere, "batch")
    return [(e, b) for e in chosen_epochs for b in chosen_batches if present[e, b]]


def _parse(text: str, what: str) -> slice | list[int]:
    if match := _SLICE.match(text):
        return slice(*(int(part) if part else None for part in match.groups()))
    numbers: list[int] = []
    for part in text.split(","):
        match = _SPAN.match(part)
        if match is None:
            raise OptionError(
                f"cannot read {what} {text!r}; expected a number, a list such as 0,3,8-11 "
                "or a slice such as 0:10:2"
            )
        first = int(match.group(1))
        last = int(match.group(2)) if match.group(2) else first
        if last < first or (match.group(2) and last - first > 1_000_000):
            raise OptionError(
                f"{what} {part.strip()!r}: expected a span that ascends, such as 8-11"
            )
        numbers += range(first, last + 1)
    return numbers


def _find(number: Any, existing: Sequence[int], present: set[int], what: str) -> int:
    if not isinstance(number, (int, np.integer)):
        raise OptionError(f"{what} {number!r}: expected a whole number")
    if number < 0 and -number <= len(existing):
        return existing[int(number)]
    if number not in present:
        raise SelectionError(f"no {what} {number}; there: {format_intervals(existing)}")
    return int(number)


def _from_end(bound: int | None, existing: Sequence[int]) -> int | None:
    """Returns a slice's negative bound as the number that it counts to; others as they are."""
    if bound is None or bound >= 0 or not existing:
        return bound
    return existing[max(bound, -len(existing))]


def _spell(numbers: slice) -> str:
    parts = ["" if part is None else str(part) for part in (numbers.start, numbers.stop)]
    return ":".join(parts) + (f":{numbers.step}" if numbers.step is not None else "")
