"""Values over the picture that they belong to, as pictures in colours that are drawn like maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from replay.formatting import format_number
from replay.maps.overlaid import Overlaid, Strengths, TilePicture
from replay.options import FilmOptions
from replay.raster.overlay import OverlayColours, enlarge_map, to_gray
from replay.raster.palette import Pixels, Range
from replay.recording import Recording, Series
from replay.recording.derived import ColourSeries
from replay.recording.series import parse_key
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
        strengths: The ranges, perhaps of more than these tiles.
        which: The place of these tiles among those of `strengths`.
        colours: What the values look like.
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
        self.overlaid, self._way = overlaid, way
        frames = source.frames
        values = overlaid[frames[0]].shape[1:] if frames else (1, 1)
        self.picture = TilePicture(recording, frames, (values[0], values[1]))
        shape = (len(overlaid.labels), *self.picture.size)
        about = source.layer
        layer = replace(
            about, shape=shape, axes="CHW", kind="", note=note, kernel=None, pooled=1, grid=None
        )
        super().__init__(source, replace(layer, scaled=False, queries="", of=""))
        self.use(Strengths([overlaid], frames, options, source.probe_number is not None), 0, options)

    def use(self, strengths: Strengths, which: int, options: FilmOptions) -> None:
        """Has the tiles shown under ranges that hold for others, too.

        Args:
            strengths: The ranges.
            which: The place of these tiles among theirs.
            options: The colormap.
        """
        self.strengths, self.which = strengths, which
        cmap = None if options.cmap == _USUAL else options.cmap
        self.colours = OverlayColours(cmap, strengths.signed)

    @property
    def labels(self) -> Sequence[str]:
        """What each tile is called."""
        return self.overlaid.labels

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self.overlaid.present

    def tiles(self, cell: Cell, shrink: int = 1) -> list[Pixels]:
        """Returns the pictures of a frame, each uint8 (H, W, 3).

        Args:
            cell: Epoch and batch.
            shrink: Rows and columns of the picture that become a pixel.

        Raises:
            DamagedError: What they are made of is damaged.
        """
        values = self.strengths.values(self.which, cell)
        if cell in self.overlaid.damaged:
            raise DamagedError(self.overlaid.damaged[cell])
        gray = to_gray(self.picture.show(cell, shrink))
        ranges = self.ranges_at(cell)
        if all(each == ranges[0] for each in ranges):
            return list(self.colours.lay(values, gray, ranges[0], self._way))
        each = zip(values, ranges, strict=True)
        return [self.colours.lay(value, gray, shown, self._way) for value, shown in each]

    def ranges_at(self, cell: Cell) -> list[Range]:
        """Returns the range of values under which each tile of a frame is shown."""
        return self.strengths.ranges(self.which, cell)

    def remark(self, cell: Cell) -> str:
        """Returns the values between which the tiles of a frame are shown, in words."""
        if not self.present[cell]:
            return ""
        ranges = self.ranges_at(cell)
        if all(each == ranges[0] for each in ranges):
            return ranges[0].in_words()
        low, high = min(each.high for each in ranges), max(each.high for each in ranges)
        return f"each to its own greatest, {format_number(low)} to {format_number(high)}"

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns the values at the picture's size, float16 (N, H, W); see `Series`."""
        cell = self._snapshot.locate(*parse_key(key))
        values = self.overlaid[cell]
        if cell in self.overlaid.damaged:
            raise DamagedError(self.overlaid.damaged[cell])
        known = np.where(np.isfinite(values), values, 0.0).astype(np.float32)
        with np.errstate(over="ignore"):
            return enlarge_map(known, self.picture.size, self._way).astype(np.float16)
