"""Which arrays were written so far, and the layout that they have in a batch's flat buffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from record.arrays.conversion import as_float16, copy_scaled
from record.protocol.layout import BatchLayout, Slot
from replay.schema import AXES, FRAME_DTYPE, Layer, OptionError

MAX_SHAPES = 8  # of one layer, or of the image, in one run


class NamedArray(NamedTuple):
    """An array of a batch, of one image.

    Attributes:
        name: The layer's name.
        values: What is written of it.
        kernel: The kernels that made it; None where they are not kept.
        kind: As `schema.Layer.kind`.
        probe: As `schema.Layer.probe`.
        note: As `schema.Layer.note`.
    """

    name: str
    values: npt.NDArray[Any]
    kernel: npt.NDArray[Any] | None = None
    kind: str = ""
    probe: int | None = None
    note: str = ""

    @property
    def scaled(self) -> bool:
        """Whether its values have an exponent: gradients are as small as they like."""
        return self.kind == "gradients"


class ArrayLayout:
    """The layout of all arrays that were ever written; it only grows.

    Args:
        axes: What the axes of a layer's arrays are, by its name, as `schema.AXES`.
        modules: The layers in words, by name.

    Attributes:
        layout: What one batch consists of.
    """

    def __init__(self, axes: Mapping[str, str], modules: Mapping[str, str]) -> None:
        self.layout = BatchLayout((), ())
        self._axes, self._modules = axes, modules
        self._places: dict[tuple[str, int | None, str, tuple[int, ...]], int] = {}
        self._shapes: dict[tuple[str, int | None, str], int] = {}

    def extend(self, arrays: list[NamedArray], image: npt.NDArray[Any] | None) -> bool:
        """Takes in what is written for the first time.

        Returns:
            Whether the layout has changed.

        Raises:
            OptionError: A layer, or the image, has more shapes than a recording keeps.
        """
        images, added = self.layout.images, list[Layer]()
        if image is not None and image.shape not in images:
            images = (*images, image.shape)
            if len(images) > MAX_SHAPES:
                raise OptionError(
                    f"input: expected at most {MAX_SHAPES} different shapes in a run, found "
                    f"another one, {image.shape}"
                )
        places, shapes = dict(self._places), dict(self._shapes)
        for array in arrays:
            what = array.kind, array.probe, array.name
            shape = array.values.shape
            key = (*what, shape)
            if key in places:
                continue
            others = shapes.get(what, 0)
            if others == MAX_SHAPES:
                raise OptionError(
                    f"{array.name}: expected at most {MAX_SHAPES} different shapes in a run, found "
                    f"another one, {shape}"
                )
            shapes[what] = others + 1
            places[key] = len(self.layout.layers) + len(added)
            added.append(self._layer(array, varied=others > 0))
        if not added and images == self.layout.images:
            return False
        self.layout = BatchLayout(images, (*self.layout.layers, *added))
        self._places, self._shapes = places, shapes
        return True

    def _layer(self, array: NamedArray, varied: bool) -> Layer:
        """Returns a layer for an array; one of a second shape has the shape in its name.

        Raises:
            OptionError: What was said of its axes does not fit.
        """
        shape, kernel = array.values.shape, array.kernel
        axes = self._axes.get(array.name, "")
        known = AXES.get(len(shape), ())
        if axes and axes not in known and array.kind != "attention":
            raise OptionError(
                f"axes of {array.name}: expected {' or '.join(known) or 'none'} for arrays of "
                f"shape {shape}, found {axes!r}"
            )
        if kernel is not None and kernel.size > array.values.size:
            kernel = None
        return Layer(
            name=array.name + (f"@{'x'.join(map(str, shape))}" if varied else ""),
            module=self._modules.get(array.name, ""),
            shape=shape,
            kernel=None if kernel is None else kernel.shape,
            axes="" if array.kind == "attention" else axes,
            probe=array.probe,
            note=array.note,
            kind=array.kind,
            scaled=array.scaled,
            queries=("all" if len(shape) == 3 else "mean") if array.kind == "attention" else "",
            of="loss" if array.kind == "gradients" else "",
        )

    def fill(
        self, data: memoryview, arrays: list[NamedArray], image: npt.NDArray[Any] | None
    ) -> tuple[tuple[int, ...], int | None]:
        """Copies a batch's arrays into its buffer.

        Args:
            data: The buffer's bytes.
            arrays: The arrays, each of which `extend` has taken in.
            image: The image, likewise.

        Returns:
            The places in the layout of what is missing, and which of its images there is.

        Raises:
            OptionError: The kernels of a layer have another shape than before.
        """
        flat = np.frombuffer(data, FRAME_DTYPE)
        layout, held = self.layout, set[int]()
        for array in arrays:
            place = self._places[array.kind, array.probe, array.name, array.values.shape]
            held.add(place)
            target = _part(flat, layout.map_slots[place])
            exponent = layout.exponent_slots[place]
            if exponent is None:
                as_float16(array.values, target)
            else:
                flat[exponent.start] = copy_scaled(array.values, target)
            slot = layout.kernel_slots[place]
            if slot is not None:
                self._fill_kernel(_part(flat, slot), array)
        number = None
        if image is not None:
            number = layout.images.index(image.shape)
            as_float16(image, _part(flat, layout.image_slots[number]))
        return tuple(place for place in range(len(layout.layers)) if place not in held), number

    def _fill_kernel(self, target: npt.NDArray[np.float16], array: NamedArray) -> None:
        kernel = array.kernel
        if kernel is None:
            target[...] = np.nan
        elif kernel.shape == target.shape:
            as_float16(kernel, target)
        else:
            raise OptionError(
                f"kernels of {array.name}: expected {target.shape}, as at first, "
                f"found {kernel.shape}"
            )

    def silent(self, missing: tuple[int, ...]) -> int:
        """Returns how many layers put out nothing in a batch, though they did before.

        Args:
            missing: The places of what is missing.
        """
        layers = self.layout.layers
        base = {n for n, layer in enumerate(layers) if layer.is_main}
        names = {layers[n].name.partition("@")[0] for n in base & set(missing)}
        return len(names - {layers[n].name.partition("@")[0] for n in base - set(missing)})


def _part(flat: npt.NDArray[np.float16], slot: Slot) -> npt.NDArray[np.float16]:
    return flat[slot.start : slot.stop].reshape(slot.shape)
