"""The channels of a layer as three colours, one picture for each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from replay.formatting import format_count
from replay.maps.components import Components, find_components
from replay.maps.overlaid import drawn_as_given
from replay.maps.planes import Planes
from replay.maps.runs import choose_layers_of
from replay.options import FilmOptions
from replay.raster.palette import Pixels, unfinite_colors
from replay.recording import Recording, Series
from replay.recording.derived import ColourSeries, DerivedRecording
from replay.recording.snapshot import parse_key
from replay.schema import Cell, DamagedError, Float16Array, SelectionError

_GRAY = "gray"
_ONE_BASIS = "one basis and one range for the whole run"
_FEW = 6  # layers whose shares are said one by one


def look_at(runs: Sequence[Recording], options: FilmOptions) -> tuple[list[Recording], FilmOptions]:
    """Returns the components of the layers of recordings, see `views.look_at`.

    The last layer is shown where none is asked for, since there colours stand for things. Several
    recordings have one basis.
    """
    names = choose_names(runs, options)
    together = tuple(runs) if len(runs) > 1 else ()
    for run in runs:
        if not any(name in run for name in names):
            run[names[0]]  # which raises, and says what is there
    found: list[Recording] = [ComponentsRecording(run, names, options, together) for run in runs]
    for each in found:
        each.require_frames()
    return found, drawn_as_given(replace(options, layers=names))


def choose_names(runs: Sequence[Recording], options: FilmOptions) -> list[str]:
    """Returns the layers that are shown: those asked for, or the last one that can be in all runs.

    Of a glob, or of all, those that have places in an image.

    Raises:
        SelectionError: None of them has.
    """
    patterns = "all" if options.layers is None else options.layers
    chosen = choose_layers_of(runs, patterns)
    placed = [
        name
        for name in chosen
        if all(Planes(run[name], options.tokens).placed for run in runs if name in run)
    ]
    if not placed:
        what = f"layer {chosen[0]!r}" if len(chosen) == 1 else "no layer that was chosen"
        raise SelectionError(
            f"{what} of {runs[0].path} has {'no ' if len(chosen) == 1 else ''}places in an image, "
            "where the channels could be shown as colours"
        )
    if options.layers is not None:
        return placed
    return ([name for name in placed if all(name in run for run in runs)] or placed)[-1:]


def _describe(components: Sequence[Components]) -> str:
    """Returns what the colours of layers are, in words; of a single one the note has the shares."""
    totals = [round(100 * sum(each.shares)) for each in components]
    if len(totals) < 2:
        return f"{_ONE_BASIS}; the shares are those of the variance" if totals else _ONE_BASIS
    few = f"{', '.join(map(str, totals[:-1]))} and {totals[-1]}"
    shares = few if len(totals) <= _FEW else f"{min(totals)} to {max(totals)}"
    return f"{_ONE_BASIS}: {shares} % of the variance"


class ComponentsRecording(DerivedRecording):
    """The components of the layers of a recording that have places in an image.

    Args:
        source: The recording.
        names: The layers.
        options: How tokens are shown.
        together: Recordings of which one basis is made, such as all fixed images; the recording
            alone by default.
    """

    quantity = "principal components"
    scale_words = _ONE_BASIS

    def __init__(
        self,
        source: Recording,
        names: Sequence[str],
        options: FilmOptions,
        together: Sequence[Recording] = (),
    ) -> None:
        self._names, self._tokens, self._together = names, options.tokens, tuple(together)
        super().__init__(source)

    def derive(self) -> Mapping[str, Series]:
        """Returns the pictures of each layer."""
        found: dict[str, ComponentSeries] = {}
        for name in self._names:
            if name in self.source:
                planes = Planes(self.source[name], self._tokens)
                runs = [run for run in self._together if name in run]
                others = [Planes(run[name], self._tokens) for run in runs]
                same = [each for each in others if each.channels == planes.channels]
                found[name] = ComponentSeries(planes, same or [planes])
        self.scale_words = _describe([each.components for each in found.values()])
        return found


class ComponentSeries(ColourSeries):
    """The first three principal components of a layer as red, green and blue: one picture a frame.

    Args:
        planes: The layer.
        basis_of: What the basis is found from: all frames of the run, also those not shown.

    Attributes:
        components: The basis.
    """

    color_bar = False
    labels = (" ",)  # the only one needs no number
    subject = "channels as red, green and blue"

    def __init__(self, planes: Planes, basis_of: Sequence[Planes]) -> None:
        self._planes = planes
        cells = sorted({cell for each in basis_of for cell in each.series.frames})
        self.components = find_components(lambda cell: _read_all(basis_of, cell), cells)
        self._odd = tuple(int(part) for part in unfinite_colors(_GRAY)[0])
        about = planes.series.layer
        count = format_count(planes.channels, "channel")
        words = [f"{self.components.in_words} of {count}, {planes.size[0]}×{planes.size[1]}"]
        note = ", ".join([*words, *([about.note] if about.note else [])])
        shape = (1, *planes.size)
        layer = replace(about, shape=shape, axes="CHW", note=note, kernel=None, pooled=1)
        super().__init__(planes.series, layer)
        self._unfinite: tuple[Cell, int] | None = None  # of the last frame that was drawn

    def tiles(self, cell: Cell, channels: Sequence[int] | None = None, shrink: int = 1) -> Pixels:
        """Returns the picture of a frame, uint8 (1, H, W, 3); see `ColourSeries`."""
        plane = self._planes[cell]
        if cell in self._planes.damaged:
            raise DamagedError(self._planes.damaged[cell])
        self._unfinite = cell, _count_unfinite(plane)
        picture = self.components.colours(plane, self._odd)
        if shrink > 1:
            height, width = (-(-side // shrink) for side in self._planes.size)
            small = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
            picture = np.array(small)
        return picture[None]

    def not_finite(self, cell: Cell) -> str:
        """Returns how many places of a frame are not finite, in words; see `ColourSeries`."""
        if self._unfinite is None or self._unfinite[0] != cell:
            plane = self._planes[cell]
            self._unfinite = cell, 0 if cell in self._planes.damaged else _count_unfinite(plane)
        count = self._unfinite[1]
        return f"{format_count(count, 'place')} with NaN or infinity" if count else ""

    def remark(self, cell: Cell) -> str:
        """Returns what is not finite, in words; see `Series`."""
        return self.not_finite(cell) if self.present[cell] else ""

    def bar(self, steps: int) -> Pixels:
        """Returns a ramp of red, one of green and one of blue, uint8 (steps, 3)."""
        bar: Pixels = np.zeros((steps, 3), np.uint8)
        count = max(1, len(self.components.basis))
        for place in range(count):
            start, stop = steps * place // count, steps * (place + 1) // count
            ramp = np.linspace(0, 255, stop - start).astype(np.uint8)
            if count == 1:
                bar[start:stop] = ramp[:, None]
            else:
                bar[start:stop, place] = ramp
        return bar

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns the first component, float16 (1, H, W); see `Series`."""
        cell = self._snapshot.locate(*parse_key(key))
        plane = self._planes[cell]
        if cell in self._planes.damaged:
            raise DamagedError(self._planes.damaged[cell])
        if not len(self.components.basis):
            return np.full((1, *self._planes.size), np.nan, np.float16)
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float16, or not finite
            return self.components.values(plane)[:1].astype(np.float16)

    def values(self, cell: Cell) -> npt.NDArray[np.float32]:
        """Returns all components of a frame, float32 (k, H, W); NaN where a value is not finite.

        Raises:
            DamagedError: The frame is damaged.
        """
        plane = self._planes[self._snapshot.locate(*cell)]
        if cell in self._planes.damaged:
            raise DamagedError(self._planes.damaged[cell])
        finite = np.isfinite(plane).all(axis=0)
        values = self.components.values(np.where(finite, plane, np.float16(0)))
        values[:, ~finite] = np.nan
        return values


def _count_unfinite(plane: Float16Array) -> int:
    """Returns at how many places a channel is NaN or infinite, of (C, H, W)."""
    return int((~np.isfinite(plane)).any(axis=0).sum())


def _read_all(planes: Sequence[Planes], cell: Cell) -> Float16Array:
    """Returns the frames of several images, or runs, of one batch side by side, (C, positions)."""
    found = [each[cell].reshape(each.channels, -1) for each in planes if each.has_frame(cell)]
    return np.concatenate(found, axis=1)
