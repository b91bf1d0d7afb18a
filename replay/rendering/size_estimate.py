"""What an animation will weigh, from some short stretches of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from replay.film.film import BaseFilm
from replay.output import EncodeOptions, Target, encode, size_of
from replay.schema import Cell
from replay.schema.unfinished import temporary_folder

_STRETCHES = 3
_LONGEST, _SHORTEST = 8, 3  # frames of a stretch
_SHARE = 18  # one in so many frames is in a stretch, where there are not many
FEW_FRAMES = _STRETCHES * (_SHORTEST + 1)
"""Of so many frames, the whole is encoded as quickly as its stretches."""
_KEYFRAMES = 250  # frames of an MP4 from one that stands for itself to the next


def estimate_bytes(
    film: BaseFilm, cells: Sequence[Cell], target: Target, options: EncodeOptions, total: int
) -> float:
    """Returns the bytes that an animation would take, from at most 27 frames of it.

    Args:
        film: Draws the frames.
        cells: The (epoch, batch) of the frames that would be written.
        target: What for; nothing is written to its path.
        options: How it would be encoded.
        total: Number of frames of the whole, on which the length of the stretches depends.

    Raises:
        EncodeError: The encoder failed.
        OptionError: A codec or crf that cannot be used.
    """

    def weigh(some: Sequence[Cell]) -> int:
        with temporary_folder() as folder:
            name = "sample" if target.kind == "folder" else f"sample.{target.kind}"
            sample = replace(target, path=folder / name)
            encode(film.frames(some), sample, film.palette, film.size, options)
            return size_of(sample.path)

    length = min(_LONGEST, max(_SHORTEST, total // _SHARE))
    if len(cells) <= _STRETCHES * (length + 1):
        return float(weigh(cells))
    gap = (len(cells) - length) / (_STRETCHES - 1)
    starts = [round(number * gap) for number in range(_STRETCHES)]
    whole = [weigh(cells[start : start + length]) for start in starts]
    if target.format.frames_alone:  # then the first frame of a stretch weighs what others do
        return sum(whole) / (_STRETCHES * length) * len(cells)
    alone = [weigh(cells[start : start + 1]) for start in starts]
    each = max(1.0, (sum(whole) - sum(alone)) / (_STRETCHES * (length - 1)))
    first = sum(alone) / _STRETCHES
    again = (len(cells) - 1) // _KEYFRAMES if target.kind == "mp4" else 0
    return first * (1 + again) + each * (len(cells) - 1 - again)
