"""From a recording to frames: select, scale, tile, caption.

`Film.frames` is the pipeline; all else here prepares it. Nothing is kept from frame to frame but
one plane, so memory does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.captions import clean, module_in_words
from replay.colours import Palette
from replay.inputs import InputPicture
from replay.recording import Recording
from replay.scaling import PERCENTILES, Levels, Range, Scaler
from replay.schema import SelectionError
from replay.selection import Numbers, choose_channels, choose_frames, choose_maps
from replay.shapes import Maps
from replay.stage import SIDE, Facts, Part, Stage, room_for
from replay.tiles import arrange, blank, paint, shrink_maps

_INFINITE = 0x7C00  # a float16's bits without its sign; NaN lies above
_WITHOUT_SIGN = 0x7FFF


@dataclass(frozen=True)
class Frame:
    """One frame: a plane of palette indices, and the input picture that lies on it.

    Attributes:
        plane: uint8 (H, W), both even; valid until the next frame is asked for.
        picture: uint8 (h, w, 3), true colours before enlarging; None without an input picture.
        top: Row of the picture.
        left: Column of the picture.
        zoom: Pixels, in each direction, that a pixel of the picture becomes.
    """

    plane: npt.NDArray[np.uint8]
    picture: npt.NDArray[np.uint8] | None = None
    top: int = 0
    left: int = 0
    zoom: int = 1


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


class Film:
    """The frames of an animation, all of one size.

    Args:
        recording: Where the maps are.
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
    """

    def __init__(
        self,
        recording: Recording,
        layers: Sequence[str],
        channels: Numbers = None,
        epochs: Numbers = None,
        batches: Numbers = None,
        look: Look | None = None,
        levels: int = 240,
    ) -> None:
        look = look or Look()
        self.palette = Palette(look.cmap, levels, look.theme)
        if not recording.frames:
            raise SelectionError(f"nothing was recorded in {recording.path} so far")
        self.cells = choose_frames(recording, epochs, batches, layers)
        self._input = None
        if look.input and InputPicture.possible(recording):
            self._input = InputPicture(recording, self.cells, SIDE)
        size = self._input.size if self._input else None
        room = room_for(len(layers), look.captions, size)

        self._sections: list[_Section] = []
        parts: list[Part] = []
        for name in layers:
            maps = choose_maps(recording[name], look.slices, look.tokens)
            present = maps.series.present
            frames = [cell for cell in self.cells if present[cell]]
            chosen = choose_channels(maps, channels, frames)
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
            scaler = Scaler(maps, frames, chosen, look.scale, look.clip, look.symmetric, levels)
            self._sections.append(_Section(maps, chosen, scaler, mosaic.shrink))
            shown = f", {mosaic.in_words()}" if mosaic.in_words() else ""
            words = f"{module_in_words(maps.layer.module)}   {maps.in_words(len(chosen))}{shown}"
            parts.append(Part(mosaic, labels, clean(name), words.strip()))

        self._parts = parts
        self.stage = Stage(
            parts,
            self.palette,
            _facts(recording),
            size,
            _input_words(self._input.channels) if self._input else "",
            _scale_words(self._sections[0].scaler, look, len(layers)),
            look.title,
            look.captions,
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame."""
        height, width = self.stage.plane.shape
        return height, width

    def frames(self) -> Iterator[Frame]:
        """The frames in order; each is valid until the next one is asked for."""
        plane = self.stage.plane
        for epoch, batch in self.cells:
            ranges: list[Range | None] = []
            counts: list[tuple[int, int] | None] = []
            for section, part, at in zip(
                self._sections, self._parts, self.stage.mosaics_at, strict=True
            ):
                if not section.maps.series.present[epoch, batch]:
                    blank(plane, *at, self.palette.solid("faint"), part.mosaic)
                    ranges.append(section.shown)
                    counts.append(None)
                    continue
                maps = section.select(epoch, batch)
                levels, section.shown = section.scale(epoch, batch, maps)
                paint(plane, *at, levels.reshape(-1, *levels.shape[2:]), part.mosaic)
                ranges.append(section.shown)
                counts.append(count_unfinite(maps))
            self.stage.update(epoch, batch, ranges, counts)
            yield self._with_input(epoch, batch)

    def _with_input(self, epoch: int, batch: int) -> Frame:
        if self._input is None:
            return Frame(self.stage.plane)
        picture = self._input.show(epoch, batch)
        return Frame(self.stage.plane, picture, *self.stage.picture_at, self._input.zoom)


@dataclass
class _Section:
    """One layer of a film."""

    maps: Maps
    channels: list[int]
    scaler: Scaler
    shrink: int
    shown: Range | None = None  # of the last frame that it had

    def select(self, epoch: int, batch: int) -> npt.NDArray[np.float16]:
        """The chosen maps of one frame, float16 (C, S, H, W)."""
        maps = self.maps[epoch, batch]
        return maps if self.channels == list(range(len(maps))) else maps[self.channels]

    def scale(
        self, epoch: int, batch: int, maps: npt.NDArray[np.float16]
    ) -> tuple[Levels, Range | None]:
        """Their levels at the size at which they are shown, and the range behind them."""
        small = shrink_maps(maps, self.shrink)
        return self.scaler.levels(epoch, batch, small), self.scaler.range_of(epoch, batch, small)


def count_unfinite(maps: npt.NDArray[np.float16]) -> tuple[int, int]:
    """Numbers of NaN and of infinite values in float16 maps."""
    bits = maps.view(np.uint16) & _WITHOUT_SIGN
    if bits.max(initial=0) < _INFINITE:
        return 0, 0
    return int(np.count_nonzero(bits > _INFINITE)), int(np.count_nonzero(bits == _INFINITE))


def _facts(recording: Recording) -> Facts:
    cells = recording.frames
    at = tuple(np.array(cells).T)

    def logged(name: str) -> npt.NDArray[np.int64] | None:
        if name not in recording.batches:
            return None
        values: npt.NDArray[np.int64] = recording.batches[name][at].astype(np.int64)
        return values if (values >= 0).any() else None

    loss = None
    if "loss" in recording.batches:
        loss = recording.batches["loss"][at].astype(np.float64)
        # A loss that is NaN throughout was not logged; one that became NaN is news.
        loss = None if np.isnan(loss).all() else loss
    names = recording.meta.get("classes")
    classes = tuple(clean(str(name)) for name in names) if isinstance(names, list) else ()
    return Facts(cells, loss, logged("label"), logged("prediction"), classes)


def _input_words(channels: int) -> str:
    words = "input: first image of the batch"
    if channels in (1, 3):
        return words
    return words + (", channel 0 of 2" if channels == 2 else f", channels 0–2 of {channels}")


def _scale_words(scaler: Scaler, look: Look, layers: int) -> str:
    words = scaler.words + (", for each layer" if layers > 1 else "")
    if look.clip is None:
        words += f", {PERCENTILES[0]:g}–{PERCENTILES[1]:g} % of values"
    return words
