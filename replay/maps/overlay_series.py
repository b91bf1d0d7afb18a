"""Values over the picture that they belong to, as pictures in colours that are drawn like maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from replay.formatting import format_number
from replay.maps.overlaid import Overlaid, Strengths, TilePicture, describe_unfinite
from replay.options import FilmOptions
from replay.raster.overlay import OverlayColours, enlarge_map, to_gray
from replay.raster.palette import Pixels, Range
from replay.recording import Recording, Series
from replay.recording.derived import ColourSeries
from replay.recording.snapshot import parse_key
from replay.schema import Cell, DamagedError, Float16Array

_USUAL = "gray"  # the colormap of maps: over a picture in gray it would show nothing


class OverlaySeries(ColourSeries):
    """Pictures, one for each tile: values in colours over the picture in gray.

    Args:
        recording: Where the picture is.
        source: The frames of which the values are made.
        overlaid: The values.
        options: The scale and the colormap.
        way: How values are enlarged: `bilinear` or `nearest`.
        note: What is to be said of it.

    Attributes:
        overlaid: As given.
        picture: The picture.
    """

    def __init__(
        self,
        recording: Recording,
        source: Series,
        overlaid: Overlaid,
        options: FilmOptions,
        way: str,
        note: str,
    ) -> None:
        self.overlaid, self._way, self.labels = overlaid, way, tuple(overlaid.labels)
        frames = source.frames
        values = overlaid[frames[0]].shape[1:] if frames else (1, 1)
        self.picture = TilePicture(recording, frames, (values[0], values[1]))
        layer = replace(
            source.layer,
            shape=(len(overlaid.labels), *self.picture.size),
            axes="CHW",
            kernel=None,
            pooled=1,
            note=note,
            kind="",
            scaled=False,
            queries="",
            grid=None,
            of="",
        )
        super().__init__(source, layer)
        steady = source.probe_number is not None
        self.use(Strengths([overlaid], frames, options, steady), 0, options)

    def use(self, strengths: Strengths, which: int, options: FilmOptions) -> None:
        """Has the tiles shown under ranges that hold for others, too.

        Args:
            strengths: The ranges.
            which: The place of these tiles among theirs.
            options: The colormap.
        """
        self._strengths, self._which = strengths, which
        cmap = None if options.cmap == _USUAL else options.cmap
        self._colours = OverlayColours(cmap, strengths.signed)

    @property
    def signed(self) -> bool:
        """Whether ranges are symmetric around zero."""
        return self._strengths.signed

    @property
    def own_ranges(self) -> bool:
        """Whether each tile has a range of its own."""
        return self._strengths.own

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self.overlaid.present

    def tiles(self, cell: Cell, channels: Sequence[int] | None = None, shrink: int = 1) -> Pixels:
        """Returns the pictures of a frame, uint8 (N, H, W, 3); see `ColourSeries`."""
        values = self._strengths.values(self._which, cell)
        if cell in self.overlaid.damaged:
            raise DamagedError(self.overlaid.damaged[cell])
        chosen = range(len(values)) if channels is None else channels
        height, width = (-(-side // shrink) for side in self.picture.size)
        gray = to_gray(self.picture.show(cell, shrink))
        found: Pixels = np.full((len(chosen), height, width, 3), 128, np.uint8)
        ranges = self.ranges_at(cell)
        for place, channel in enumerate(chosen):
            shown = self._colours.lay(values[channel], gray, ranges[channel], self._way)
            found[place, : shown.shape[0], : shown.shape[1]] = shown
        return found

    def bar(self, steps: int) -> Pixels:
        """Returns the colours of the colour bar, uint8 (steps, 3)."""
        return self._colours.bar(steps)

    def shown(self, cell: Cell) -> tuple[float, float] | None:
        """Returns the values of both ends of the colour bar; see `ColourSeries`."""
        ranges = self.ranges_at(cell)
        if not any(each.high > each.low for each in ranges) and not self._has_finite(cell):
            return np.nan, np.nan
        return (ranges[0].low, ranges[0].high) if len(set(ranges)) == 1 else None

    def not_finite(self, cell: Cell) -> str:
        """Returns how much of a frame is not finite, in words; see `ColourSeries`."""
        values = self._strengths.values(self._which, cell)
        return "" if cell in self.overlaid.damaged else describe_unfinite(values)

    def ranges_at(self, cell: Cell) -> list[Range]:
        """Returns the range of values under which each tile of a frame is shown."""
        return self._strengths.ranges(self._which, cell)

    def remark(self, cell: Cell) -> str:
        """Returns how far the tiles of a frame reach, in words, where each has a range of its own.

        Also that there is nothing above zero, and what is not finite.
        """
        if not self.present[cell]:
            return ""
        return ", ".join(filter(None, [self._reach(cell), self.not_finite(cell)]))

    def _reach(self, cell: Cell) -> str:
        highs = [each.high for each in self.ranges_at(cell)]
        if not any(highs):
            if not self._has_finite(cell):
                return ""
            return "nothing but 0" if self.signed else "nothing above 0"
        if len(set(highs)) == 1:
            return ""
        to = "±" if self.signed else ""
        return f"each up to {to}{format_number(min(highs))} – {to}{format_number(max(highs))}"

    def _has_finite(self, cell: Cell) -> bool:
        return bool(np.isfinite(self._strengths.values(self._which, cell)).any())

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns the values at the picture's size, float16 (N, H, W); see `Series`."""
        cell = self._snapshot.locate(*parse_key(key))
        values = self.overlaid[cell]
        if cell in self.overlaid.damaged:
            raise DamagedError(self.overlaid.damaged[cell])
        known = np.where(np.isfinite(values), values, 0.0).astype(np.float32)
        with np.errstate(over="ignore"):
            return enlarge_map(known, self.picture.size, self._way).astype(np.float16)


def share_ranges(
    recordings: Sequence[Recording], names: Sequence[str], options: FilmOptions
) -> None:
    """Has the tiles of several recordings shown under ranges that mean the same.

    Args:
        recordings: What is shown of each image, or run.
        names: The layers.
        options: The scale and the colormap.
    """
    shown = [each[name] for each in recordings for name in names if name in each]
    overlays = [each for each in shown if isinstance(each, OverlaySeries)]
    if not overlays:
        return
    cells = sorted({cell for each in overlays for cell in each.frames})
    steady = overlays[0].probe_number is not None
    strengths = Strengths([each.overlaid for each in overlays], cells, options, steady)
    for place, series in enumerate(overlays):
        series.use(strengths, place, options)
