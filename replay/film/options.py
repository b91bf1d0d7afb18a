"""How a film looks: one object with a field for each choice."""

from __future__ import annotations

from dataclasses import dataclass

from replay.maps.selection import Numbers


@dataclass(frozen=True)
class FilmOptions:
    """How a film looks; see `replay.rendering.animation.animate` for what the values mean."""

    scale: str = "run"
    clip: tuple[float, float] | None = None
    symmetric: bool = False
    cmap: str = "gray"
    zoom: int | None = None
    columns: int | None = None
    title: str | None = None
    input: bool = True
    captions: bool = True
    theme: str = "light"
    slices: Numbers = "middle"
    tokens: str = "auto"
    show: tuple[str, ...] = ()
    order: str = "number"
    bounds: tuple[int, int] | None = None  # greatest width and height of a frame
