"""What is written beside an animation: a text of what it shows, and a picture of its last frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from replay.encoding.pixel_formats import as_colours
from replay.film.film import BaseFilm
from replay.output import replacing
from replay.overwriting import MAKER
from replay.schema import Cell, OutputError
from replay.schema.faces import spell


def sidecar_path(path: Path, suffix: str, folder: bool = False) -> Path:
    """Returns the path of what belongs to an animation: `run.poster.png` of `run.mp4` or `run/`.

    Raises:
        OutputError: There is a folder of that name.
    """
    found = path.with_name((path.name if folder else path.stem) + suffix)
    if found.is_dir():
        raise OutputError(
            f"cannot write {found}: it is a folder; rename it, or choose another {spell('out')}"
        )
    return found


def write_poster(path: Path, film: BaseFilm, cell: Cell) -> None:
    """Draws one frame as PNG, pixel for pixel as a lossless animation has it.

    Raises:
        OutputError: It cannot be written; what stood there before is untouched.
    """
    for parts in as_colours(film.frames([cell]), film.palette, film.size):
        image = Image.fromarray(np.ascontiguousarray(parts[0][..., 2::-1]))
        with replacing(path) as unfinished:
            made = PngInfo()
            made.add_text("Software", MAKER)
            image.save(unfinished, "PNG", optimize=True, pnginfo=made)


def write_text(path: Path, text: str) -> None:
    """Writes a line of text, in UTF-8.

    Raises:
        OutputError: It cannot be written; what stood there before is untouched.
    """
    with replacing(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")
