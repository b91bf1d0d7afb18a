"""From recordings to frames: select, scale, tile, caption.

`BaseFilm.frames` is the pipeline; all else prepares it. Nothing is kept from frame to frame but one
plane, so memory does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from replay.film.extras import KERNEL_ROWS, Extras, HistogramSource
from replay.film.frame_layout import BaseLayout, FrameLayout
from replay.film.overview import (
    LEAST_TILE,
    arrange_layers,
    describe_cut,
    describe_left_out,
    overview_of,
    tiling_of,
)
from replay.film.section_heads import histogram_titles
from replay.film.sections import MapSection, Section
from replay.formatting import clean, format_module
from replay.idle_options import check_layers
from replay.maps.axes import (
    Maps,
    choose_channels,
)
from replay.maps.channel_order import order_channels
from replay.maps.input_picture import InputPicture
from replay.maps.runs import (
    Count,
    FilmFacts,
    InputCaption,
    LayerPanel,
    Row,
    RunSet,
    choose_headings,
    choose_layers_of,
)
from replay.maps.scaling import choose_scalers
from replay.options import DIVERGING, FilmOptions
from replay.raster.arrangement import (
    SIDE,
    Space,
    count_fitting,
    make_smaller,
    mosaic_space,
)
from replay.raster.fonts import missing_remarks
from replay.raster.frame import Frame, Overlay
from replay.raster.mosaic import Box, Mosaic
from replay.raster.palette import Palette, TwoMapPalette
from replay.recording import Recording
from replay.schema import Cell

LEVELS_OF_A_BAR = 120  # colours, so that a palette of 256 has as many for pictures


class BaseFilm:
    """The frames of an animation, all of one size: what films of one run and of two share.

    Attributes:
        palette: The colours of the planes.
        layout: What surrounds the maps.
        cells: (epoch, batch) of each frame.
        remarks: What a reader should know of the choice, a line each.
        panels: The layers, from top to bottom, and where their maps go.
        notes: What was left out because a frame has no space for it, a line each.
    """

    palette: Palette
    layout: BaseLayout
    cells: list[Cell]
    remarks: list[str]
    panels: list[LayerPanel]
    notes: list[str]
    _maps: list[Maps]  # of each mosaic of maps
    _mosaic_boxes: list[list[Box]]  # of each mosaic, where its tiles are
    _calls = _drawing = 0  # how often `frames` was called, and whose frame is on the plane

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame in pixels, both even."""
        return self.layout.plane.shape[0], self.layout.plane.shape[1]

    def frames(self, cells: Sequence[Cell] | None = None) -> Iterator[Frame]:
        """Yields frames in order; each is valid until the next one is asked for.

        Args:
            cells: The (epoch, batch) of those that are drawn, of those of the film, in its order;
                default all.
        """
        cells = self.cells if cells is None else cells
        self._recall(self.cells[: self.cells.index(cells[0])] if cells else [])
        self._calls += 1
        call = self._calls
        for cell in cells:
            plain = self._draw(cell)
            touched = self.layout.take_touched()
            boxes = (*chain(*self._mosaic_boxes), *touched)
            changed = boxes if self._drawing == call else None
            self._drawing = call
            yield Frame(self.layout.plane, tuple(self._overlays(cell)), changed, plain)

    @property
    def damaged(self) -> list[str]:
        """What is wrong with the damaged frames that were met so far."""
        return [text for maps in self._maps for text in maps.damaged.values()]

    def findings(self) -> list[dict[Cell, Count]]:
        """Returns what was met so far, by layer and run, and by (epoch, batch).

        It is what is wrong with a frame that is damaged, else how many values are not finite.
        """
        return [{**maps.counts, **maps.damaged} for maps in self._maps]

    def note_findings(self, found: list[dict[Cell, Count]]) -> None:
        """Adds what `findings` returned in another process that rendered some of the frames."""
        for maps, theirs in zip(self._maps, found, strict=True):
            for cell, each in theirs.items():
                if isinstance(each, str):
                    maps.damaged[cell] = each
                else:
                    maps.counts[cell] = each

    def _recall(self, before: Sequence[Cell]) -> None:
        """Prepares for a first frame that has these before it."""

    def _draw(self, cell: Cell) -> tuple[Box, ...]:
        """Draws a frame, and returns the boxes without marks; see `Frame.plain`."""
        raise NotImplementedError

    def _overlays(self, cell: Cell) -> Iterator[Overlay]:
        """Yields what lies on a frame in true colours."""
        raise NotImplementedError


class Film(BaseFilm):
    """The frames of an animation of one run, or of several in rows.

    Args:
        recordings: Where the maps are. Of several, those epochs and batches are shown that all
            of them have, and each layer of each has a row.
        options: What is shown, and how it looks.

    Raises:
        SelectionError: What was asked for is not in the recording.
        OptionError: A colormap, theme, scale, clip, zoom or number of columns that cannot be used.

    Attributes:
        facts: What is known of the run.
        inputs: The input picture of each recording, if it is shown.
        sections: What is drawn, from top to bottom: the maps of each layer and what is beside them.
        map_sections: The maps of each layer.
        cmap: The name of the colormap.
        scale_mode: Which values share one range: `run`, `epoch`, `frame` or `channel`.
        scale: What the range of values is, in words.
        quantity: What the values are, in a word.
    """

    layout: FrameLayout

    def __init__(
        self, recordings: Recording | Sequence[Recording], options: FilmOptions | None = None
    ) -> None:
        options = options or FilmOptions()
        extras = Extras.parse(options) if options.show else None
        self.cmap, self.notes, self._cut = options.cmap, [], 0
        self.scale_mode = options.scale if options.clip is None else "run"
        runs = self._plan(recordings, options, extras)
        self._build_sections(runs, options, extras)
        self._lay_out(runs, options, extras)

    def _plan(
        self,
        recordings: Recording | Sequence[Recording],
        options: FilmOptions,
        extras: Extras | None,
    ) -> RunSet:
        """Chooses layers, frames and colours."""
        opened = [recordings] if isinstance(recordings, Recording) else recordings
        self._layers = choose_layers_of(opened, options.layers)
        runs = RunSet(opened, self._layers, options.slices, options.tokens)
        check_layers(vars(options), [row.maps.layer.axes for row in runs.rows])
        most = self._most_layers(runs, options, extras)
        if most < len(self._layers):
            self.notes.append(describe_left_out(self._layers, most))
            self._layers = self._layers[:most]
            runs = RunSet(opened, self._layers, options.slices, options.tokens)
        self.remarks = runs.remarks
        self.cells = runs.cells(options.epochs, options.batches)
        self.facts = FilmFacts.read(runs)
        diverging = False
        if extras is not None:
            extras.check(runs.rows, self.facts)
            diverging = extras.needs_diverging(runs.rows)
        levels, theme = options.levels, options.theme
        first = runs.rows[0].maps.series
        if first.in_colour:  # pictures need what the colour bar does not
            levels = min(levels, LEVELS_OF_A_BAR)
        self.palette = (
            TwoMapPalette(options.cmap, DIVERGING, levels, theme)
            if diverging
            else Palette(options.cmap, levels, theme)
        )
        if (bar := first.bar(self.palette.levels)) is not None:
            self.palette.table[: len(bar)] = bar
        number = len(runs.recordings)
        side = _picture_side(number)
        self.inputs = [
            InputPicture(recording, self.cells, side)
            if options.input and InputPicture.possible(recording)
            else None
            for recording in runs.recordings
        ]
        return runs

    def _build_sections(self, runs: RunSet, options: FilmOptions, extras: Extras | None) -> None:
        """Makes what is drawn of each layer, from top to bottom."""
        maps, kernels = (len(runs.rows), 0) if extras is None else extras.count(runs.rows)
        number = maps + kernels
        self._overview = overview_of(runs, number, options, self.picture_sizes)
        space = mosaic_space(number, options.captions, self.picture_sizes, options.bounds)
        if self._overview is not None:
            space = self._overview.space
        elif kernels:  # which have a height of their own
            left = space.height * number - kernels * KERNEL_ROWS
            space = replace(space, height=max(60, left // maps))
        by_row: dict[int, tuple[MapSection, list[Section]]] = {}
        layers = []
        for joint, rows in runs.groups():
            cells = [cell for cell in self.cells if joint.present(cell)]
            channels = choose_channels(joint, options.channels, cells)
            if options.order != "number":
                channels = order_channels(joint, channels, cells, options.order)
            if self._overview is not None or options.bounds is not None:
                channels = self._fitting(rows[0].maps, channels, options, space)
            scalers = choose_scalers(joint, cells, channels, options, self.palette.levels)
            layers.append((rows, channels, scalers, cells))
        shown = [(rows, channels) for rows, channels, *_ in layers]
        mosaics = arrange_layers(shown, options, space, self._overview is None and extras is None)
        for (rows, channels, scalers, cells), mosaic in zip(layers, mosaics, strict=True):
            for row, scaler in zip(rows, scalers, strict=True):
                panel = self._panel(row, channels, mosaic, runs, options)
                section = MapSection(row, channels, scaler, panel)
                if row.maps.series.in_colour:
                    from replay.film.colour_section import ColourSection

                    section = ColourSection(row, channels, scaler, panel)
                by_row[runs.rows.index(row)] = section, []
                if extras is not None:
                    more = extras.sections(
                        row, channels, panel, cells, self.palette, options, space
                    )
                    by_row[runs.rows.index(row)][1].extend(more)
        if self._cut:
            self.notes.append(describe_cut(self._cut, len(self._layers)))
        ordered = [by_row[place] for place in sorted(by_row)]
        self.map_sections = [section for section, _ in ordered]
        self.sections = [each for section, more in ordered for each in (section, *more)]
        self._maps = [section.row.maps for section in self.map_sections]
        self.panels = [section.panel for section in self.map_sections]
        if len(self.map_sections) == 1 < len(self.sections):  # the heading names it
            self.map_sections[0].panel = replace(self.panels[0], name="maps", details="")

    def _most_layers(self, runs: RunSet, options: FilmOptions, extras: Extras | None) -> int:
        """Returns the number of layers that one frame has space for, at least one."""
        sections = len(runs.rows) if extras is None else sum(extras.count(runs.rows))
        number = len(runs.recordings)
        side = _picture_side(number)
        pictures = [(side, side)] * number if options.input else []
        overview = overview_of(runs, sections, options, pictures)
        if overview is None:
            return len(self._layers)
        return max(1, overview.most * len(self._layers) // sections)

    def _fitting(
        self, maps: Maps, channels: list[int], options: FilmOptions, space: Space
    ) -> list[int]:
        """Returns those channels, the first ones, for whose maps there is space."""
        most = count_fitting(
            len(channels) * maps.slices,
            *maps.size,
            space,
            least=LEAST_TILE if self._overview is not None else 1,
            **tiling_of(maps, channels, options),
        )
        fitting = channels[: most // maps.slices]
        self._cut += len(fitting) < len(channels)
        return fitting

    def _panel(
        self,
        row: Row,
        channels: list[int],
        mosaic: Mosaic,
        runs: RunSet,
        options: FilmOptions,
    ) -> LayerPanel:
        """Returns where a row's maps go, and what is written about them."""
        maps = row.maps
        labels = maps.labels(channels)
        if options.share < 1:
            tiling = tiling_of(maps, channels, options)
            mosaic = make_smaller(mosaic, options.share, tiling["digits"], tiling["gains"])
        names = [maps.layer.name] if not runs.several or len(self._layers) > 1 else []
        name = ", ".join([*names, *filter(None, [runs.labels[row.place]])])
        smaller = f", {mosaic.in_words()}" if mosaic.in_words() else ""
        details = f"{format_module(maps.layer.module)}   {maps.in_words(len(channels))}{smaller}"
        return LayerPanel(mosaic, labels, clean(name), details.strip(), gains=options.own_ranges)

    def _lay_out(self, runs: RunSet, options: FilmOptions, extras: Extras | None) -> None:
        """Draws all that stays from frame to frame."""
        self.quantity = runs.recordings[0].quantity
        self.scale = runs.recordings[0].scale_words
        self.scale = self.scale or self.map_sections[0].scaler.describe(len(self._layers) > 1)
        if self._overview is not None:
            self.scale += self._overview.describe_bits(maps.layer for maps in self._maps)
        shown = zip(runs.recordings, runs.labels, self.inputs, strict=True)
        captions = [
            InputCaption.read(recording, runs, label, picture)
            for recording, label, picture in shown
        ]
        self._histograms: list[HistogramSource] = []
        titles = histogram_titles(self.panels, SIDE)
        if extras is not None and extras.histogram:
            self._histograms = [
                HistogramSource(section, self.cells) for section in self.map_sections
            ]
        self.layout = FrameLayout(
            [section.panel for section in self.sections],
            self.palette,
            self.facts,
            captions,
            choose_headings(runs, self.panels, self._layers, options.title, self.scale),
            options,
            [
                (title, source.between, source.peak)
                for title, source in zip(titles, self._histograms, strict=False)
            ],
            *self._columns(options),
        )
        self.remarks += missing_remarks(self.layout.texts)
        self._mosaic_boxes = [
            section.panel.mosaic.boxes(*corner)
            for section, corner in zip(self.sections, self.layout.mosaic_corners, strict=True)
        ]

    def _columns(self, options: FilmOptions) -> tuple[int, int]:
        """Returns how many layers stand side by side, and the least width of a column."""
        if self._overview is None:
            return 1, 0
        width = round(options.share * self._overview.space.width)
        return self._overview.columns, max(width, min(300, self._overview.space.width))

    @property
    def picture_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each input picture in the frame, in pixels."""
        return [picture.size for picture in self.inputs if picture is not None]

    def _recall(self, before: Sequence[Cell]) -> None:
        for section in self.sections:
            section.recall(before)

    def _draw(self, cell: Cell) -> tuple[Box, ...]:
        corners = self.layout.mosaic_corners
        drawn = [
            section.draw(self.layout.plane, corner, cell, self.palette)
            for section, corner in zip(self.sections, corners, strict=True)
        ]
        counts = [count for _, count in drawn]
        problems = [picture.problem(*cell) for picture in self.inputs if picture is not None]
        gains = [section.gains for section in self.sections]
        self.layout.update(*cell, [shown for shown, _ in drawn], counts, problems, gains)
        for histogram, source in zip(self.layout.histograms, self._histograms, strict=True):
            histogram.update(source.shares(cell))
        return tuple(chain(*self._without_marks(counts)))

    def _overlays(self, cell: Cell) -> Iterator[Overlay]:
        for picture, corner in zip(self.inputs, self.layout.input_corners, strict=True):
            if picture is not None:
                yield Overlay(picture.show(*cell), *corner, picture.zoom)
        for section, corner in zip(self.sections, self.layout.mosaic_corners, strict=True):
            yield from section.overlays(corner, cell)

    def _without_marks(self, counts: Sequence[Count]) -> Iterator[list[Box]]:
        """Yields the boxes of maps of which all values are finite."""
        for section, count, boxes in zip(self.sections, counts, self._mosaic_boxes, strict=True):
            if isinstance(section, MapSection) and section.is_plain(count):
                yield boxes


def _picture_side(recordings: int) -> int:
    """Returns the greatest width of the input picture of each of some recordings."""
    return SIDE if recordings < 3 else max(64, 2 * SIDE // recordings)
