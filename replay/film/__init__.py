"""Composes films: recordings and options in, frames out.

To be imported from here:

- `Film`, the frames of an animation of one run, or of several in rows;
- `ComparisonFilm`, those of two runs side by side;
- `BaseFilm`, what both are.

A film chooses and scales the maps with `replay.maps`, paints them with `replay.raster`, and keeps
one plane, so that memory does not grow with the recording. `FrameLayout` and `ComparisonLayout` say
where everything stands, the sections what is drawn of a layer, the facts what is written about it.
"""

from replay.film.comparison_film import ComparisonFilm
from replay.film.film import BaseFilm, Film

__all__ = ["BaseFilm", "ComparisonFilm", "Film"]
