"""The largest animation that a limit allows: estimated, written, verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic

from replay.film.film import BaseFilm
from replay.film.overview import VIDEO_BOUNDS, make_within
from replay.maps.axes import spread
from replay.option_values import AUTO, EXACT
from replay.options import RenderRequest
from replay.output import EncodeOptions, Format, LimitError, Target
from replay.rendering.accessibility import choose_fps
from replay.rendering.parallel import Workers, render_to
from replay.rendering.presets import Preset, choose_preset
from replay.rendering.rendered import FilmT, Rendered
from replay.rendering.size_estimate import FEW_FRAMES, estimate_bytes
from replay.rendering.size_ladder import (
    COLOURS,
    Setting,
    SizeSearch,
    describe_savings,
    quality_ladder,
    too_small,
)
from replay.schema import Cell, OptionError
from replay.schema.faces import choose, spell

_TRIALS = 4  # times that the whole is encoded at most


def render_within_limit(
    make: Callable[[Any], FilmT], request: RenderRequest, target: Target
) -> Rendered[FilmT]:
    """Writes an animation, as good as its limit allows.

    Some stretches are encoded to estimate what it takes; what is then written is verified, and
    written once more, smaller, if it is over. The target is replaced by nothing that is over.

    Args:
        make: Makes a film of its options.
        request: What was asked for, with a preset or where there is a limit.
        target: Where it goes.

    Raises:
        OptionError: An option that cannot be used, or a limit that cannot be met.
        EncodeError: The encoder failed; the target is as it was before.
    """
    candidates = _Candidates(make, request, target)
    best = candidates.settings[0]
    if candidates.limit is None or best.frames <= FEW_FRAMES:  # an estimate would not be cheaper
        with suppress(LimitError):
            return candidates.write(best)
    assert candidates.limit is not None
    search = SizeSearch(candidates.settings, candidates.limit, candidates.estimate_bytes)
    setting: Setting | None = search.first()
    for _ in range(_TRIALS):
        assert setting is not None
        try:
            return candidates.write(setting)
        except LimitError as error:
            size = error.bytes * max(1.0, setting.frames / max(error.frames, 1))
            tried, setting = setting, search.next(size)
            if setting is None:
                break
    raise too_small(candidates.limit, size, tried) from None


def choose_limit(
    max_mb: float | str | None, format: Format[Any], preset: Preset | None = None
) -> int | None:
    """Returns the bytes that an animation may have; None for any number.

    Args:
        max_mb: A limit in MB (10^6 bytes), None for none, or `auto` for that of the preset, else
            the usual one of the format.
        format: What is written.
        preset: The preset that was asked for.

    Raises:
        OptionError: It is neither a number above 0 nor one of those words.
    """
    if max_mb == AUTO:
        max_mb = format.usual_mb if preset is None else preset.max_mb
    if max_mb is None:
        return None
    if isinstance(max_mb, str) or not 0 < max_mb < float("inf"):
        found = repr(max_mb) if isinstance(max_mb, str) else f"{max_mb:g}"
        raise OptionError(f"{spell('max_mb')} {found}: expected a number above 0")
    return int(max_mb * 1_000_000)


class _Candidates(Generic[FilmT]):
    """The films that could be written, one for each setting of size and colours.

    Args:
        make: Makes a film of its options.
        request: What was asked for.
        target: Where the animation goes.

    Attributes:
        limit: Bytes that it may have; None for any number.
        settings: From the best one down.
    """

    def __init__(
        self, make: Callable[[Any], FilmT], request: RenderRequest, target: Target
    ) -> None:
        preset = None if request.preset is None else choose_preset(request.preset)
        self.limit = choose_limit(request.max_mb, target.format, preset)
        if preset is not None:
            request = replace(request, film=replace(request.film, bounds=preset.bounds))
        self._make, self._request, self._target = make, request, target
        self._workers = Workers(request.jobs, request.executor)
        largest = VIDEO_BOUNDS if target.format.codecs else None
        self._usual, self._options = make_within(make, request.film, largest)
        self._film = self._usual
        self._drawn = (1.0, target.levels)  # the share and the colours of the last film
        exact = "exact " if request.quality == EXACT else ""
        self._form = str(request.codec) if target.format.codecs else f"{exact}{target.kind}"
        most, thin = len(self._usual.cells), request.film.batches is None
        if preset is not None and preset.most is not None and thin:
            most = min(most, preset.most)
        zooms = [panel.mosaic.zoom for panel in self._usual.panels]
        self.settings = quality_ladder(
            most,
            self._form,
            quality=self._asked_quality(),
            best=preset.crf if preset is not None else None,
            thin=thin,
            zoom=None if request.film.zoom is not None else min(zooms),
            mixed=len(set(zooms)) > 1,
        )

    def estimate_bytes(self, setting: Setting) -> float:
        """Returns the bytes that an animation would take, about."""
        film, cells = self._film_of(setting), self._cells_of(setting)
        options = replace(self._encode_options(setting, cells), limit=None)
        return estimate_bytes(film, cells, self._target, options, self.settings[0].frames)

    def write(self, setting: Setting) -> Rendered[FilmT]:
        """Writes the whole animation.

        Raises:
            LimitError: It becomes larger than it may be; the target is as it was before.
        """
        film, cells = self._film_of(setting), self._cells_of(setting)
        options = self._encode_options(setting, cells)
        progress = self._request.progress
        frames, flashes = render_to(film, cells, self._target, options, self._workers, progress)
        return Rendered(film, cells, flashes.fps, frames, flashes, self._in_words(setting, film))

    def _cells_of(self, setting: Setting) -> list[Cell]:
        return spread(self._usual.cells, setting.frames)

    def _encode_options(self, setting: Setting, cells: Sequence[Cell]) -> EncodeOptions:
        request = self._request
        fps = choose_fps(request.fps, len(cells), self._target.format)
        crf = setting.quality if self._target.format.codecs else request.crf
        quality = setting.quality if self._form == "webp" else None
        return EncodeOptions(
            fps,
            str(request.codec),
            crf,
            self.limit,
            calm=request.fps is None,
            quality=quality or None,  # 0 is exact
        )

    def _asked_quality(self) -> int | None:
        """Returns the quality that was asked for, to be kept."""
        if self._target.format.codecs:
            return self._request.crf
        return None if isinstance(self._request.quality, str) else self._request.quality

    def _film_of(self, setting: Setting) -> FilmT:
        """Returns the film of a setting; that of the last one is kept."""
        levels = self._target.levels
        if self._form in COLOURS and setting.quality is not None:
            levels = setting.quality
        if (setting.share, levels) == (1.0, self._target.levels):
            return self._usual
        if self._drawn != (setting.share, levels):
            self._film = self._make(replace(self._options, share=setting.share, levels=levels))
            self._drawn = setting.share, levels
        return self._film

    def _in_words(self, setting: Setting, film: BaseFilm) -> str:
        """Returns what was given up; empty if nothing was."""
        best, frames = self.settings[0], len(self._usual.cells)
        words = describe_savings(setting, best, frames, self._form, _size_in_words(film))
        if not words:
            return ""
        if setting == best:  # a preset's number of frames
            return f"{words}, which is as many as the preset has"
        assert self.limit is not None
        another = choose("--max-mb N or none", "max_mb=N or None")
        more = f" ({another} sets another)" if self._request.max_mb == AUTO else ""
        return f"{words}, to stay under {self.limit / 1e6:g} MB{more}"


def _size_in_words(film: BaseFilm) -> str:
    mosaics = [panel.mosaic for panel in film.panels]
    zooms = sorted({mosaic.zoom for mosaic in mosaics if mosaic.shrink == 1})
    shrinks = sorted({mosaic.shrink for mosaic in mosaics if mosaic.shrink > 1})
    words = [f"zoom {_span(zooms)}"] if zooms else []
    return ", ".join([*words, *([f"maps at 1/{_span(shrinks)}"] if shrinks else [])])


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"
