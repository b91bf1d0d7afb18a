"""What is shown beside the maps: the words of `--with`, and the sections that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from replay.film.facts import FilmFacts, LayerPanel
from replay.film.sections import ChangeSection, KernelSection, MapSection, Section
from replay.formatting import format_number
from replay.maps.difference import Change, DifferenceScaler
from replay.maps.kernels import Kernels, coloured, kernel_series
from replay.maps.runs import Row
from replay.raster.mosaic import Space, arrange
from replay.raster.palette import Palette, TwoMapPalette
from replay.schema import Cell, OptionError, SelectionError

if TYPE_CHECKING:
    from replay.film.options import FilmOptions

DIVERGING = "RdBu_r"  # the colormap of what is symmetric around zero
KERNEL_ROWS = 96  # pixels: the height of a mosaic of kernels
SHOWN = ("loss", "kernels", "difference", "difference:previous", "histogram")


@dataclass(frozen=True)
class Extras:
    """What was asked for.

    Attributes:
        loss: The curve of the loss, which is there anyway if a loss was logged.
        kernels: The kernels of each layer.
        since: How far a difference goes back, `first` or `previous`; empty for none.
        histogram: A histogram of each layer.
    """

    loss: bool = False
    kernels: bool = False
    since: str = ""
    histogram: bool = False

    @classmethod
    def parse(cls, words: Iterable[str], captions: bool, scale: str) -> Extras:
        """Reads `kernels`, `difference:previous` and so on.

        Raises:
            OptionError: An unknown word, or what does not go together.
        """
        found = [word.strip() for word in words]
        for word in found:
            if word not in SHOWN:
                raise OptionError(f"cannot show {word!r}; expected {', '.join(SHOWN)}")
        differences = {word for word in found if word.startswith("difference")}
        if len(differences) > 1:
            raise OptionError("difference and difference:previous: expected one of them")
        since = "previous" if "difference:previous" in found else "first" if differences else ""
        wanted = cls("loss" in found, "kernels" in found, since, "histogram" in found)
        if not captions and (wanted.loss or wanted.histogram):
            raise OptionError("loss and histogram stand among the captions, which are off")
        if wanted.histogram and scale == "channel":
            raise OptionError("a histogram needs one range: expected another scale than channel")
        return wanted

    def check(self, rows: Sequence[Row], facts: FilmFacts) -> None:
        """Makes sure that the recordings have what was asked for.

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
        """Whether something is shown in a diverging colormap of its own."""
        kernels = _with_kernels(rows) if self.kernels else []
        shapes = [kernel_series(row).layer.kernel for row in kernels]
        return bool(self.since) or any(not coloured(shape) for shape in shapes if shape)

    def count(self, rows: Sequence[Row]) -> tuple[int, int]:
        """Numbers of mosaics of maps, and of kernels."""
        kernels = len(_with_kernels(rows)) if self.kernels else 0
        return len(rows) * (2 if self.since else 1), kernels

    def beside(
        self,
        maps: MapSection,
        frames: Sequence[Cell],
        palette: Palette,
        look: FilmOptions,
        room: Space,
    ) -> list[Section]:
        """What is shown of a layer besides its maps."""
        found: list[Section] = []
        row, entries = maps.row, None
        if isinstance(palette, TwoMapPalette):
            entries = palette.differences
        if self.since and entries is not None:
            change = Change(row.maps, self.since)
            there = [
                cell
                for cell in frames
                if row.maps.series.present[cell] and change.earlier(cell) is not None
            ]
            scale = look.scale if look.clip is None else "run"
            scaler = DifferenceScaler(
                change, there, maps.channels, scale, entries, palette.nan, palette.inf
            )
            part = replace(maps.part, name="change", words=change.words, entries=entries)
            found.append(ChangeSection(row, maps.channels, change, scaler, part))
        if self.kernels and _with_kernels([row]):
            there = [cell for cell in frames if row.maps.series.present[cell]]
            kernels = Kernels(row, maps.channels, there)
            part = _kernel_part(kernels, maps, look, room, entries)
            found.append(KernelSection(row, kernels, entries or range(1), part))
        return found


def _kernel_part(
    kernels: Kernels, maps: MapSection, look: FilmOptions, room: Space, entries: range | None
) -> LayerPanel:
    labels = [str(channel) for channel in maps.channels]
    mosaic = arrange(
        len(labels),
        *kernels.size,
        replace(room, height=KERNEL_ROWS, stretch=1.0),
        numbers=look.captions,
        digits=max(map(len, labels)),
    )
    height, width = kernels.size
    what, _, how = kernels.words.partition(", ")
    how = how or what.removeprefix("kernels").strip()
    words = ", ".join(filter(None, [how, f"{height}×{width}"]))
    if kernels.coloured:
        reach = format_number(kernels.reach)
        words += f", gray is 0, the ends −{reach} and {reach}"
    return LayerPanel(mosaic, labels, "kernels", words, entries, not kernels.coloured)


def _with_kernels(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if kernel_series(row).layer.kernel is not None]
