"""Everything in a file that has frames: maps and what lies beside them, of fixed images, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from replay.recording.beside_words import BESIDE
from replay.recording.recording import BesideMaps, Recording
from replay.recording.scaled import ScaledFrames
from replay.recording.series import Series
from replay.schema import Cell, Layer


@dataclass(frozen=True)
class StoredLayer:
    """A layer's frames as the file has them.

    Attributes:
        series: The frames, without their exponents.
        scaled: Their true values, of those that have exponents.
    """

    series: Series
    scaled: ScaledFrames | None = None

    @property
    def layer(self) -> Layer:
        """The layer."""
        return self.series.layer

    @property
    def name(self) -> str:
        """What to call it in a message: `conv1`, or `fixed image 0: conv1 gradients`."""
        layer = self.layer
        name = f"{layer.name} {layer.kind}" if layer.kind else layer.name
        return name if layer.probe is None else f"fixed image {layer.probe}: {name}"

    def check_exponent(self, cell: Cell) -> None:
        """Makes sure that a frame has an exponent that can be, if it has one at all.

        Raises:
            DamagedError: It cannot be.
            FileError: It cannot be read.
        """
        if self.scaled is not None:
            self.scaled.exponent(cell)


def fixed_images(run: Recording) -> list[Recording]:
    """Returns the fixed images of a recording; of one of them, itself."""
    if run.probe_number is not None:
        return [run]
    return [run.probe(number) for number in range(run.probes)]


def stored_layers(run: Recording) -> Iterator[StoredLayer]:
    """Yields all layers of a recording, the maps first, then those of each fixed image."""
    images = fixed_images(run)
    for view in images if run in images else (run, *images):
        yield from (StoredLayer(view[name]) for name in view.layers)
        for kind in BESIDE:
            beside = view.beside(kind)
            yield from (_stored(beside, name) for name in beside.layers)


def _stored(beside: BesideMaps, name: str) -> StoredLayer:
    if not beside[name].layer.scaled:
        return StoredLayer(beside[name])
    scaled = beside.scaled(name)
    return StoredLayer(scaled.stored, scaled)
