"""What to give up so that an animation fits a number of bytes; nothing is drawn here.

The order in which things go: first the quality, as far as the maps do not visibly suffer; then
frames, as long as a hundred remain; then the maps' zoom, in whole numbers, down to half of it; then
frames, as long as forty remain, and quality; only then are maps made smaller than half, in turns
with frames, and last averaged over blocks. The captions keep their size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from replay.formatting import format_count
from replay.schema import OptionError
from replay.schema.faces import spell

# Sane values, from the usual one down; the last two are for when much is lost anyway. Of formats
# without loss these are the colours that the colormap has; a WebP is exact (0), or lossy.
COLOURS = {
    "gif": (168, 96, 48, 32, 24),
    "exact webp": (240, 96, 48, 32, 24),
    "apng": (240, 96, 48, 32, 24),
}
_QUALITIES = {
    "h264": (18, 22, 26, 30, 33),
    "av1": (30, 36, 42, 48, 54),
    "vp9": (24, 30, 36, 42, 48),
    "webp": (0, 90, 75, 60, 45, 30),
    **COLOURS,
}
# Bytes relative to those of an exact WebP, of noisy maps; so a search begins near its end.
_RELATIVE: dict[str, dict[int | None, float]] = {
    "webp": {0: 1.0, 90: 0.62, 75: 0.37, 60: 0.29, 45: 0.24, 30: 0.19}
}
_EVERY = (
    *(2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128),
    *(160, 192, 224, 256, 320, 384, 448, 512, 768, 1024, 1536, 2048, 3072, 4096),
)
_SHARES = (0.75, 0.5), (0.5,), (0.35, 0.25, 0.15)  # of the usual zoom, rounded, by urgency
_BLOCKS = (2,), (3,), (4, 6, 8)  # sides of the blocks over which maps are averaged, by urgency
_GUESSES = 4  # settings that are tried before the rest is halved again and again
_SAFETY = 0.95  # of the limit is what an estimate may take


@dataclass(frozen=True)
class Setting:
    """One way to write an animation.

    Attributes:
        frames: Number of frames, evenly spread over those there are.
        share: Width and height of the maps, relative to the usual ones.
        quality: The crf of a video, the quality of a WebP (0 for exact), the colours of the
            colormap in a GIF, APNG or WebP that has to be exact; None for other formats.
        relative: About how many bytes it takes at that quality, relative to the best one, where
            that is known.
    """

    frames: int
    share: float = 1.0
    quality: int | None = None
    relative: float = 1.0

    @property
    def weight(self) -> float:
        """About how many bytes it takes, relative to another setting of about that quality."""
        return self.frames * self.share**2 * self.relative


def thinned(frames: int, every: int) -> int:
    """Returns the number of frames if every 2nd, 3rd ... is shown, with the first and the last."""
    return 1 + -(-(frames - 1) // every) if frames > 1 else frames


def quality_ladder(
    frames: int,
    form: str,
    *,
    quality: int | None = None,
    best: int | None = None,
    thin: bool = True,
    zoom: int | None = 1,
    mixed: bool = False,
) -> list[Setting]:
    """Returns settings from the best down, each a little smaller than the one before.

    Args:
        frames: Number of frames at most.
        form: `h264`, `av1`, `vp9`, `gif`, `webp`, `exact webp` or `apng`; others have no quality.
        quality: The one that was asked for, to be kept.
        best: The quality to begin with, if it is not the usual one.
        thin: Whether frames may be left out.
        zoom: The maps' usual zoom, the least of several layers; None where they must keep it.
        mixed: Whether layers have different ones.
    """
    qualities = list(_QUALITIES.get(form, (None,))) if quality is None else [quality]
    if quality is None and best is not None:
        qualities.insert(0, best)
    ladder = _Ladder(frames, qualities, thin, zoom or 0, mixed, _RELATIVE.get(form, {}))
    ladder.lower_quality(3)
    ladder.leave_frames_out(100)
    averages = mixed and zoom == 1  # at half their size, maps of a layer
    ladder.make_smaller(_SHARES[0][: 1 if averages else 2])
    ladder.leave_frames_out(40)
    ladder.lower_quality(2)
    ladder.leave_frames_out(25)
    ladder.make_smaller(_SHARES[1])
    ladder.leave_frames_out(16)
    ladder.make_smaller(_SHARES[2])
    ladder.leave_frames_out(12)
    ladder.average_blocks(_BLOCKS[0])
    ladder.lower_quality(1)
    ladder.average_blocks(_BLOCKS[1])
    ladder.leave_frames_out(8)
    ladder.average_blocks(_BLOCKS[2])
    ladder.leave_frames_out(4)
    return ladder.settings


class _Ladder:
    """Settings from the best down, to which smaller and smaller ones are added.

    Args:
        frames: Number of frames of the best one.
        qualities: From the best one down, at least one.
        thin: Whether frames may be left out.
        zoom: The maps' usual zoom; 0 where they must keep it.
        mixed: Whether layers have different ones.
        relative: Bytes of qualities relative to the best one, as far as they are known.
    """

    def __init__(
        self,
        frames: int,
        qualities: Sequence[int | None],
        thin: bool,
        zoom: int,
        mixed: bool,
        relative: Mapping[int | None, float],
    ) -> None:
        self._frames, self._thin, self._zoom, self._mixed = frames, thin, zoom, mixed
        self._relative = relative
        self._qualities = list(qualities)
        self.settings = [Setting(frames, 1.0, qualities[0])]

    def lower_quality(self, left: int) -> None:
        """Lowers the quality, until so many qualities are left."""
        while len(self._qualities) > left:
            self._qualities.pop(0)
            quality = self._qualities[0]
            relative = self._relative.get(quality, 1.0)
            self.settings.append(replace(self.settings[-1], quality=quality, relative=relative))

    def leave_frames_out(self, least: int) -> None:
        """Leaves more and more frames out, as long as so many remain."""
        for every in _EVERY if self._thin else ():
            remaining = thinned(self._frames, every)
            if least <= remaining < self.settings[-1].frames:
                self.settings.append(replace(self.settings[-1], frames=remaining))

    def make_smaller(self, shares: Sequence[float]) -> None:
        """Makes the maps smaller, to the whole zooms next to those shares of the usual one.

        Of layers that differ in zoom each has its own next to it.
        """
        for share in shares if self._zoom else ():
            whole = share if self._mixed else max(1, round(share * self._zoom)) / self._zoom
            if whole < self.settings[-1].share:
                self.settings.append(replace(self.settings[-1], share=whole))

    def average_blocks(self, sides: Sequence[int]) -> None:
        """Shows a pixel for each block of the maps, of those sides in pixels."""
        for side in sides if self._zoom else ():
            if (share := 1 / (side * self._zoom)) < self.settings[-1].share:
                self.settings.append(replace(self.settings[-1], share=share))


class SizeSearch:
    """Steps down a ladder until something fits.

    Args:
        settings: From `quality_ladder`.
        limit: Bytes.
        estimate: Measures what a setting would take, roughly. Each is asked for once at most.
    """

    def __init__(
        self, settings: list[Setting], limit: int, estimate: Callable[[Setting], float]
    ) -> None:
        self._settings, self._limit, self._measure = settings, limit, estimate
        self._estimates: dict[int, float] = {}
        self._truth = 1.0  # real size by estimate, as far as is known
        self._at = -1

    def first(self) -> Setting:
        """Returns the best setting that seems to fit.

        Raises:
            OptionError: None seems to, by far; the message says how small it can become.
        """
        return self._search(0)

    def next(self, size: float) -> Setting | None:
        """Returns a smaller setting, once the last one took `size` bytes; None at the end.

        The last setting is tried even where it does not seem to fit.
        """
        estimate = self._estimates.get(self._at, size)
        self._truth = max(1.0, size / max(estimate, 1.0))
        if self._at + 1 >= len(self._settings):
            return None
        return self._search(self._at + 1)

    def _search(self, low: int) -> Setting:
        high = len(self._settings) - 1
        if self._fits(low):
            high = low
        elif high > low and not self._fits(high):
            low = high
        for step in itertools.count():  # low does not fit, high does
            if high - low <= 1:
                break
            between = self._guess(low, high) if step < _GUESSES else (low + high) // 2
            low, high = (low, between) if self._fits(between) else (between, high)
        self._at = high
        smallest = self._estimate(high)
        if high == len(self._settings) - 1 and smallest > 1.25 * self._limit:
            raise too_small(self._limit, smallest, self._settings[high])
        return self._settings[high]

    def _guess(self, low: int, high: int) -> int:
        """Returns the first setting between two that should fit, going by the nearer of them."""
        near = min(low, high, key=lambda place: abs(math.log(self._estimate(place) / self._limit)))
        each = self._estimate(near) / self._settings[near].weight
        for place in range(low + 1, high - 1):
            if self._settings[place].weight * each <= _SAFETY * self._limit:
                return place
        return high - 1

    def _estimate(self, place: int) -> float:
        if place not in self._estimates:
            self._estimates[place] = self._measure(self._settings[place])
        return self._estimates[place] * self._truth

    def _fits(self, place: int) -> bool:
        return self._estimate(place) <= _SAFETY * self._limit


def too_small(limit: int, smallest: float, setting: Setting) -> OptionError:
    """Returns the error where nothing fits: how small it can become, and what would help."""
    enough = 1.1 * smallest / 1e6
    return OptionError(
        f"{spell('max_mb')} {limit / 1e6:g}: the smallest that can be made takes about "
        f"{smallest / 1e6:.2g} MB ({format_count(setting.frames, 'frame')}); allow {enough:.2g} "
        f"MB or none, or choose fewer layers or channels, {spell('input', False)}, or no "
        f"{spell('zoom')}, {spell('crf')} or {spell('batches')}"
    )


def describe_savings(chosen: Setting, best: Setting, frames: int, form: str, size: str) -> str:
    """Returns what was given up: `every 3rd frame (120 of 358), crf 26`; empty if nothing.

    Args:
        chosen: The setting that was chosen.
        best: The one that gives up nothing.
        frames: Number of frames that there are.
        form: As in `quality_ladder`.
        size: The size of the maps, in words.
    """
    words = []
    if chosen.frames < frames:
        words.append(_every_nth(chosen.frames, frames))
    if chosen.share < 1:
        words.append(size)
    if chosen.quality != best.quality:
        lossy = f"{'quality' if form == 'webp' else 'crf'} {chosen.quality}"
        words.append(f"{chosen.quality} colours" if form in COLOURS else lossy)
    return ", ".join(words)


def _every_nth(shown: int, frames: int) -> str:
    if shown < 2:
        return f"{shown} of {format_count(frames, 'frame')}"
    step = (frames - 1) / (shown - 1)
    nth = round(step)
    if nth < 2:
        return f"{shown:,} of {format_count(frames, 'frame')}"
    ending = "th" if nth % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(nth % 10, "th")
    return f"{'' if step == nth else 'about '}every {nth}{ending} frame ({shown:,} of {frames:,})"
