"""A recording whose frames are made of those of another one: what is drawn instead of maps.

What draws maps draws these, since they are frames by layer, epoch and batch likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording.recording import Recording
from replay.recording.series import Series
from replay.schema import Cell, Float16Array, Layer, SelectionError


class DerivedSeries(Series):
    """Frames that are made of a layer's frames: `series[epoch, batch]` -> float16.

    Args:
        source: The frames of which they are made.
        layer: Name, shape, axes and note of what is made.

    Attributes:
        source: As given.
    """

    def __init__(self, source: Series, layer: Layer) -> None:
        super().__init__(source._snapshot, layer)
        self.source = source

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns one frame; see `Series`."""
        raise NotImplementedError

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self.source.present

    @property
    def has_ranges(self) -> bool:
        """False: what is made is measured when it is shown."""
        return False

    def checksums(self, group: str = schema.CHECKSUMS) -> npt.NDArray[np.uint32] | None:
        """Returns the checksums of the frames of which these are made."""
        return self.source.checksums(group)


class ColourSeries(DerivedSeries):
    """Pictures in colours, one a tile: what is drawn of them are `tiles`, not levels.

    Attributes:
        color_bar: Whether there are values that the colours stand for.
        subject: What the pictures show, in a few words.
    """

    in_colour = True
    color_bar = True
    subject = ""

    def tiles(
        self, cell: Cell, channels: Sequence[int] | None = None, shrink: int = 1
    ) -> npt.NDArray[np.uint8]:
        """Returns the pictures of a frame, uint8 (N, H, W, 3), H and W those of the layer.

        Args:
            cell: Epoch and batch.
            channels: Which of the tiles; all by default.
            shrink: Rows and columns of which a pixel is made.

        Raises:
            DamagedError: What they are made of is damaged.
        """
        raise NotImplementedError

    def shown(self, cell: Cell) -> tuple[float, float] | None:
        """Returns the values of both ends of the colour bar; None where each tile has its own.

        Both are NaN where no value is finite.
        """
        return None

    def not_finite(self, cell: Cell) -> str:
        """Returns how much of a frame is not finite, in words: `3 NaN, 1 infinite`."""
        return ""


class DerivedRecording(Recording):
    """What is made of a recording, as a recording of the same file.

    Args:
        source: The recording.

    Attributes:
        source: As given.
        quantity: What its values are, for captions.
    """

    def __init__(self, source: Recording) -> None:
        self.source = source
        self.probe_number, self.kind = source.probe_number, source.kind
        self._share(source, source._snapshot)

    def derive(self) -> Mapping[str, Series]:
        """Returns what there is by its name."""
        raise NotImplementedError

    def close(self) -> None:
        """Does nothing: the file belongs to the recording that this is made of."""

    def refresh(self) -> None:
        """Takes in what was committed since."""
        self.source.refresh()
        self._find_series()

    def probe(self, number: int = 0) -> Any:
        """Raises `SelectionError`: a fixed image is chosen before."""
        raise SelectionError(f"no fixed image {number} in what is made of {self.path}")

    @property
    def probes(self) -> int:
        """0: a fixed image is chosen before."""
        return 0

    @property
    def batches(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-batch fields of the recording."""
        return self.source.batches

    def __getitem__(self, name: str) -> Series:
        """Returns the frames of one layer.

        Raises:
            SelectionError: No such layer; the message says which there are.
        """
        if name not in self:
            self.source[name]  # which raises, and says what is there
        return super().__getitem__(name)

    def require_frames(self) -> None:
        """Makes sure that there is something to show; see `Recording`."""
        self.source.require_frames()
        super().require_frames()

    def _find_series(self) -> None:
        self._series = dict(self.derive())
        self._layers = tuple(self._series)

    def _find(self, name: str) -> Series | None:
        return self._series.get(name)
