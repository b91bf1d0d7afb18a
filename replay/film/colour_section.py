"""What a film shows of a layer in true colours: a picture a tile, such as a map over the input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from replay.film.sections import MapSection
from replay.formatting import format_number
from replay.maps.probe_tiles import fit_picture
from replay.maps.runs import Count, Row
from replay.raster.frame import Overlay
from replay.raster.mosaic import Mosaic, blank
from replay.raster.palette import Palette, Range
from replay.recording.derived import ColourSeries
from replay.schema import Cell, DamagedError

_NO_FRAME = "no frame in this batch"


class ColourSection(MapSection):
    """A layer's pictures in colours, of a `ColourSeries`.

    The range is what the colour bar says.
    """

    _tiles: npt.NDArray[np.uint8] | None = None

    def draw(
        self, plane: npt.NDArray[np.uint8], corner: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Leaves the tiles empty, on which the pictures of a frame will lie; see `Section`."""
        blank(plane, *corner, self.panel.mosaic, palette.paper, palette.solid("faint"))
        self._tiles, problem = self._find(cell)
        series = self.row.maps.series
        assert isinstance(series, ColourSeries), "pictures in colours"
        shown = series.shown(cell) if self._tiles is not None else None
        count = problem or series.remark(cell) or (0, 0)
        return None if shown is None else Range.between(*shown), count

    def is_plain(self, count: Count) -> bool:
        """Returns False: pictures have colours of their own."""
        return False

    def overlays(self, corner: Cell, cell: Cell) -> Iterator[Overlay]:
        """Yields the picture of each tile."""
        if self._tiles is None:
            return
        mosaic = self.panel.mosaic
        for place, tile in enumerate(self._tiles):
            y, x = mosaic.corner(place)
            yield Overlay(tile, corner[0] + y, corner[1] + x, _zoom(mosaic))

    def _find(self, cell: Cell) -> tuple[npt.NDArray[np.uint8] | None, str]:
        """Returns the pictures of a frame at the size at which they are shown, or why none."""
        maps = self.row.maps
        series = maps.series
        assert isinstance(series, ColourSeries), "pictures in colours"
        if not series.present[cell]:
            return None, _NO_FRAME
        try:
            tiles = _pictures(series, cell, self.channels, self.panel.mosaic)  # (N, H, W, 3)
        except DamagedError as error:
            maps.damaged[cell] = str(error)
            return None, "damaged"
        return np.ascontiguousarray(tiles), ""


def tiles_of(
    row: Row, channels: Sequence[int], mosaic: Mosaic, cell: Cell, corner: Cell
) -> Iterator[Overlay]:
    """Yields the picture of each tile of a frame; nothing where there is no frame.

    Args:
        row: The layer.
        channels: Which tiles.
        mosaic: Where they go.
        cell: The (epoch, batch) of the frame.
        corner: Row and column of the mosaic.
    """
    series = row.maps.series
    assert isinstance(series, ColourSeries), "pictures in colours"
    if series.present[cell]:
        for place, tile in enumerate(_pictures(series, cell, channels, mosaic)):
            y, x = mosaic.corner(place)
            picture = np.ascontiguousarray(tile)
            yield Overlay(picture, corner[0] + y, corner[1] + x, _zoom(mosaic))


def _pictures(
    series: ColourSeries, cell: Cell, channels: Sequence[int], mosaic: Mosaic
) -> npt.NDArray[np.uint8]:
    """Returns the pictures of a frame, as large as they are drawn but for `_zoom`."""
    if not (mosaic.strip or mosaic.band):
        return series.tiles(cell, channels, mosaic.shrink)
    return np.stack([fit_picture(each, mosaic.tile) for each in series.tiles(cell, channels)])


def _zoom(mosaic: Mosaic) -> int:
    return 1 if mosaic.strip or mosaic.band else mosaic.zoom


def joint_range(rows: Sequence[Row], cell: Cell) -> Range | None:
    """Returns the values of the colour bar of several layers; None where they have their own."""
    found = {_shown(row, cell) for row in rows if row.maps.series.present[cell]}
    ends = found.pop() if len(found) == 1 else None
    return None if ends is None else Range.between(*ends)


def words_of(row: Row, cell: Cell) -> str:
    """Returns what is to be said of one of several layers: how far it reaches, and its remark."""
    ends = _shown(row, cell)
    reach = ""
    if ends is not None and ends[1] > ends[0]:
        reach = f"up to {'±' if ends[0] == -ends[1] else ''}{format_number(ends[1])}"
    return ", ".join(filter(None, [reach, row.maps.series.remark(cell)]))


def _shown(row: Row, cell: Cell) -> tuple[float, float] | None:
    series = row.maps.series
    assert isinstance(series, ColourSeries), "pictures in colours"
    return series.shown(cell)
