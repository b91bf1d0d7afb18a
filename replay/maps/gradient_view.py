"""Gradients as maps: symmetric around zero, in a diverging colormap, in real numbers.

From batch to batch gradients may shrink or grow by orders of magnitude. Where each map has a range
of its own, each frame is therefore divided by its largest value, which is said in a number; where
one range holds for several frames, all are divided by the same power of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from replay import schema
from replay.formatting import format_number
from replay.maps.scaling import check_clip
from replay.options import DIVERGING, FilmOptions
from replay.recording import Recording, Series
from replay.recording.derived import DerivedRecording, DerivedSeries
from replay.recording.recording import BesideMaps
from replay.recording.scaled import EvenSeries
from replay.recording.snapshot import parse_key
from replay.schema import Cell, DamagedError, Float16Array, Float32Array

_USUAL = "gray"  # the colormap of maps, which has no middle
_CLIPPED = 12  # 2 ** 12 is what the end of a range becomes that was asked for


def look_at(runs: Sequence[Recording], options: FilmOptions) -> tuple[list[Recording], FilmOptions]:
    """Returns the gradients of recordings as maps; see `views.look_at`."""
    exponent = None
    check_clip(options.clip)
    if options.clip is not None:
        reach = max(map(abs, options.clip))
        if 0 < reach < math.inf:
            exponent = math.frexp(reach)[1] - _CLIPPED
            low, high = (math.ldexp(end, -exponent) for end in options.clip)
            options = replace(options, clip=(low, high))
    sources = [run.beside(schema.GRADIENTS) for run in runs]
    for source in sources:
        source.require_frames()
    compared = bool(options.show) or getattr(options, "difference", False)
    each = options.own_ranges and not compared
    found: list[Recording] = [
        GradientRecording(source, sources, each, exponent) for source in sources
    ]
    cmap = DIVERGING if options.cmap == _USUAL else options.cmap
    return found, replace(options, cmap=cmap, symmetric=options.symmetric or options.clip is None)


class GradientRecording(DerivedRecording):
    """The gradients of a recording, divided so that they are float16.

    Args:
        source: The gradients.
        together: All that are shown, which are drawn on one scale.
        each: Whether each frame is divided by its largest value; else all by a power of two.
        exponent: That power; by default one for each layer, of the largest value of all.
    """

    quantity = "gradient"

    def __init__(
        self,
        source: BesideMaps,
        together: Sequence[BesideMaps] = (),
        each: bool = True,
        exponent: int | None = None,
    ) -> None:
        self._together, self._each, self._exponent = together or (source,), each, exponent
        super().__init__(source)

    def derive(self) -> Mapping[str, Series]:
        """Returns the gradients of each layer."""
        found: dict[str, Series] = {}
        for name in self.source.layers:
            others = [run[name] for run in self._together if name in run]
            source = self.source[name]
            found[name] = (
                FrameGradients(source)
                if self._each
                else RunGradients(source, others, self._exponent)
            )
        return found


class GradientSeries(DerivedSeries):
    """A layer's gradients as maps.

    Args:
        source: The gradients.

    Attributes:
        true: Their true values.
        magnified: How many times a map is magnified at most: gradients differ far more from
            batch to batch than maps do, and are no noise where they are small.
    """

    magnified = 64.0

    def __init__(self, source: Series) -> None:
        assert isinstance(source, EvenSeries), "gradients have exponents"
        about = source.layer
        note = f"gradient of the {about.of}" if about.of else "gradient"
        note = ", ".join(filter(None, [note, about.note]))
        layer = replace(about, kind="", scaled=False, grid=None, of="", queries="", note=note)
        super().__init__(source, layer)
        self.true = source.true

    @property
    def has_ranges(self) -> bool:
        """Whether the file keeps ranges."""
        return self.source.has_ranges

    def remark(self, cell: Cell) -> str:
        """Returns the largest value of a frame, in words."""
        try:
            largest = self.true.largest_of(cell)
        except DamagedError:
            return ""
        return "" if math.isnan(largest) else f"largest ±{format_number(largest)}"


class FrameGradients(GradientSeries):
    """A layer's gradients, each frame divided by its largest value."""

    unit = 0.0

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns one frame; see `Series`."""
        cell = self._snapshot.locate(*parse_key(key))
        largest = self.true.largest_of(cell)
        values = self.true[cell].astype(np.float64) / (largest if largest > 0 else 1.0)
        divided: Float16Array = values.astype(np.float16)
        return divided

    def ranges(self, epochs: range | None = None, batches: range | None = None) -> Float32Array:
        """Returns the ranges of these frames; see `Series`."""
        found = self.true.ranges(epochs, batches).astype(np.float64)
        with np.errstate(invalid="ignore"):
            reach = np.fmax.reduce(np.abs(found).reshape(*found.shape[:2], -1), axis=2)
        reach = np.where(reach > 0, reach, 1.0)[..., None, None]
        return (found / reach).astype(np.float32)


class RunGradients(GradientSeries):
    """A layer's gradients, all divided by one power of two.

    Args:
        source: The gradients.
        together: Those of all recordings that are shown.
        exponent: As in `GradientRecording`.
    """

    def __init__(
        self, source: Series, together: Sequence[Series], exponent: int | None = None
    ) -> None:
        super().__init__(source)
        self._exponent = exponent
        self._together = [each for each in together if isinstance(each, EvenSeries)]

    @property
    def exponent(self) -> int:
        """The power of two by which the values have to be multiplied to be the true ones."""
        if self._exponent is not None:
            return self._exponent
        return max(each.exponent for each in self._together)

    @property
    def unit(self) -> float:
        """What a value of 1 stands for."""
        return math.ldexp(1.0, self.exponent)

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns one frame; see `Series`."""
        return self.true.scaled_by(key, self.exponent)

    def ranges(self, epochs: range | None = None, batches: range | None = None) -> Float32Array:
        """Returns the ranges of these frames; see `Series`."""
        return self.true.ranges_by(self.exponent, epochs, batches)
