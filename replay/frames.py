"""From a recording to frames: select, scale, tile, caption.

`Film.frames` is the pipeline; all else here prepares it. Nothing is kept from frame to frame but
one plane, so memory does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from replay.captions import clean, module_in_words
from replay.colours import Palette
from replay.facts import heading, see, state
from replay.inputs import InputPicture
from replay.recording import Recording
from replay.scaling import PERCENTILES, Levels, Range, Scaler
from replay.selection import Numbers, choose_channels
from replay.stage import SIDE, Part, Stage, room_for
from replay.tiles import Room, arrange, blank, paint, shrink_maps
from replay.together import Row, Together

_INFINITE = 0x7C00  # a float16's bits without its sign; NaN lies above
_WITHOUT_SIGN = 0x7FFF


@dataclass(frozen=True)
class Overlay:
    """A picture in true colours that lies on a frame.

    Attributes:
        pixels: uint8 (h, w, 3), before enlarging.
        top: Row of the picture.
        left: Column of the picture.
        zoom: Pixels, in each direction, that a pixel of the picture becomes.
    """

    pixels: npt.NDArray[np.uint8]
    top: int
    left: int
    zoom: int


@dataclass(frozen=True)
class Frame:
    """One frame: a plane of palette indices, and the input pictures that lie on it.

    Attributes:
        plane: uint8 (H, W), both even; valid until the next frame is asked for.
        pictures: The pictures; they do not overlap.
    """

    plane: npt.NDArray[np.uint8]
    pictures: tuple[Overlay, ...] = ()


class Reel(Protocol):
    """Anything whose frames can be encoded, here or in another process; see `Film`."""

    @property
    def palette(self) -> Palette:
        """The colours of the planes."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame."""

    def frames(self, cells: Sequence[tuple[int, int]] | None = None) -> Iterator[Frame]:
        """The frames in order, or some of them; each is valid until the next one is asked for."""

    def damage(self) -> list[dict[tuple[int, int], str]]:
        """What is wrong with the damaged frames that were met so far, by (epoch, batch)."""

    def note_damage(self, found: list[dict[tuple[int, int], str]]) -> None:
        """Takes in what was met where others rendered."""


@dataclass(frozen=True)
class Look:
    """How a film looks; see `replay.animation.animate` for what the values mean."""

    scale: str = "run"
    clip: tuple[float, float] | None = None
    symmetric: bool = False
    cmap: str = "gray"
    zoom: int | None = None
    columns: int | None = None
    title: str | None = None
    input: bool = True
    captions: bool = True
    theme: str = "light"
    slices: Numbers = "middle"
    tokens: str = "auto"
    bounds: tuple[int, int] | None = None  # greatest width and height of a frame


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
        look: Look | None = None,
        levels: int = 240,
    ) -> None:
        look = look or Look()
        self.palette = Palette(look.cmap, levels, look.theme)
        shown = Together(recordings, layers, look.slices, look.tokens)
        self.remarks = shown.remarks
        self.cells = shown.cells(epochs, batches)
        side = SIDE if len(shown.recordings) < 3 else max(64, 2 * SIDE // len(shown.recordings))
        self._inputs = [
            InputPicture(recording, self.cells, side)
            if look.input and InputPicture.possible(recording)
            else None
            for recording in shown.recordings
        ]
        seen = [
            see(recording, shown, label, picture)
            for recording, label, picture in zip(
                shown.recordings, shown.labels, self._inputs, strict=True
            )
        ]
        room = room_for(len(shown.rows), look.captions, seen, look.bounds)

        self._sections: list[_Section] = []
        for joint, rows in shown.groups():
            frames = [cell for cell in self.cells if joint.present(cell)]
            chosen = choose_channels(joint, channels, frames)
            scaler = Scaler(joint, frames, chosen, look.scale, look.clip, look.symmetric, levels)
            self._sections += [
                _Section(row, chosen, scaler, _part(row, chosen, shown, layers, look, room))
                for row in rows
            ]
        self._sections.sort(key=lambda section: shown.rows.index(section.row))
        self._parts = [section.part for section in self._sections]
        self.facts = state(shown)
        self.scale_words = _scale_words(self._sections[0].scaler, look, len(layers))
        self.stage = Stage(
            self._parts,
            self.palette,
            self.facts,
            seen,
            self.scale_words,
            heading(shown, self._parts, layers, look.title),
            look.captions,
            look.bounds and look.bounds[0],
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame."""
        height, width = self.stage.plane.shape
        return height, width

    @property
    def parts(self) -> list[Part]:
        """The layers, from top to bottom, and where their maps go."""
        return self._parts

    @property
    def picture_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each input picture in the frame."""
        return [source.size for source in self._inputs if source is not None]

    def range_of(self, place: int, cell: tuple[int, int]) -> Range | None:
        """The values between which a part shows a frame; None if it has none, or several."""
        section = self._sections[place]
        if not section.row.maps.series.present[cell] or cell in section.row.maps.damaged:
            return None
        return section.scale(*cell, section.select(*cell))[1]

    def frames(self, cells: Sequence[tuple[int, int]] | None = None) -> Iterator[Frame]:
        """The frames in order, or some of them; each is valid until the next one is asked for."""
        plane = self.stage.plane
        cells = self.cells if cells is None else cells
        self._recall(cells[:1])
        for epoch, batch in cells:
            ranges: list[Range | None] = []
            counts: list[tuple[int, int] | str] = []
            for section, at in zip(self._sections, self.stage.mosaics_at, strict=True):
                mosaic = section.part.mosaic
                maps = None
                if section.row.maps.series.present[epoch, batch]:
                    maps = section.select(epoch, batch)
                if maps is not None and (epoch, batch) not in section.row.maps.damaged:
                    levels, section.shown = section.scale(epoch, batch, maps)
                    paint(plane, *at, levels.reshape(-1, *levels.shape[2:]), mosaic)
                    counts.append(count_unfinite(maps))
                else:
                    paper, line = self.palette.paper, self.palette.solid("faint")
                    blank(plane, *at, mosaic, paper, line)
                    counts.append("no frame in this batch" if maps is None else "damaged")
                ranges.append(section.shown)
            self.stage.update(epoch, batch, ranges, counts)
            yield Frame(plane, tuple(self._overlays(epoch, batch)))

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

    def _recall(self, first: Sequence[tuple[int, int]]) -> None:
        """Goes back to what a layer without a frame shows: the range of the last that it had."""
        for section in self._sections:
            section.shown = None
            maps = section.row.maps
            for cell in reversed(self.cells[: self.cells.index(first[0])] if first else []):
                if maps.series.present[cell] and cell not in maps.damaged:
                    picture = section.select(*cell)
                    if cell not in maps.damaged:
                        section.shown = section.scale(*cell, picture)[1]
                        break

    def _overlays(self, epoch: int, batch: int) -> Iterator[Overlay]:
        for source, (top, left) in zip(self._inputs, self.stage.pictures_at, strict=True):
            if source is not None:
                yield Overlay(source.show(epoch, batch), top, left, source.zoom)


@dataclass
class _Section:
    """One layer of a film, of one recording."""

    row: Row
    channels: list[int]
    scaler: Scaler
    part: Part
    shown: Range | None = None  # of the last frame that it had

    def select(self, epoch: int, batch: int) -> npt.NDArray[np.float16]:
        """The chosen maps of one frame, float16 (C, S, H, W)."""
        maps = self.row.maps[epoch, batch]
        return maps if self.channels == list(range(len(maps))) else maps[self.channels]

    def scale(
        self, epoch: int, batch: int, maps: npt.NDArray[np.float16]
    ) -> tuple[Levels, Range | None]:
        """Their levels at the size at which they are shown, and the range behind them."""
        small = shrink_maps(maps, self.part.mosaic.shrink)
        return self.scaler.levels(epoch, batch, small), self.scaler.range_of(epoch, batch, small)


def count_unfinite(maps: npt.NDArray[np.float16]) -> tuple[int, int]:
    """Numbers of NaN and of infinite values in float16 maps."""
    bits = maps.view(np.uint16) & _WITHOUT_SIGN
    if bits.max(initial=0) < _INFINITE:
        return 0, 0
    return int(np.count_nonzero(bits > _INFINITE)), int(np.count_nonzero(bits == _INFINITE))


def _part(
    row: Row, chosen: list[int], shown: Together, layers: Sequence[str], look: Look, room: Room
) -> Part:
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
    words = f"{module_in_words(maps.layer.module)}   {maps.in_words(len(chosen))}{smaller}"
    return Part(mosaic, labels, clean(name), words.strip())


def _scale_words(scaler: Scaler, look: Look, layers: int) -> str:
    words = scaler.words + (", for each layer" if layers > 1 else "")
    if look.clip is None:
        words += f", {PERCENTILES[0]:g}–{PERCENTILES[1]:g} % of values"
    return words
