"""A film of all fixed images at once: a row each, and what is shown of its layers in columns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from replay.film.film import LEVELS_OF_A_BAR, BaseFilm
from replay.film.frame_layout import FrameLayout
from replay.film.probe_heads import HeadWriter
from replay.formatting import clean, format_count
from replay.maps.probe_tiles import ProbeTiles
from replay.maps.probe_views import look_at_all
from replay.maps.runs import Count, FilmFacts, Headings, LayerPanel, RunSet
from replay.options import FilmOptions
from replay.raster.arrangement import mosaic_space
from replay.raster.block_mosaic import BlockMosaic, arrange_blocks, make_smaller
from replay.raster.fonts import missing_remarks
from replay.raster.frame import Overlay
from replay.raster.palette import Palette, Range
from replay.recording import Recording
from replay.schema import Cell, DamagedError
from replay.schema.faces import spell

_BELOW = "0 to the number below each tile"
_BOTH_SIGNS = "from − to + the number below each tile"
_NO_FRAME = "no frame in this batch"
_FRAMES = ((1920, 1080), (2560, 1440))  # taken where tiles would be small in a usual frame
_LARGE = 96  # pixels: a tile that needs no larger frame


class ProbeGridFilm(BaseFilm):
    """The frames of an animation of several fixed images of one run.

    Args:
        images: What is shown of each image, as `probe_views.look_at_all` gives it.
        options: What is shown, and how it looks.

    Attributes:
        facts: What is known of the run.
        quantity: What the values are, in a word.
        scale: What the range of values is, in words.
        shown: Number of images that the frame has space for, the first ones.
    """

    layout: FrameLayout
    map_sections: tuple[()] = ()

    def __init__(self, images: Sequence[Recording], options: FilmOptions) -> None:
        first = images[0]
        names = [first.layers[0]] if options.layers is None else list(options.layers)
        runs = RunSet(first, names, options.slices, options.tokens)
        self.cells = runs.cells(options.epochs, options.batches)
        self.facts = FilmFacts.read(runs)
        self.remarks = runs.remarks
        self.notes = []
        self.quantity, self.scale = first.quantity, first.scale_words
        self.palette = Palette(options.cmap, min(options.levels, LEVELS_OF_A_BAR), options.theme)
        self._tiles = [ProbeTiles(image, names, self.cells, options.input) for image in images]
        bar = self._tiles[0].bar(self.palette.levels)
        if bar is not None:
            self.palette.table[: len(bar)] = bar
        mosaic = self._arrange(options)
        self.shown = mosaic.count // mosaic.each
        if mosaic.each < (every := len(self._tiles[0].labels)):
            self.notes.append(_describe_columns(mosaic.each, every))
            for each in self._tiles:
                each.keep(mosaic.each)
        if self.shown < len(self._tiles):
            self.notes.append(_describe_left_out(self.shown, len(self._tiles)))
            self._tiles = self._tiles[: self.shown]
        self._mosaic = mosaic
        self._problems: dict[int, str] = {}
        self._damaged: list[dict[Cell, str]] = [{} for _ in self._tiles]
        self._pictures: list[npt.NDArray[np.uint8] | None] = []
        self._lay_out(names, options)

    @property
    def damaged(self) -> list[str]:
        """What is wrong with the damaged frames that were met so far."""
        return [text for found in self._damaged for text in found.values()]

    def findings(self) -> list[dict[Cell, Count]]:
        """Returns what is wrong with damaged frames by image, and by (epoch, batch)."""
        return [dict(found) for found in self._damaged]

    def note_findings(self, found: list[dict[Cell, Count]]) -> None:
        """Adds what `findings` returned in another process that rendered some of the frames."""
        for mine, theirs in zip(self._damaged, found, strict=True):
            mine.update({cell: each for cell, each in theirs.items() if isinstance(each, str)})

    def _arrange(self, options: FilmOptions) -> BlockMosaic:
        tiles = self._tiles[0]
        size = (
            max(each.size[0] for each in self._tiles),
            max(each.size[1] for each in self._tiles),
        )
        mosaic: BlockMosaic | None = None
        for frame in (None, *_FRAMES) if options.bounds is None else (options.bounds,):
            space = replace(mosaic_space(1, options.captions, [], frame), least=0)
            mosaic = arrange_blocks(
                len(self._tiles),
                len(tiles.labels),
                size,
                space,
                captions=options.captions,
                zoom=options.zoom,
                columns=options.columns,
                values=tiles.own,
            )
            everything = mosaic.count == len(self._tiles) * len(tiles.labels)
            if everything and min(mosaic.tile) >= _LARGE:
                break
        assert mosaic is not None
        return make_smaller(mosaic, options.share) if options.share < 1 else mosaic

    def _lay_out(self, names: Sequence[str], options: FilmOptions) -> None:
        """Draws all that stays from frame to frame."""
        tiles, mosaic = self._tiles[0], self._mosaic
        name = clean(names[0]) if len(names) == 1 else format_count(len(names), "layer")
        details = ", ".join(filter(None, [format_count(self.shown, "fixed image"), tiles.note]))
        smaller = f", {mosaic.in_words()}" if mosaic.in_words() else ""
        panel = LayerPanel(mosaic, [""] * mosaic.count, name, details + smaller)
        self.panels = [panel]
        heading = Headings(
            clean(options.title) if options.title else name,
            f"{name}   {panel.details}" if options.title else panel.details,
            (", ".join(filter(None, [self.quantity, self.scale])),),
        )
        self.layout = FrameLayout([panel], self.palette, self.facts, [], heading, options)
        corner = self.layout.mosaic_corners[0]
        self._heads = HeadWriter(self.layout.pen, mosaic, corner, self._tiles)
        self.remarks = [*self.remarks, *missing_remarks(self.layout.texts)]
        self._mosaic_boxes = [mosaic.boxes(*corner)]

    def _draw(self, cell: Cell) -> tuple[()]:
        plane, palette = self.layout.plane, self.palette
        self._pictures = []
        problems: set[str] = set()
        for place, tiles in enumerate(self._tiles):
            for picture in self._find(place, tiles, cell):
                self._pictures.append(picture)
                if picture is None:
                    problems.add("damaged" if cell in self._damaged[place] else _NO_FRAME)
            if odd := tiles.not_finite(cell):
                problems.add(f"{tiles.name}: {odd}")
        for top, left, bottom, right in self._mosaic_boxes[0]:
            box = plane[top:bottom, left:right]
            box[...] = palette.paper
        for place, picture in enumerate(self._pictures):
            if picture is None:
                top, left, bottom, right = self._mosaic_boxes[0][place]
                plane[top:bottom, left:right] = palette.solid("faint")
                plane[top + 1 : bottom - 1, left + 1 : right - 1] = palette.paper
        tiles = self._tiles[0]
        shown = Range(0.0, 1.0, _BOTH_SIGNS if tiles.signed else _BELOW) if tiles.own else None
        if not tiles.own and (ends := tiles.shown(cell)) is not None:
            shown = Range.between(*ends)
        count = ", ".join(sorted(problems)) or (0, 0)
        self.layout.update(*cell, [shown], [count])
        self._heads.update(cell)
        return ()

    def _find(
        self, place: int, tiles: ProbeTiles, cell: Cell
    ) -> list[npt.NDArray[np.uint8] | None]:
        """Returns the pictures of one image; None for each that is not there."""
        try:
            return tiles.pictures(cell, self._mosaic.shrink)
        except DamagedError as error:
            self._damaged[place][cell] = str(error)
            return [None] * len(tiles.labels)

    def _overlays(self, cell: Cell) -> Iterator[Overlay]:
        top, left = self.layout.mosaic_corners[0]
        for place, picture in enumerate(self._pictures):
            if picture is not None:
                y, x = self._mosaic.corner(place)
                yield Overlay(picture, top + y, left + x, self._mosaic.zoom)


def _describe_left_out(shown: int, images: int) -> str:
    return (
        f"shows {shown} of {images} fixed images, which fill the frame; fewer layers "
        f"({spell('layers')}), or {spell('zoom')}, leave space for more"
    )


def _describe_columns(shown: int, every: int) -> str:
    return (
        f"shows {shown:,} of {every:,} columns, which fill the frame; {spell('channels')} or "
        f"{spell('layers')} chooses others"
    )


def open_grid(
    runs: Sequence[Recording], options: FilmOptions
) -> tuple[Callable[[FilmOptions], ProbeGridFilm], FilmOptions]:
    """Returns what makes films of all fixed images of a run, and the options that suit them.

    Raises:
        OptionError: Several runs, or one fixed image alone.
        SelectionError: The run has no fixed image, or nothing of what is to be shown.
    """
    images, options = look_at_all(runs, options)
    return functools.partial(ProbeGridFilm, images), options
