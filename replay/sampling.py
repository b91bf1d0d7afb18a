"""How large an animation would become: some short stretches of it are encoded, and weighed.

A stretch of frames that follow one another is written twice, whole and its first frame alone. The
difference is what the frames take that are predicted from the one before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from replay.encode import Target, encode, size_of
from replay.frames import Film

STRETCHES = 3
_LONGEST, _SHORTEST = 8, 3  # frames of a stretch
_SHARE = 18  # one in so many frames is in a stretch, where there are not many
_KEYFRAMES = 250  # frames of an MP4 from one that stands for itself to the next

Cell = tuple[int, int]


def estimate(
    film: Film,
    cells: Sequence[Cell],
    target: Target,
    fps: float,
    codec: str = "h264",
    crf: int | None = None,
    total: int | None = None,
) -> float:
    """Bytes that an animation would take, from at most 27 frames of it.

    Args:
        film: Draws the frames.
        cells: The frames that would be written.
        target: What for; nothing is written to its path.
        fps: Frames a second.
        codec: As in `encode`.
        crf: As in `encode`.
        total: Number of frames of the whole, on which the length of the stretches depends;
            default that of the cells.

    Raises:
        EncodeError: The encoder failed.
        OptionError: A codec or crf of no use.
    """

    def weigh(some: Sequence[Cell]) -> int:
        with tempfile.TemporaryDirectory(prefix="mapreel-") as folder:
            name = "sample" if target.kind == "folder" else f"sample.{target.kind}"
            sample = Target(Path(folder) / name, target.kind, target.levels)
            encode(film.frames(some), sample, film.palette, film.size, fps, codec, crf)
            return size_of(sample.path)

    length = min(_LONGEST, max(_SHORTEST, (total or len(cells)) // _SHARE))
    if len(cells) <= STRETCHES * (length + 1):
        return float(weigh(cells))
    gap = (len(cells) - length) / (STRETCHES - 1)
    starts = [round(number * gap) for number in range(STRETCHES)]
    alone = [weigh(cells[start : start + 1]) for start in starts]
    whole = [weigh(cells[start : start + length]) for start in starts]
    each = max(1.0, (sum(whole) - sum(alone)) / (STRETCHES * (length - 1)))
    first = sum(alone) / STRETCHES
    again = (len(cells) - 1) // _KEYFRAMES if target.kind == "mp4" else 0
    return first * (1 + again) + each * (len(cells) - 1 - again)
