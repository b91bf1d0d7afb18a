"""What an animation shows, in words: for those who cannot see it, and for a caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from replay.encoding.pixel_formats import as_colours
from replay.film.film import Film
from replay.film.options import FilmOptions
from replay.formatting import format_count, format_loss, format_number, format_numbers
from replay.output import replacing
from replay.schema import Cell, OutputError


def describe(film: Film, cells: Sequence[Cell], fps: float, look: FilmOptions) -> str:
    """Two to four plain sentences, a line.

    Args:
        film: The animation.
        cells: The frames that it shows.
        fps: Frames a second.
        look: How it looks.
    """
    return " ".join([_layers(film, cells, fps), _values(film, cells, look), *_loss(film, cells)])


def _layers(film: Film, cells: Sequence[Cell], fps: float) -> str:
    seconds = len(cells) / fps
    lasts = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    epochs = sorted({epoch for epoch, _ in cells})
    batches = sorted({batch for _, batch in cells})
    when = format_numbers("epoch", epochs)
    if len(batches) > 1:
        when += f", batches {batches[0]} to {batches[-1]}"
    else:
        when += f", batch {batches[0]}"
    shown = "; ".join(" ".join(filter(None, _names(part.name, part.words))) for part in film.parts)
    number = len(film.parts)
    if film.facts.whose:  # of several recordings
        what = f"feature maps of neural networks while they train, in {format_count(number, 'row')}"
    else:
        layers = "a layer" if number == 1 else f"{number} layers"
        what = f"the feature maps of {layers} of a neural network while it trains"
    return (
        f"Animation of {what}: {shown}. "
        f"It shows {format_count(len(cells), 'recorded batch')} "
        f"({when}) in {lasts} seconds."
    )


def _names(name: str, words: str) -> tuple[str, str]:
    plain = ", ".join(words.split("   "))
    return (name, f"({plain})" if plain and name else plain)


def _values(film: Film, cells: Sequence[Cell], look: FilmOptions) -> str:
    words = film.scale_words
    shown = film.range_of(0, cells[-1]) if len(film.parts) == 1 else None
    if shown is not None and look.scale == "run":
        words = f"from {format_number(shown.low)} to {format_number(shown.high)}, {words}"
    return f"Values are colours of the colormap {look.cmap}: {words}."


def _loss(film: Film, cells: Sequence[Cell]) -> list[str]:
    loss = film.facts.loss
    if loss is None:
        return []
    places = {cell: place for place, cell in enumerate(film.facts.cells)}
    first, last = (loss[places[cell]] for cell in (cells[0], cells[-1]))
    whose = f" of {film.facts.whose}" if film.facts.whose else ""
    if len(cells) == 1:
        return [f"The loss{whose} is {format_loss(first)}."]
    verb = "goes" if not np.isfinite([first, last]).all() else "falls" if last < first else "goes"
    return [f"The loss{whose} {verb} from {format_loss(first)} to {format_loss(last)}."]


def sidecar_path(path: Path, suffix: str, folder: bool = False) -> Path:
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
