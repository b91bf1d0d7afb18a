"""From choices to a file: the largest animation that a limit allows, written and verified."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from replay.encoding.ffmpeg import encode
from replay.encoding.target import LimitError, Target, choose_fps, size_of
from replay.film.film import Film
from replay.film.geometry import surroundings
from replay.film.options import FilmOptions
from replay.maps.selection import spread
from replay.rendering.flashes import Flashes
from replay.rendering.jobs import EncodeOptions
from replay.rendering.parallel import Workers, render_to
from replay.rendering.presets import Preset
from replay.rendering.size_ladder import Setting, SizeSearch, in_words, quality_ladder, too_small
from replay.schema import Cell, OptionError

Make = Callable[[FilmOptions, int], Film]
"""Makes the film of a look, with so many colours of its colormap."""

_ALONE = Workers()
_TRIALS = 4  # times that the whole is encoded at most


@dataclass(frozen=True)
class RenderRequest:
    """What was asked for.

    Attributes:
        limit: Bytes; None for no limit.
        preset: What the place takes to which the animation goes, if any.
        fps: Frames a second, or None.
        codec: Of an MP4.
        crf: Of an MP4, or None.
        thin: Whether frames may be left out.
    """

    limit: int | None = None
    preset: Preset | None = None
    fps: float | None = None
    codec: str = "h264"
    crf: int | None = None
    thin: bool = True


@dataclass(frozen=True)
class Rendered:
    """What was written.

    Attributes:
        film: What drew it.
        cells: The frames in it.
        fps: Frames a second.
        frames: Number of frames written.
        chosen: What was given up for its size, in words; empty if nothing.
        flashes: What was found of flashes.
    """

    film: Film
    cells: list[Cell]
    fps: float
    frames: int
    chosen: str
    flashes: Flashes


def render(
    make: Make,
    look: FilmOptions,
    target: Target,
    wish: RenderRequest,
    crew: Workers = _ALONE,
    progress: Callable[[int, int], None] | None = None,
) -> Rendered:
    """Writes an animation, as good as its limit allows.

    Some stretches are encoded to estimate what it takes; what is then written is verified, and
    written once more, smaller, if it is over. The target is replaced by nothing that is over.

    Raises:
        OptionError: An option of no use, or a limit that cannot be met.
        EncodeError: The encoder failed; the target is as it was before.
    """
    options = _Candidates(make, look, target, wish, crew)
    best = options.rungs[0]
    if wish.limit is None:
        return options.write(best, progress)
    descent = SizeSearch(options.rungs, wish.limit, options.estimate_bytes)
    choice: Setting | None = descent.first()
    for _ in range(_TRIALS):
        assert choice is not None
        try:
            return options.write(choice, progress)
        except LimitError as error:
            size = error.bytes * max(1.0, choice.frames / max(error.frames, 1))
            tried, choice = choice, descent.next(size)
            if choice is None:
                break
    raise too_small(wish.limit, size, tried) from None


class _Candidates:
    """The films, one for each choice of size and colours, and how each would be written."""

    def __init__(
        self, make: Make, look: FilmOptions, target: Target, wish: RenderRequest, crew: Workers
    ) -> None:
        self._make, self._target, self._wish, self._crew = make, target, wish, crew
        preset = wish.preset
        self._look = look if preset is None else replace(look, bounds=preset.bounds)
        self._film = self._usual = self._bounded(self._look, target.levels)
        self._drawn = (1.0, target.levels)
        self._form = {"mp4": wish.codec, "gif": "gif"}.get(target.kind, "")
        most = len(self._usual.cells)
        if preset is not None and preset.most is not None and wish.thin:
            most = min(most, preset.most)
        self.rungs = quality_ladder(
            most,
            self._form,
            quality=wish.crf if target.kind == "mp4" else None,
            best=preset.crf if preset is not None else None,
            thin=wish.thin,
            zoom=None
            if look.zoom is not None
            else min(part.mosaic.zoom for part in self._usual.parts),
        )

    def estimate_bytes(self, choice: Setting) -> float:
        """Bytes that it would take, about."""
        return estimate_bytes(self._of(choice), *self._settings(choice), self.rungs[0].frames)

    def write(self, choice: Setting, progress: Callable[[int, int], None] | None) -> Rendered:
        """Writes the whole."""
        film = self._of(choice)
        cells, target, fps, codec, crf = self._settings(choice)
        quality = EncodeOptions(fps, codec, crf, self._wish.limit)
        written, flashes = render_to(film, cells, target, quality, self._crew, progress)
        return Rendered(film, cells, fps, written, self._in_words(choice, film), flashes)

    def _settings(self, choice: Setting) -> tuple[list[Cell], Target, float, str, int | None]:
        cells = spread(self._usual.cells, choice.frames)
        fps = choose_fps(self._wish.fps, len(cells), self._target.kind)
        crf = choice.quality if self._target.kind == "mp4" else self._wish.crf
        return cells, self._target, fps, self._wish.codec, crf

    def _of(self, choice: Setting) -> Film:
        """The film of a choice; that of the last one is kept."""
        levels = self._target.levels
        if self._form == "gif" and choice.quality is not None:
            levels = choice.quality
        if (choice.share, levels) == (1.0, self._target.levels):
            return self._usual
        if self._drawn != (choice.share, levels):
            self._film, self._drawn = self._draw(choice.share, levels), (choice.share, levels)
        return self._film

    def _draw(self, share: float, levels: int) -> Film:
        if share == 1.0:
            return self._make(replace(self._look, bounds=self._bounds), levels)
        mosaics = [part.mosaic for part in self._usual.parts]
        captions = self._look.captions
        beside, above = surroundings(len(mosaics), captions, self._usual.picture_sizes)
        # What lies between the tiles does not become smaller with them.
        less_wide = min((1 - share) * m.columns * m.tile[1] for m in mosaics)
        less_high = [(1 - share) * m.rows * m.tile[0] for m in mosaics]
        width = beside + max(m.width for m in mosaics) - less_wide
        height = above + sum(m.height for m in mosaics) - sum(less_high)
        bounds = (math.ceil(width), math.ceil(height) + len(mosaics))
        return self._make(replace(self._look, bounds=bounds), levels)

    def _bounded(self, look: FilmOptions, levels: int) -> Film:
        """The film in a frame no larger than its bounds, where that can be."""
        film = self._make(look, levels)
        self._bounds = look.bounds
        for _ in range(3):
            if look.bounds is None or self._bounds is None or look.zoom is not None:
                break
            over = [max(0, film.size[1 - axis] - look.bounds[axis]) for axis in (0, 1)]
            if not any(over):
                break
            self._bounds = (self._bounds[0] - over[0], self._bounds[1] - over[1])
            film = self._make(replace(look, bounds=self._bounds), levels)
        return film

    def _in_words(self, choice: Setting, film: Film) -> str:
        limit, frames = self._wish.limit, len(self._usual.cells)
        words = in_words(choice, self.rungs[0], frames, self._form, _size_in_words(film))
        if choice == self.rungs[0]:  # a preset's number of frames
            return words and f"{words}, which is as many as the preset has"
        if not words or limit is None:
            return words
        return words + f", to stay under {limit / 1e6:g} MB"


def _size_in_words(film: Film) -> str:
    mosaics = [part.mosaic for part in film.parts]
    zooms = sorted({mosaic.zoom for mosaic in mosaics if mosaic.shrink == 1})
    shrinks = sorted({mosaic.shrink for mosaic in mosaics if mosaic.shrink > 1})
    words = [f"zoom {_span(zooms)}"] if zooms else []
    return ", ".join([*words, *([f"maps at 1/{_span(shrinks)}"] if shrinks else [])])


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


def bytes_of(max_mb: float | None) -> int | None:
    """A limit in MB (10^6 bytes) as bytes.

    Raises:
        OptionError: It is not a number above 0.
    """
    if max_mb is None:
        return None
    if not 0 < max_mb < float("inf"):
        raise OptionError(f"max_mb {max_mb:g}: expected a number above 0")
    return int(max_mb * 1_000_000)


STRETCHES = 3


_LONGEST, _SHORTEST = 8, 3  # frames of a stretch


_SHARE = 18  # one in so many frames is in a stretch, where there are not many


_KEYFRAMES = 250  # frames of an MP4 from one that stands for itself to the next


def estimate_bytes(
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
