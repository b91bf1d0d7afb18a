"""The channels of a layer as three colours, one picture for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from replay.maps.axes import Maps
from replay.maps.components import Components, find_components
from replay.options import FilmOptions
from replay.raster.palette import Pixels, unfinite_colors
from replay.recording import Recording, Series
from replay.recording.derived import ColourSeries, DerivedRecording
from replay.recording.series import parse_key
from replay.schema import Cell, DamagedError, Float16Array, SelectionError

_PLACED = ("CHW", "HWC", "TC", "CDHW", "DHWC")  # axes of what has places in an image
_GRAY = "gray"


def look_at(run: Recording, options: FilmOptions) -> tuple[Recording, FilmOptions]:
    """Returns the components of the layers of a recording, see `views.look_at`.

    The last layer is shown where none is asked for, since there colours stand for things.
    """
    found = ComponentsRecording(run, options)
    found.require_frames()
    if options.layers is None:
        options = replace(options, layers=found.layers[-1])
    return found, options


class ComponentsRecording(DerivedRecording):
    """The components of the layers of a recording that have places in an image.

    Args:
        source: The recording.
        options: How tokens and volumes are shown.
        together: Recordings of which one basis is made, such as all fixed images; the recording
            alone by default.
    """

    quantity = "components"

    def __init__(
        self, source: Recording, options: FilmOptions, together: tuple[Recording, ...] = ()
    ) -> None:
        self._tokens, self._together = options.tokens, together
        super().__init__(source)

    def derive(self) -> Mapping[str, Series]:
        """Returns the pictures of each layer."""
        found: dict[str, Series] = {}
        for name in self.source.layers:
            series = self.source[name]
            if series.layer.axes not in _PLACED:
                continue
            maps = Maps(series, None, self._tokens)
            if min(maps.size) < 2:
                continue
            others = [Maps(run[name], None, self._tokens) for run in self._together if name in run]
            found[name] = ComponentSeries(maps, others or [maps])
        if not found and self.source.layers:
            raise SelectionError(
                f"no layer of {self.source.path} has places in an image, whose channels could be "
                "shown as colours"
            )
        return found


class ComponentSeries(ColourSeries):
    """The first three principal components of a layer as red, green and blue: one picture a frame.

    Args:
        maps: The layer.
        basis_of: What the basis is found from: all frames of the run, those that are not shown, too.
    """

    color_bar = False

    def __init__(self, maps: Maps, basis_of: list[Maps]) -> None:
        self._maps, self._basis_of = maps, basis_of
        self._components: Components | None = None
        self._odd = tuple(int(part) for part in unfinite_colors(_GRAY)[0])
        about = maps.layer
        words = [f"{maps.channels} channels as colours", *([about.note] if about.note else [])]
        layer = replace(
            about, shape=(1, *maps.size), axes="CHW", note=", ".join(words), kernel=None
        )
        super().__init__(maps.series, layer)

    @property
    def components(self) -> Components:
        """The basis, which is found when it is first asked for."""
        if self._components is None:
            cells = [(maps, cell) for maps in self._basis_of for cell in maps.series.frames]
            places = list(range(len(cells)))
            self._components = find_components(
                lambda at: _plane(cells[at[0]][0], cells[at[0]][1]), [(i, 0) for i in places]
            )
        return self._components

    def tiles(self, cell: Cell) -> list[Pixels]:
        """Returns the picture of a frame, uint8 (H, W, 3), alone in a list.

        Raises:
            DamagedError: The frame is damaged.
        """
        plane = _plane(self._maps, cell)
        if cell in self._maps.damaged:
            raise DamagedError(self._maps.damaged[cell])
        return [self.components.colours(plane, self._odd)]

    def remark(self, cell: Cell) -> str:
        """Returns the shares of the variance that the colours have, in words."""
        return self.components.in_words

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns the first component, float16 (1, H, W); see `Series`."""
        cell = self._snapshot.locate(*parse_key(key))
        plane = _plane(self._maps, cell)
        if cell in self._maps.damaged:
            raise DamagedError(self._maps.damaged[cell])
        if not len(self.components.basis):
            return np.full((1, *self._maps.size), np.nan, np.float16)
        return self.components.values(plane)[:1].astype(np.float16)


def _plane(maps: Maps, cell: Cell) -> Float16Array:
    """Returns a frame, (C, H, W): of a volume its middle slice."""
    frame = maps[cell]
    return frame[:, frame.shape[1] // 2]
