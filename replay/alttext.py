"""What an animation shows, in words: for those who cannot see it, and for a caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.captions import loss_in_words, number
from replay.frames import Film, Look
from replay.words import count, numbered

Cell = tuple[int, int]


def describe(film: Film, cells: Sequence[Cell], fps: float, look: Look) -> str:
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
    when = numbered("epoch", epochs)
    if len(batches) > 1:
        when += f", batches {batches[0]} to {batches[-1]}"
    else:
        when += f", batch {batches[0]}"
    shown = "; ".join(" ".join(filter(None, _names(part.name, part.words))) for part in film.parts)
    number = len(film.parts)
    if film.facts.whose:  # of several recordings
        what = f"feature maps of neural networks while they train, in {count(number, 'row')}"
    else:
        layers = "a layer" if number == 1 else f"{number} layers"
        what = f"the feature maps of {layers} of a neural network while it trains"
    return (
        f"Animation of {what}: {shown}. "
        f"It shows {count(len(cells), 'recorded batch')} "
        f"({when}) in {lasts} seconds."
    )


def _names(name: str, words: str) -> tuple[str, str]:
    plain = ", ".join(words.split("   "))
    return (name, f"({plain})" if plain and name else plain)


def _values(film: Film, cells: Sequence[Cell], look: Look) -> str:
    words = film.scale_words
    shown = film.range_of(0, cells[-1]) if len(film.parts) == 1 else None
    if shown is not None and look.scale == "run":
        words = f"from {number(shown.low)} to {number(shown.high)}, {words}"
    return f"Values are colours of the colormap {look.cmap}: {words}."


def _loss(film: Film, cells: Sequence[Cell]) -> list[str]:
    loss = film.facts.loss
    if loss is None:
        return []
    places = {cell: place for place, cell in enumerate(film.facts.cells)}
    first, last = (loss[places[cell]] for cell in (cells[0], cells[-1]))
    whose = f" of {film.facts.whose}" if film.facts.whose else ""
    if len(cells) == 1:
        return [f"The loss{whose} is {loss_in_words(first)}."]
    verb = "goes" if not np.isfinite([first, last]).all() else "falls" if last < first else "goes"
    return [f"The loss{whose} {verb} from {loss_in_words(first)} to {loss_in_words(last)}."]
