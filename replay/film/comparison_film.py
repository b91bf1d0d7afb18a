"""The film of a comparison: two runs, batch by batch, and the difference between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.film.comparison_layout import ComparisonLayout, Unfinite
from replay.film.facts import Headings, LayerPanel, input_pictures, run_facts, seen_by_both
from replay.film.geometry import pair_space_for
from replay.film.options import FilmOptions
from replay.film.sections import count_unfinite
from replay.formatting import clean, format_module
from replay.maps.axes import JointMaps
from replay.maps.difference import Difference, DifferenceScaler, Values, subtract
from replay.maps.runs import Row, RunSet, pair_rows
from replay.maps.scaling import PERCENTILES, Scaler
from replay.maps.selection import Numbers, choose_channels, pick
from replay.raster.frame import Frame, Overlay
from replay.raster.mosaic import Space, arrange, blank, paint, shrink_maps
from replay.raster.palette import Range, TwoMapPalette
from replay.recording import Recording
from replay.schema import Cell

_NONE = np.zeros((1, 1, 1, 1), np.float16)  # where a range is asked for and not measured


@dataclass(frozen=True)
class _Layer:
    """One layer of both runs."""

    rows: tuple[Row, Row]
    channels: list[int]
    scaler: Scaler
    difference: DifferenceScaler | None
    part: LayerPanel

    def select(self, which: int, cell: Cell) -> npt.NDArray[np.float16] | str:
        """The chosen maps of one run, float16 (C, S, H, W), or why there are none."""
        maps = self.rows[which].maps
        if not _has(self.rows[which], cell):
            return "no frame in this batch"
        found = pick(maps[cell], self.channels)
        return "damaged" if cell in maps.damaged else found


class ComparisonFilm:
    """The frames of a comparison, all of one size.

    Args:
        recordings: The two runs. Shown are the epochs and batches that both have.
        layers: Names of layers that both have, from `common.choose_common_layers`.
        channels: As in `choose_channels`, for every layer.
        epochs: As in `choose_frames`.
        batches: As in `choose_frames`.
        look: How it looks; always with captions.
        difference: Name of the difference's colormap; None to leave the difference out.
        levels: Entries of the palette for colormaps, as of a `Target`.

    Raises:
        SelectionError: What was asked for is not in both, or a layer's maps differ in shape.
        OptionError: A colormap, theme, scale, clip, zoom or number of columns of no use.

    Attributes:
        palette: The colours of the planes.
        stage: What surrounds the maps.
        cells: (epoch, batch) of each frame.
        remarks: What a reader should know of the choice, a line each.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        layers: Sequence[str],
        channels: Numbers = None,
        epochs: Numbers = None,
        batches: Numbers = None,
        look: FilmOptions | None = None,
        difference: str | None = None,
        levels: int = 240,
    ) -> None:
        look = look or FilmOptions()
        self.palette = TwoMapPalette(look.cmap, difference, levels, look.theme)
        shown = RunSet(recordings, layers, look.slices, look.tokens)
        self.remarks = [words for words in shown.remarks if "different runs" not in words]
        self.cells = shown.cells(epochs, batches)
        self._inputs = input_pictures(shown, self.cells) if look.input else []
        if difference and len(self._inputs) == 2:
            self.remarks.append(
                "the two runs saw different images, so the difference is not of the networks alone"
            )
        room = pair_space_for(3 if difference else 2, len(layers), True)
        self._layers = [
            self._prepare(shown, joint, rows, channels, look, room)
            for joint, rows in pair_rows(shown)
        ]
        self.stage = ComparisonLayout(
            [layer.part for layer in self._layers],
            self.palette,
            [run_facts(shown, place) for place in (0, 1)],
            shown.whole,
            seen_by_both(shown, self._inputs),
            _words(self._layers, shown, look),
        )
        self._painted = [
            box
            for layer, places in zip(self._layers, self.stage.mosaics_at, strict=True)
            for at in places
            for box in layer.part.mosaic.boxes(*at)
        ]
        self._calls = self._drawing = 0  # whose frame is on the plane

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame."""
        height, width = self.stage.plane.shape
        return height, width

    def frames(self, cells: Sequence[Cell] | None = None) -> Iterator[Frame]:
        """The frames in order, or some of them; each is valid until the next one is asked for."""
        self._calls += 1
        me = self._calls
        for cell in self.cells if cells is None else cells:
            ranges: list[tuple[Range | None, Range | None]] = []
            counts: list[list[Unfinite]] = []
            for layer, places in zip(self._layers, self.stage.mosaics_at, strict=True):
                found = [layer.select(which, cell) for which in (0, 1)]
                counts.append(
                    [self._show(layer, cell, *each) for each in zip(found, places[:2], strict=True)]
                )
                ranges.append((layer.scaler.range_of(*cell, _NONE), None))
                if layer.difference is not None:
                    count, shown = self._show_difference(layer, cell, found, places[2])
                    counts[-1].append(count)
                    ranges[-1] = (ranges[-1][0], shown)
            troubles = [source.trouble(*cell) for source in self._inputs]
            self.stage.update(*cell, ranges, counts, troubles)
            touched = self.stage.touched()
            changed = (*self._painted, *touched) if self._drawing == me else None
            self._drawing = me
            yield Frame(self.stage.plane, tuple(self._overlays(cell)), changed)

    @property
    def damaged(self) -> list[str]:
        """What is wrong with the damaged frames that were met so far."""
        return [text for found in self.damage() for text in found.values()]

    def damage(self) -> list[dict[Cell, str]]:
        """The same by layer and run, and by (epoch, batch)."""
        return [row.maps.damaged for layer in self._layers for row in layer.rows]

    def note_damage(self, found: list[dict[Cell, str]]) -> None:
        """Takes in what was met where others rendered."""
        for mine, theirs in zip(self.damage(), found, strict=True):
            mine.update(theirs)

    def _prepare(
        self,
        shown: RunSet,
        joint: JointMaps,
        rows: tuple[Row, Row],
        wanted: Numbers,
        look: FilmOptions,
        room: Space,
    ) -> _Layer:
        maps = rows[0].maps
        there = [cell for cell in self.cells if joint.present(cell)]
        both = [cell for cell in there if all(_has(row, cell) for row in rows)]
        chosen = choose_channels(joint, wanted, there)
        scaler = Scaler(
            joint, there, chosen, look.scale, look.clip, look.symmetric, self.palette.levels
        )
        difference = None
        if self.palette.differences:
            difference = DifferenceScaler(
                Difference(rows[0].maps, rows[1].maps),
                both,
                chosen,
                look.scale,
                self.palette.differences,
                self.palette.nan,
                self.palette.inf,
            )
        labels = maps.labels(chosen)
        mosaic = arrange(
            len(labels),
            *maps.size,
            room,
            zoom=look.zoom,
            columns=look.columns,
            digits=max(map(len, labels)),
            unit=maps.slices,
        )
        smaller = f", {mosaic.in_words()}" if mosaic.in_words() else ""
        modules = dict.fromkeys(format_module(row.maps.layer.module) for row in rows)
        said = f"{' / '.join(filter(None, modules))}   {maps.in_words(len(chosen))}{smaller}"
        part = LayerPanel(mosaic, labels, clean(maps.layer.name), said.strip())
        return _Layer(rows, chosen, scaler, difference, part)

    def _show(
        self, layer: _Layer, cell: Cell, found: npt.NDArray[np.float16] | str, at: tuple[int, int]
    ) -> Unfinite:
        """Paints one run's maps, and says how many values are not finite."""
        mosaic = layer.part.mosaic
        if isinstance(found, str):
            self._blank(layer, at)
            return found
        levels = layer.scaler.levels(*cell, shrink_maps(found, mosaic.shrink))
        paint(self.stage.plane, *at, levels.reshape(-1, *levels.shape[2:]), mosaic)
        return count_unfinite(found)

    def _show_difference(
        self,
        layer: _Layer,
        cell: Cell,
        found: Sequence[npt.NDArray[np.float16] | str],
        at: tuple[int, int],
    ) -> tuple[Unfinite, Range | None]:
        """Paints what lies between the two, and gives the range under which it is shown."""
        a, b = found
        assert layer.difference is not None
        if isinstance(a, str) or isinstance(b, str):
            self._blank(layer, at)
            missing = "no frame in this batch" in (side for side in found if isinstance(side, str))
            words = "no frame to subtract" if missing else "damaged: no difference"
            return words, layer.difference.range_of(*cell, _NONE.astype(np.float32))
        values = subtract(a, b)
        small: Values = shrink_maps(values, layer.part.mosaic.shrink)
        levels = layer.difference.levels(*cell, small)
        paint(self.stage.plane, *at, levels.reshape(-1, *levels.shape[2:]), layer.part.mosaic)
        nan, inf = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        return (nan, inf), layer.difference.range_of(*cell, small)

    def _blank(self, layer: _Layer, at: tuple[int, int]) -> None:
        paper, line = self.palette.paper, self.palette.solid("faint")
        blank(self.stage.plane, *at, layer.part.mosaic, paper, line)

    def _overlays(self, cell: Cell) -> Iterator[Overlay]:
        for source, (top, left) in zip(self._inputs, self.stage.pictures_at, strict=False):
            yield Overlay(source.show(*cell), top, left, source.zoom)


def _has(row: Row, cell: Cell) -> bool:
    return bool(row.maps.series.present[cell])


def _words(layers: Sequence[_Layer], shown: RunSet, look: FilmOptions) -> Headings:
    scaler, difference = layers[0].scaler, layers[0].difference
    each = ", for each layer" if len(layers) > 1 else ""
    values = f", {PERCENTILES[0]:g}–{PERCENTILES[1]:g} % of values"
    said = scaler.words.replace("the same for all recordings", "the same for both runs")
    scales = [f"activation: {said}{each}{'' if look.clip is not None else values}"]
    if difference is not None:
        scales.append(f"difference: {difference.words}{each}{values}")
    if len(layers) == 1:
        name, words = layers[0].part.name, layers[0].part.words
    else:
        name, words = f"{len(layers)} layers", ""
    if look.title:
        name, words = clean(look.title), f"{name}   {words}"
    versus = " and ".join(clean(label) for label in shown.labels)
    return Headings(name, f"{versus}   {words}".strip(), tuple(scales))
