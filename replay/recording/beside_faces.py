"""Other forms of a recording, and what lies beside its maps, as a user asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from replay import schema
from replay.recording.series import Series

if TYPE_CHECKING:
    from replay.recording.cam_frames import CamFrames
    from replay.recording.scaled import ScaledFrames


class BesideFaces:
    """Attention, gradients, class activation and xarray, of what has a method `beside`."""

    def beside(self, kind: str, probe: int | None = None) -> Any:
        """Returns what lies beside the maps, as a recording."""
        raise NotImplementedError

    @property
    def attentions(self) -> tuple[str, ...]:
        """Names of the layers whose attention was recorded."""
        names: tuple[str, ...] = self.beside(schema.ATTENTION).layers
        return names

    @property
    def gradients(self) -> tuple[str, ...]:
        """Names of the layers whose maps have gradients."""
        names: tuple[str, ...] = self.beside(schema.GRADIENTS).layers
        return names

    @property
    def cams(self) -> tuple[str, ...]:
        """Names of the layers that have weights of class activation maps."""
        names: tuple[str, ...] = self.beside(schema.CAM).layers
        return names

    def attention(self, name: str, probe: int | None = None) -> Series:
        """Returns attention by [epoch, batch]: float16 (heads, T), or (heads, T_q, T_k).

        Args:
            name: The layer.
            probe: As in `beside`.
        """
        found: Series = self.beside(schema.ATTENTION, probe)[name]
        return found

    def gradient(self, name: str, probe: int | None = None) -> ScaledFrames:
        """Returns gradients by [epoch, batch]: float32 of the shape of the layer's frames.

        Args:
            name: The layer.
            probe: As in `beside`.
        """
        found: ScaledFrames = self.beside(schema.GRADIENTS, probe).scaled(name)
        return found

    def cam_weights(self, name: str, probe: int | None = None) -> ScaledFrames:
        """Returns a layer's weights of class activation maps by [epoch, batch]: float32 (C,).

        Args:
            name: The layer.
            probe: As in `beside`.
        """
        found: ScaledFrames = self.beside(schema.CAM, probe).scaled(name)
        return found

    def cam(
        self, layer: str | None = None, probe: int | None = None, method: str = "grad-cam"
    ) -> CamFrames:
        """Returns class activation of a fixed image by [epoch, batch]; see `CamFrames`.

        Args:
            layer: The layer; the last one that has weights by default.
            probe: The image's number; by default that of a `Probe`, else 0.
            method: `grad-cam`, `hirescam` or `gradient-x-activation`.
        """
        from replay.recording.cam_frames import cam_of

        return cam_of(cast(Any, self), layer, probe, method)

    def to_xarray(self, layer: str | None = None) -> Any:
        """Returns a layer as an `xarray.Dataset`, whose frames are read when they are looked at.

        `maps` has the dimensions `epoch`, `batch` and those of the layer (`channel`, `y`, `x`), NaN
        where nothing was recorded; beside it lie `input`, `range` and the fields of the batches.

        Args:
            layer: The layer's name; the first recorded one by default.

        Raises:
            SelectionError: No such layer in the file.
            OptionError: xarray is not installed.
        """
        from replay.recording.xarray_view import to_xarray

        return to_xarray(self, layer)
