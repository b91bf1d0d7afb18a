"""What stands beside an animation: a picture of its last frame, and the words that describe it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from replay.frames import Film
from replay.pixels import as_colours
from replay.schema import OutputError
from replay.target import replacing


def beside(path: Path, suffix: str, folder: bool = False) -> Path:
    """The name of what belongs to an animation: `run.poster.png` of `run.mp4`, or of `run/`.

    Raises:
        OutputError: There is a folder of that name.
    """
    found = path.with_name((path.name if folder else path.stem) + suffix)
    if found.is_dir():
        raise OutputError(f"cannot write {found}: it is a folder; rename it, or choose another -o")
    return found


def write_poster(path: Path, film: Film, cell: tuple[int, int]) -> None:
    """Draws one frame as PNG, pixel for pixel as a lossless animation has it.

    Raises:
        OutputError: It cannot be written; what stood there before is untouched.
    """
    for parts in as_colours(film.frames([cell]), film.palette, film.size):
        image = Image.fromarray(np.ascontiguousarray(parts[0][..., 2::-1]))
        with replacing(path) as unfinished:
            image.save(unfinished, "PNG", optimize=True)


def write_words(path: Path, words: str) -> None:
    """Writes a text, UTF-8, a line.

    Raises:
        OutputError: It cannot be written; what stood there before is untouched.
    """
    with replacing(path) as unfinished:
        unfinished.write_text(words + "\n", encoding="utf-8")
