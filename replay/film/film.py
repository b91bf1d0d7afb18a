"""From a recording to frames: select, scale, tile, caption.

`Film.frames` is the pipeline; all else here prepares it. Nothing is kept from frame to frame but
one plane, so memory does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from replay.film.extras import DIVERGING, KERNEL_ROWS, Extras
from replay.film.facts import LayerPanel, film_facts, heading, input_caption
from replay.film.frame_layout import FrameLayout
from replay.film.geometry import SIDE, space_for
from replay.film.options import FilmOptions
from replay.film.sections import Count, MapSection, Section, count_unfinite
from replay.formatting import clean, format_module
from replay.maps.channel_order import order_channels
from replay.maps.input_image import InputPicture
from replay.maps.runs import Row, RunSet
from replay.maps.scaling import PERCENTILES, Scaler
from replay.maps.selection import Numbers, choose_channels, spread
from replay.raster.frame import Frame, FrameSource, Overlay
from replay.raster.histogram import Counter, Shares, peak_of
from replay.raster.mosaic import Box, Space, arrange
from replay.raster.palette import Palette, Range, TwoMapPalette
from replay.recording import Recording

__all__ = ["Film", "FilmOptions", "Frame", "FrameSource", "Overlay", "count_unfinite"]

_SAMPLED = 16  # frames from which a histogram's height is chosen


class Film:
    """The frames of an animation, all of one size.

    Args:
        recordings: Where the maps are. Of several, those epochs and batches are shown that all
            of them have, and each layer of each has a row.
        layers: Names of the layers, from top to bottom.
        channels: As in `choose_channels`, for every layer.
        epochs: As in `choose_frames`.
        batches: As in `choose_frames`.
        look: How it looks.
        levels: Entries of the palette for the colormap, 2 to 240; the fewer, the more remain
            for a format that has to put the input picture into the palette.

    Raises:
        SelectionError: What was asked for is not in the recording.
        OptionError: A colormap, theme, scale, clip, zoom or number of columns of no use.

    Attributes:
        palette: The colours of the planes.
        stage: What surrounds the maps.
        cells: (epoch, batch) of each frame.
        remarks: What a reader should know of the choice, a line each.
        facts: What is known of the run.
        scale_words: What the range of values is.
    """

    def __init__(
        self,
        recordings: Recording | Sequence[Recording],
        layers: Sequence[str],
        channels: Numbers = None,
        epochs: Numbers = None,
        batches: Numbers = None,
        look: FilmOptions | None = None,
        levels: int = 240,
    ) -> None:
        look = look or FilmOptions()
        wanted = Extras.parse(look.show, look.captions, look.scale if look.clip is None else "run")
        shown = RunSet(recordings, layers, look.slices, look.tokens)
        self.remarks = shown.remarks
        self.cells = shown.cells(epochs, batches)
        self.facts = film_facts(shown)
        wanted.check(shown.rows, self.facts)
        diverging = wanted.needs_diverging(shown.rows)
        self.palette = (
            TwoMapPalette(look.cmap, DIVERGING, levels, look.theme)
            if diverging
            else Palette(look.cmap, levels, look.theme)
        )
        side = SIDE if len(shown.recordings) < 3 else max(64, 2 * SIDE // len(shown.recordings))
        self._inputs = [
            InputPicture(recording, self.cells, side)
            if look.input and InputPicture.possible(recording)
            else None
            for recording in shown.recordings
        ]
        seen = [
            input_caption(recording, shown, label, picture)
            for recording, label, picture in zip(
                shown.recordings, shown.labels, self._inputs, strict=True
            )
        ]
        heavy, kernels = wanted.count(shown.rows)
        room = space_for(heavy + kernels, look.captions, self.picture_sizes, look.bounds)
        if kernels:
            left = room.height * (heavy + kernels) - kernels * KERNEL_ROWS
            room = replace(room, height=max(60, left // heavy))

        self._sections: list[MapSection] = []
        made: dict[int, list[Section]] = {}  # by the row's place, all that is shown of it
        for joint, rows in shown.groups():
            frames = [cell for cell in self.cells if joint.present(cell)]
            chosen = choose_channels(joint, channels, frames)
            chosen = order_channels(joint, chosen, frames, look.order)
            scaler = Scaler(
                joint, frames, chosen, look.scale, look.clip, look.symmetric, self.palette.levels
            )
            for row in rows:
                section = MapSection(
                    row, chosen, scaler, _part(row, chosen, shown, layers, look, room)
                )
                self._sections.append(section)
                more = wanted.beside(section, frames, self.palette, look, room)
                made[shown.rows.index(row)] = [section, *more]
        self._sections.sort(key=lambda section: shown.rows.index(section.row))
        self._parts = [section.part for section in self._sections]
        self._drawn = [section for place in sorted(made) for section in made[place]]
        if len(self._sections) == 1 < len(self._drawn):  # the heading names it
            self._sections[0].part = replace(self._parts[0], name="maps", words="")
        self._counter = Counter()
        self.scale_words = _scale_words(self._sections[0].scaler, look, len(layers))
        self.stage = FrameLayout(
            [section.part for section in self._drawn],
            self.palette,
            self.facts,
            seen,
            self.scale_words,
            heading(shown, self._parts, layers, look.title),
            look.captions,
            look.bounds and look.bounds[0],
            [
                (f"values of {part.name}", self._peak(section))
                for part, section in zip(self._parts, self._sections, strict=True)
            ]
            if wanted.histogram
            else [],
        )
        self._painted = [
            section.part.mosaic.boxes(*at)
            for section, at in zip(self._drawn, self.stage.mosaics_at, strict=True)
        ]
        self._calls = self._drawing = 0  # whose frame is on the plane

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame."""
        height, width = self.stage.plane.shape
        return height, width

    @property
    def parts(self) -> list[LayerPanel]:
        """The layers, from top to bottom, and where their maps go."""
        return self._parts

    @property
    def picture_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each input picture in the frame."""
        return [source.size for source in self._inputs if source is not None]

    def range_of(self, place: int, cell: tuple[int, int]) -> Range | None:
        """The values between which a part shows a frame; None if it has none, or several."""
        return self._sections[place].range_of(cell)

    def frames(self, cells: Sequence[tuple[int, int]] | None = None) -> Iterator[Frame]:
        """The frames in order, or some of them; each is valid until the next one is asked for."""
        stage = self.stage
        cells = self.cells if cells is None else cells
        before = self.cells[: self.cells.index(cells[0])] if cells else []
        for section in self._drawn:
            section.recall(before)
        self._calls += 1
        me = self._calls
        for cell in cells:
            drawn = [
                section.draw(stage.plane, at, cell, self.palette)
                for section, at in zip(self._drawn, stage.mosaics_at, strict=True)
            ]
            stage.update(
                *cell,
                [shown for shown, _ in drawn],
                [count for _, count in drawn],
                [source.trouble(*cell) for source in self._inputs if source is not None],
            )
            for histogram, section in zip(stage.histograms, self._sections, strict=False):
                histogram.update(self._shares(section, cell))
            touched = stage.touched()
            changed = (*chain(*self._painted), *touched) if self._drawing == me else None
            plain = tuple(chain(*self._without_marks([count for _, count in drawn])))
            self._drawing = me
            yield Frame(stage.plane, tuple(self._overlays(cell)), changed, plain)

    @property
    def damaged(self) -> list[str]:
        """What is wrong with the damaged frames that were met so far."""
        return [text for found in self.damage() for text in found.values()]

    def damage(self) -> list[dict[tuple[int, int], str]]:
        """The same by layer, from top to bottom, and by (epoch, batch)."""
        return [section.row.maps.damaged for section in self._sections]

    def note_damage(self, found: list[dict[tuple[int, int], str]]) -> None:
        """Takes in what was met where others rendered."""
        for mine, theirs in zip(self.damage(), found, strict=True):
            mine.update(theirs)

    def _overlays(self, cell: tuple[int, int]) -> Iterator[Overlay]:
        for source, (top, left) in zip(self._inputs, self.stage.pictures_at, strict=True):
            if source is not None:
                yield Overlay(source.show(*cell), top, left, source.zoom)
        for section, at in zip(self._drawn, self.stage.mosaics_at, strict=True):
            yield from section.overlays(at, cell)

    def _without_marks(self, counts: Sequence[Count]) -> Iterator[list[Box]]:
        """Where maps were painted of which all values are finite."""
        for section, count, boxes in zip(self._drawn, counts, self._painted, strict=True):
            if isinstance(section, MapSection) and count == (0, 0):
                yield boxes

    def _shares(self, section: MapSection, cell: tuple[int, int]) -> Shares | None:
        """The histogram of the frame that a section has just drawn, or draws for this."""
        shown = section.range_of(cell) if section.maps is not None else None
        if section.maps is None or shown is None:
            return None
        return self._counter.shares(section.maps, shown)

    def _peak(self, section: MapSection) -> float:
        """The highest bar of some frames of the run."""
        there = [cell for cell in self.cells if section.row.maps.series.present[cell]]
        found = []
        for cell in spread(there, _SAMPLED):
            shown, section.maps = section.range_of(cell), section.select(cell)
            if shown is not None:
                found.append(self._counter.shares(section.maps, shown))
        section.maps = None
        return peak_of(found)


def _part(
    row: Row,
    chosen: list[int],
    shown: RunSet,
    layers: Sequence[str],
    look: FilmOptions,
    room: Space,
) -> LayerPanel:
    """Where a row's maps go, and what is said of them."""
    maps = row.maps
    labels = maps.labels(chosen)
    mosaic = arrange(
        len(labels),
        *maps.size,
        room,
        zoom=look.zoom,
        columns=look.columns,
        numbers=look.captions,
        digits=max(map(len, labels)),
        unit=maps.slices,
    )
    names = [maps.layer.name] if not shown.several or len(layers) > 1 else []
    name = ", ".join([*names, *filter(None, [shown.labels[row.place]])])
    smaller = f", {mosaic.in_words()}" if mosaic.in_words() else ""
    words = f"{format_module(maps.layer.module)}   {maps.in_words(len(chosen))}{smaller}"
    return LayerPanel(mosaic, labels, clean(name), words.strip())


def _scale_words(scaler: Scaler, look: FilmOptions, layers: int) -> str:
    words = scaler.words + (", for each layer" if layers > 1 else "")
    if look.clip is None:
        words += f", {PERCENTILES[0]:g}–{PERCENTILES[1]:g} % of values"
    return words
