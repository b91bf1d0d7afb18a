"""The film of a comparison: two runs, batch by batch, and the difference between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.film.comparison_facts import (
    RunFacts,
    choose_common_layers,
    input_captions,
    input_pictures,
    pair_rows,
    remarks_on_flat,
)
from replay.film.comparison_layout import ComparisonLayout
from replay.film.comparison_plan import LITTLE, plan_comparison
from replay.film.film import BaseFilm
from replay.film.overview import (
    LEAST_TILE,
    describe_bits,
    describe_cut,
    describe_left_out,
    shapes_of,
    tiling_of,
)
from replay.film.sections import gains_at
from replay.formatting import clean, format_module
from replay.idle_options import check_layers
from replay.maps.axes import JointMaps, choose_channels, select_channels, shrink_maps
from replay.maps.difference import Difference, DifferenceScaler, Values, subtract
from replay.maps.runs import Count, Headings, LayerPanel, Row, RunSet
from replay.maps.scaling import Scaler, choose_scalers
from replay.maps.unfinite import count_unfinite
from replay.options import ComparisonOptions
from replay.raster.arrangement import Space, arrange, count_fitting, make_smaller
from replay.raster.fonts import missing_remarks
from replay.raster.frame import Overlay
from replay.raster.mosaic import Box, blank, paint
from replay.raster.palette import Range, TwoMapPalette
from replay.raster.tile_captions import Gains
from replay.raster.widgets import ColorBar
from replay.recording import Recording
from replay.schema import Cell, OptionError
from replay.schema.faces import spell

_NONE = np.zeros((1, 1, 1, 1), np.float16)  # where a range is asked for and not measured
_NOTHING = np.full((1, 1, 1, 1), np.nan, np.float32)  # of which a frame's range is none


@dataclass(frozen=True)
class _Layer:
    """One layer of both runs, each with its scaler, which is the same where they share a range."""

    rows: tuple[Row, Row]
    channels: list[int]
    scalers: Sequence[Scaler]
    difference: DifferenceScaler | None
    panel: LayerPanel

    @property
    def unit(self) -> float:
        """What a value of 1 stands for."""
        return float(self.rows[0].maps.series.unit)

    def select(self, run: int, cell: Cell) -> npt.NDArray[np.float16] | str:
        """Returns the chosen maps of one run, float16 (C, S, H, W), or why there are none."""
        maps = self.rows[run].maps
        if not _has(self.rows[run], cell):
            return "no frame in this batch"
        found = select_channels(maps[cell], self.channels)
        return "damaged" if cell in maps.damaged else found


class ComparisonFilm(BaseFilm):
    """The frames of a comparison, all of one size and with captions.

    Args:
        recordings: The two runs. Shown are the epochs and batches that both have.
        options: What is shown, and how it looks.

    Raises:
        SelectionError: What was asked for is not in both, or a layer's maps differ in shape.
        OptionError: A colormap, theme, scale, clip, zoom or number of columns that cannot be used.
    """

    palette: TwoMapPalette
    layout: ComparisonLayout

    def __init__(
        self, recordings: Sequence[Recording], options: ComparisonOptions | None = None
    ) -> None:
        options = options or ComparisonOptions()
        layers, left_out = choose_common_layers(recordings, options.layers)
        difference_cmap = options.difference_cmap if options.difference else None
        self.palette = TwoMapPalette(options.cmap, difference_cmap, options.levels, options.theme)
        runs = RunSet(recordings, layers, options.slices, options.tokens)
        check_layers(vars(options), [row.maps.layer.axes for row in runs.rows])
        first = runs.rows[0].maps.series
        if first.in_colour and options.difference:
            raise OptionError(
                f"{spell('difference', True)} is of values; {spell('view', options.view)} shows "
                "pictures in colours"
            )
        if (bar := first.bar(self.palette.levels)) is not None:
            self.palette.table[: len(bar)] = bar
        self.remarks = [*left_out, *(r for r in runs.remarks if "different runs" not in r)]
        self.cells = runs.cells(options.epochs, options.batches)
        self._labels = runs.labels
        self.inputs = input_pictures(runs, self.cells) if options.input else []
        if options.difference and len(self.inputs) == 2:
            self.remarks.append(
                "the two runs saw different images, so the difference is not of the networks alone"
            )
        self.notes, self._cut = [], 0
        columns = 3 if options.difference else 2
        shapes = shapes_of(runs)[::2]  # of one run
        plan = plan_comparison(shapes, columns, options.bounds, options.own_ranges)
        if plan.most < len(layers):
            self.notes.append(describe_left_out(layers, plan.most))
            layers = layers[: plan.most]
            runs = RunSet(recordings, layers, options.slices, options.tokens)
        space = plan.space
        self._layers = [self._build(joint, rows, options, space) for joint, rows in pair_rows(runs)]
        if self._cut:
            self.notes.append(describe_cut(self._cut, len(layers)))
        self.panels = [layer.panel for layer in self._layers]
        self._maps = [row.maps for layer in self._layers for row in layer.rows]
        self.layout = ComparisonLayout(
            self.panels,
            self.palette,
            [RunFacts.read(runs, place) for place in (0, 1)],
            runs.all_cells,
            input_captions(runs, self.inputs),
            _headings(self._layers, runs, options),
            min(ColorBar.WIDTH_BESIDE, max(ColorBar.NARROWEST_BESIDE, space.width)),
            plan.columns,
        )
        self.remarks += missing_remarks(self.layout.texts)
        self._mosaic_boxes = [
            layer.panel.mosaic.boxes(*corner)
            for layer, corners in zip(self._layers, self.layout.mosaic_corners, strict=True)
            for corner in corners
        ]

    def _build(
        self, joint: JointMaps, rows: tuple[Row, Row], options: ComparisonOptions, space: Space
    ) -> _Layer:
        """Chooses the channels of a layer, and measures its scales."""
        maps = rows[0].maps
        cells = [cell for cell in self.cells if joint.present(cell)]
        channels = choose_channels(joint, options.channels, cells)
        tiling = tiling_of(maps, channels, options)
        if space.stretch == 1.0:  # there is no more
            alone = options.bounds is not None and space.height > LITTLE
            count, least = len(channels) * maps.slices, 1 if alone else LEAST_TILE
            most = count_fitting(count, *maps.size, space, least=least, **tiling)
            self._cut += most < count
            channels = channels[: most // maps.slices]
        scalers = choose_scalers(joint, cells, channels, options, self.palette.levels)
        if options.clip is None and not scalers[0].per_channel:
            whole = options.scale == "run" and not options.symmetric
            common = scalers[0] if whole else None
            self.remarks += remarks_on_flat(joint, cells, channels, self._labels, common)
        difference = None
        if self.palette.differences:
            difference = DifferenceScaler(
                Difference(rows[0].maps, rows[1].maps),
                [cell for cell in cells if all(_has(row, cell) for row in rows)],
                channels,
                options.scale,
                self.palette.differences,
                self.palette.nan,
                self.palette.inf,
            )
        labels = maps.labels(channels)
        mosaic = arrange(len(labels), *maps.size, space, **tiling)
        if options.share < 1:
            mosaic = make_smaller(mosaic, options.share, tiling["digits"], options.own_ranges)
        smaller = f", {mosaic.in_words()}" if mosaic.in_words() else ""
        modules = dict.fromkeys(format_module(row.maps.layer.module) for row in rows)
        module = " / ".join(filter(None, modules))
        details = f"{module}   {maps.in_words(len(channels))}{smaller}".strip()
        name = clean(maps.layer.name)
        panel = LayerPanel(mosaic, labels, name, details, gains=options.own_ranges)
        return _Layer(rows, channels, scalers, difference, panel)

    def _draw(self, cell: Cell) -> tuple[Box, ...]:
        ranges: list[tuple[Range | None, Range | None]] = []
        counts: list[list[Count]] = []
        gains: list[list[Gains | None]] = []
        for layer, corners in zip(self._layers, self.layout.mosaic_corners, strict=True):
            found = [layer.select(run, cell) for run in (0, 1)]
            counts.append(
                [
                    self._show(layer, run, cell, maps, corner)
                    for run, maps, corner in zip((0, 1), found, corners, strict=False)
                ]
            )
            gains.append(
                [
                    None if isinstance(maps, str) else gains_at(scaler, cell)
                    for scaler, maps in zip(layer.scalers, found, strict=True)
                ]
            )
            own = layer.scalers[0].range_of(*cell, _NONE)
            ranges.append((own and own.times(layer.unit), None))
            if layer.rows[0].maps.series.in_colour:
                from replay.film.colour_section import joint_range

                ranges[-1] = (joint_range(layer.rows, cell), None)
            if layer.difference is not None:
                count, shown = self._show_difference(layer, cell, found, corners[2])
                counts[-1].append(count)
                ranges[-1] = (ranges[-1][0], shown and shown.times(layer.unit))
        problems = [picture.problem(*cell) for picture in self.inputs]
        self.layout.update(*cell, ranges, counts, problems, gains)
        return ()

    def _overlays(self, cell: Cell) -> Iterator[Overlay]:
        for picture, corner in zip(self.inputs, self.layout.input_corners, strict=False):
            yield Overlay(picture.show(*cell), *corner, picture.zoom)
        for layer, corners in zip(self._layers, self.layout.mosaic_corners, strict=True):
            for row, corner in zip(layer.rows, corners, strict=False):
                if row.maps.series.in_colour and cell not in row.maps.damaged:
                    from replay.film.colour_section import tiles_of

                    yield from tiles_of(row, layer.channels, layer.panel.mosaic, cell, corner)

    def _show(
        self,
        layer: _Layer,
        run: int,
        cell: Cell,
        found: npt.NDArray[np.float16] | str,
        corner: Cell,
    ) -> Count:
        """Paints one run's maps, and returns how many values are not finite, or what is to say."""
        mosaic, row, scaler = layer.panel.mosaic, layer.rows[run], layer.scalers[run]
        if isinstance(found, str):
            self._blank(layer, corner)
            return found
        if row.maps.series.in_colour:
            from replay.film.colour_section import words_of

            self._blank(layer, corner)
            return words_of(row, cell) or (0, 0)
        scaler.measure(*cell, found)
        levels = scaler.levels(*cell, shrink_maps(found, mosaic.blocks))
        paint(self.layout.plane, *corner, levels.reshape(-1, *levels.shape[2:]), mosaic)
        nan, inf = count_unfinite(found)
        return (nan, inf) if nan or inf else row.maps.series.remark(cell) or (0, 0)

    def _show_difference(
        self,
        layer: _Layer,
        cell: Cell,
        found: Sequence[npt.NDArray[np.float16] | str],
        corner: Cell,
    ) -> tuple[Count, Range | None]:
        """Paints b - a, and returns what is not finite and the range under which it is shown."""
        a, b = found
        assert layer.difference is not None
        if isinstance(a, str) or isinstance(b, str):
            self._blank(layer, corner)
            missing = "no frame in this batch" in (side for side in found if isinstance(side, str))
            reason = "no frame to subtract" if missing else "damaged: no difference"
            return reason, layer.difference.range_of(*cell, _NOTHING)
        values = subtract(a, b)
        layer.difference.measure(*cell, values)
        small: Values = shrink_maps(values, layer.panel.mosaic.blocks)
        levels = layer.difference.levels(*cell, small)
        mosaic = layer.panel.mosaic
        paint(self.layout.plane, *corner, levels.reshape(-1, *levels.shape[2:]), mosaic)
        return count_unfinite(values), layer.difference.range_of(*cell, values)

    def _blank(self, layer: _Layer, corner: Cell) -> None:
        paper, line = self.palette.paper, self.palette.solid("faint")
        blank(self.layout.plane, *corner, layer.panel.mosaic, paper, line)


def _has(row: Row, cell: Cell) -> bool:
    return bool(row.maps.series.present[cell])


def _headings(layers: Sequence[_Layer], runs: RunSet, options: ComparisonOptions) -> Headings:
    scaler, difference = layers[0].scalers[0], layers[0].difference
    scale = runs.recordings[0].scale_words or scaler.describe(len(layers) > 1)
    scale = scale.replace("the same for all recordings", "the same for both runs")
    scales = [f"{runs.recordings[0].quantity}: {scale}"]
    if difference is not None:
        scales.append(f"difference: {difference.describe(len(layers) > 1)}")
    for place, label in enumerate(runs.labels):
        of_run = [layer.rows[place].maps.layer for layer in layers]
        scales += filter(None, [describe_bits(of_run, clean(label))])
    if len(layers) == 1:
        name, details = layers[0].panel.name, layers[0].panel.details
    else:
        name, details = f"{len(layers)} layers", ""
    if options.title:
        name, details = clean(options.title), f"{name}   {details}"
    versus = " and ".join(clean(label) for label in runs.labels)
    return Headings(name, f"{versus}   {details}".strip(), tuple(scales))
