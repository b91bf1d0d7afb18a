"""What is shown beside the maps: the words of `--with`, and the sections that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay.film.sections import ChangeSection, KernelSection, MapSection, Section
from replay.formatting import format_number
from replay.maps.axes import spread
from replay.maps.difference import Change, DifferenceScaler
from replay.maps.kernels import Kernels, are_colored, kernel_series
from replay.maps.runs import FilmFacts, LayerPanel, Row
from replay.maps.scaling import Scaler
from replay.options import FilmOptions
from replay.raster.arrangement import Space, arrange
from replay.raster.histogram import Counter, Shares, peak_of
from replay.raster.palette import Palette, Range, TwoMapPalette
from replay.schema import Cell, OptionError, SelectionError
from replay.schema.suggestions import did_you_mean

KERNEL_ROWS = 96  # pixels: the height of a mosaic of kernels
_SAMPLED = 16  # frames from which a histogram's height is chosen
SHOWN = ("loss", "kernels", "difference", "difference:previous", "histogram")


@dataclass(frozen=True)
class Extras:
    """What is shown beside the maps.

    Attributes:
        loss: Whether the curve of the loss has to be there; it is anyway if a loss was logged.
        kernels: Whether the kernels of each layer are shown.
        since: How far a difference goes back, `first` or `previous`; empty for none.
        histogram: Whether each layer has a histogram.
    """

    loss: bool = False
    kernels: bool = False
    since: str = ""
    histogram: bool = False

    @classmethod
    def parse(cls, options: FilmOptions) -> Extras:
        """Reads `kernels`, `difference:previous` and so on.

        Raises:
            OptionError: An unknown word, or what does not go together.
        """
        words = options.show.split(",") if isinstance(options.show, str) else options.show
        words = [word.strip() for word in words]
        for word in words:
            if word not in SHOWN:
                known = f"{', '.join(SHOWN)}{did_you_mean(word, SHOWN)}"
                raise OptionError(f"cannot show {word!r}; expected {known}")
        differences = {word for word in words if word.startswith("difference")}
        if len(differences) > 1:
            raise OptionError("difference and difference:previous: expected one of them")
        since = "previous" if "difference:previous" in words else "first" if differences else ""
        extras = cls("loss" in words, "kernels" in words, since, "histogram" in words)
        if not options.captions and (extras.loss or extras.histogram):
            raise OptionError("loss and histogram stand among the captions, which are off")
        return extras

    def check(self, rows: Sequence[Row], facts: FilmFacts) -> None:
        """Makes sure that the recordings have what is to be shown.

        Raises:
            SelectionError: There is no loss, or none of the layers has kernels.
        """
        if self.loss and facts.loss is None:
            path = rows[0].maps.series.path
            raise SelectionError(f"no loss was logged in {path}")
        if self.kernels and not _with_kernels(rows):
            series = kernel_series(rows[0])
            series.kernels(*series.frames[0])  # which raises, and says why

    def needs_diverging(self, rows: Sequence[Row]) -> bool:
        """Returns whether something is shown in a diverging colormap of its own."""
        kernels = _with_kernels(rows) if self.kernels else []
        shapes = [kernel_series(row).layer.kernel for row in kernels]
        return bool(self.since) or any(not are_colored(shape) for shape in shapes if shape)

    def count(self, rows: Sequence[Row]) -> tuple[int, int]:
        """Returns the numbers of mosaics of maps and their changes, and of kernels."""
        kernels = len(_with_kernels(rows)) if self.kernels else 0
        return len(rows) * (2 if self.since else 1), kernels

    def sections(
        self,
        row: Row,
        channels: list[int],
        panel: LayerPanel,
        cells: Sequence[Cell],
        palette: Palette,
        options: FilmOptions,
        space: Space,
    ) -> list[Section]:
        """Returns what is shown of a layer besides its maps, from top to bottom.

        Args:
            row: The layer, and the recording.
            channels: Which of its maps are shown.
            panel: Where they are shown.
            cells: The (epoch, batch) of the frames in which one of the recordings has the layer.
            palette: The colours.
            options: How the film looks.
            space: The space for each mosaic of maps.
        """
        found: list[Section] = []
        entries: range | None = None
        recorded = [cell for cell in cells if row.maps.series.present[cell]]
        if isinstance(palette, TwoMapPalette):
            entries = palette.differences
        if self.since and entries is not None:
            change = Change(row.maps, self.since)
            scaler = DifferenceScaler(
                change,
                [cell for cell in recorded if change.earlier(cell) is not None],
                channels,
                options.scale if options.clip is None else "run",
                entries,
                palette.nan,
                palette.inf,
            )
            below = replace(
                panel, name="change", details=change.words, entries=entries, gains=False
            )
            found.append(ChangeSection(row, channels, change, scaler, below))
        if self.kernels and _with_kernels([row]):
            kernels = Kernels(row, channels, recorded)
            below = _kernel_panel(kernels, channels, options, space, entries)
            found.append(KernelSection(row, kernels, entries or range(1), below))
        return found


class HistogramSource:
    """The shares of a layer's values for its histogram, over one range of values.

    That is the range of the colour bar; where each channel has its own, that of the run.

    Args:
        section: The layer's maps.
        cells: The (epoch, batch) of the frames of the film.

    Attributes:
        between: The range in words where no colour bar says it; else empty.
        peak: The share of the highest bar in some frames of the run.
    """

    def __init__(self, section: MapSection, cells: Sequence[Cell]) -> None:
        self._section, self._counter = section, Counter()
        self._recorded = [cell for cell in cells if section.row.maps.series.present[cell]]
        self._range: Range | None = None
        self.between = ""
        if section.scaler.per_channel and self._recorded:
            scaler = Scaler(section.row.maps, self._recorded, section.channels)
            self._range = scaler.range_of(*self._recorded[0], np.empty(0, np.float16))
            unit = section.row.maps.series.unit
            self.between = "" if self._range is None else self._range.times(unit).in_words(" to ")
        self.peak = self._find_peak()

    def shares(self, cell: Cell) -> Shares | None:
        """Returns those of the frame that the section has just drawn; None without one."""
        shown = self._range_of(cell) if self._section.maps is not None else None
        if self._section.maps is None or shown is None:
            return None
        return self._counter.shares(self._section.maps, shown)

    def _range_of(self, cell: Cell) -> Range | None:
        return self._section.range_of(cell) if self._range is None else self._range

    def _find_peak(self) -> float:
        ranges = ((cell, self._range_of(cell)) for cell in spread(self._recorded, _SAMPLED))
        return peak_of(
            [
                self._counter.shares(self._section.select(cell), shown)
                for cell, shown in ranges
                if shown is not None
            ]
        )


def _kernel_panel(
    kernels: Kernels, channels: list[int], options: FilmOptions, space: Space, entries: range | None
) -> LayerPanel:
    labels = [str(channel) for channel in channels]
    mosaic = arrange(
        len(labels),
        *kernels.size,
        replace(space, height=KERNEL_ROWS, stretch=1.0),
        numbers=options.captions,
        digits=max(map(len, labels)),
    )
    height, width = kernels.size
    what, _, how = kernels.words.partition(", ")
    how = how or what.removeprefix("kernels").strip()
    details = ", ".join(filter(None, [how, f"{height}×{width}"]))
    if kernels.colored:
        reach = format_number(kernels.reach)
        details += f", gray is 0, the ends −{reach} and {reach}"
    return LayerPanel(mosaic, labels, "kernels", details, entries, not kernels.colored)


def _with_kernels(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if kernel_series(row).layer.kernel is not None]
