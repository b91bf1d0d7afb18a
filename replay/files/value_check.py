"""Compares the small values of a recording, what was kept of each batch, with their checksums."""

from __future__ import annotations

from collections.abc import Iterator

from replay.files.problem import Problem
from replay.formatting import format_count
from replay.recording import Recording
from replay.recording.batch_fields import BatchFields
from replay.recording.inputs import FixedImage
from replay.recording.stored import fixed_images
from replay.schema import Cell, FileError

WRONG = "its checksum is wrong"


def check_values(run: Recording) -> Iterator[Problem]:
    """Yields what is damaged of the counters, of the fields, and the fixed images.

    Ranges and exponents are looked at with the frames that they belong to.
    """
    if not run.sound_state:
        text = f"{WRONG}; {format_count(run.committed, 'frame')} have a number"
        yield Problem("state", text)
    for name in run.batches:
        try:
            cells = damaged_cells(run, name)
        except FileError as error:
            yield Problem("values", f"{name}: {error}")
            continue
        for epoch, batch in sorted(cells):
            yield Problem("values", f"{name}: {WRONG}", "", epoch, batch)
    for view in fixed_images(run):
        images = view.inputs
        if isinstance(images, FixedImage) and not images.is_sound:
            yield Problem("input", WRONG, f"fixed image {view.probe_number}")


def damaged_cells(run: Recording, name: str) -> set[Cell]:
    """Returns the (epoch, batch) whose value of a field is damaged.

    Raises:
        FileError: The field cannot be read.
    """
    fields = run.batches
    if name not in fields or not isinstance(fields, BatchFields):
        return set()
    return {(int(epoch), int(batch)) for epoch, batch in fields.damaged(name)}
