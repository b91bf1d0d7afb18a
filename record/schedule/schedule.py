"""Which batches of a run are kept.

A schedule decides by the numbers of a batch alone. A budget (`record.schedule.budget`) then thins
what the schedule keeps, by how many bytes a batch takes and how long the run is.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from replay.schema import OptionError
from replay.schema.suggestions import did_you_mean

DENSE = 64  # batches that `dense-early` keeps before it begins to thin

_KEYS = ("every", "epochs", "first", "dense-early")


@dataclass(frozen=True)
class Schedule:
    """Which batches of a run are kept; all conditions have to hold.

    Attributes:
        every: Keeps the batches 0, every, 2 * every ... of each epoch.
        epochs: Keeps these epochs only; None keeps all. A slice is Python's, `0:10:2`.
        first: Keeps the first batches of each epoch only.
        dense: Keeps every batch at first, and from the batch of this number of the run on ever
            fewer, their distance growing with their number; None does not thin.
    """

    every: int = 1
    epochs: tuple[int | slice, ...] | None = None
    first: int | None = None
    dense: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("first", self.first), ("dense", self.dense)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise OptionError(f"{name}: expected a whole number from 1, found {value!r}")

    @classmethod
    def parse(cls, text: str | Schedule | None, every: int = 1) -> Schedule:
        """Reads a schedule from a text.

        Args:
            text: Such as `every=4`, `epochs=0:10:2`, `first=8`, `dense-early` or
                `dense-early=200`, joined by commas. Epochs are a number, a slice or a list
                (`epochs=0,5,8-11`).
            every: The distance of the batches that are kept, where the text says none.

        Raises:
            OptionError: The text is no schedule.
        """
        if isinstance(text, Schedule):
            return text if every == 1 else replace(text, every=every)
        found: dict[str, str] = {}
        for part in re.split(r"[,\s]+(?=[a-z])", (text or "").strip()):
            key, _, value = (half.strip() for half in part.partition("="))
            if not part:
                continue
            if key not in _KEYS or (not value and key != "dense-early"):
                raise OptionError(
                    f"schedule {text!r}: expected every=N, epochs=A:B:C, first=N or dense-early, "
                    f"found {part!r}{did_you_mean(key, _KEYS) if key not in _KEYS else ''}"
                )
            found[key] = value
        return cls(
            every=_parse_number(found.get("every"), "every") or every,
            epochs=_parse_epochs(found["epochs"]) if "epochs" in found else None,
            first=_parse_number(found.get("first"), "first"),
            dense=_parse_number(found["dense-early"] or str(DENSE), "dense-early")
            if "dense-early" in found
            else None,
        )

    def keeps(self, epoch: int, batch: int, step: int) -> bool:
        """Whether a batch is kept.

        Args:
            epoch: From 0.
            batch: Its number in the epoch, from 0.
            step: Its number in the run, from 0.
        """
        return (
            batch % self.every == 0
            and (self.first is None or batch < self.first)
            and (self.epochs is None or any(_contains(part, epoch) for part in self.epochs))
            and (self.dense is None or keeps_dense(step, self.dense))
        )

    def count(self, epochs: int, batches: int) -> int:
        """Returns how many batches of a run of so many epochs and batches are kept."""
        return len(self.kept(epochs, batches))

    def kept(self, epochs: int, batches: int) -> list[tuple[int, int]]:
        """Returns (epoch, batch) of each batch that is kept of a run of so many."""
        numbers = range(min(batches, self.first or batches))
        return [
            (epoch, batch)
            for epoch in range(epochs)
            if self.epochs is None or any(_contains(part, epoch) for part in self.epochs)
            for batch in numbers[:: self.every]
            if self.dense is None or keeps_dense(epoch * batches + batch, self.dense)
        ]

    def to_text(self) -> str:
        """Returns the schedule as `parse` reads it."""
        parts = [f"every={self.every}"] if self.every > 1 else []
        if self.epochs is not None:
            parts.append("epochs=" + ",".join(_format_epochs(part) for part in self.epochs))
        if self.first is not None:
            parts.append(f"first={self.first}")
        if self.dense is not None:
            parts.append(f"dense-early={self.dense}")
        return ",".join(parts) or "every=1"


def keeps_dense(number: int, dense: int) -> bool:
    """Whether a number is kept: all below `dense`, then about `dense` for each factor of e.

    The count of the kept grows like `dense * (1 + ln(number / dense))`.
    """
    if number < dense:
        return True
    return math.floor(dense * math.log((number + 1) / dense)) > math.floor(
        dense * math.log(number / dense)
    )


def _parse_number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise OptionError(f"schedule: expected {name}=N with N from 1, found {name}={text}")
    return int(text)


def _parse_epochs(text: str) -> tuple[int | slice, ...]:
    parts: list[int | slice] = []
    for part in text.split(","):
        if match := re.fullmatch(r"\s*(\d*):(\d*)(?::(\d*))?\s*", part):
            start, stop, step = (int(n) if n else None for n in match.groups())
            if step == 0:
                raise OptionError(f"schedule: epochs={text}: a step of 0 leads nowhere")
            parts.append(slice(start, stop, step))
        elif match := re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", part):
            parts.append(slice(int(match.group(1)), int(match.group(2)) + 1))
        elif match := re.fullmatch(r"\s*(\d+)\s*", part):
            parts.append(int(match.group(1)))
        else:
            raise OptionError(
                f"schedule: epochs={text}: expected a slice such as 0:10:2 or a list such as "
                "0,5,8-11"
            )
    return tuple(parts)


def _contains(part: int | slice, epoch: int) -> bool:
    if isinstance(part, int):
        return part == epoch
    start, step = part.start or 0, part.step or 1
    ends = part.stop is not None and epoch >= part.stop
    return epoch >= start and not ends and (epoch - start) % step == 0


def _format_epochs(part: int | slice) -> str:
    if isinstance(part, int):
        return str(part)
    ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
    return ":".join(ends) + (f":{part.step}" if part.step is not None else "")
