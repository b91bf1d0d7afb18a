"""The principal components of layers in a page: a basis of a few kilobytes, no pictures.

A page has all channels of a layer anyway, and makes three colours of them when they are asked for
(`page/views.js`, in the same order of operations as `component_pixels`). As in films one basis
holds for all frames, and for all fixed images together: a colour means the same in all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.formatting import format_count
from replay.maps.components import Components, find_components
from replay.raster.palette import unfinite_colors
from replay.schema import Cell
from replay.schema.token_grid import TokenGrid
from replay.webpage.frame_block import FrameBlock
from replay.webpage.layer_data import LayerData

_MOST_CHANNELS = 4096  # their covariance has the square of it: 134 MB
GROWTH = 1.25
"""When a run is so many times longer, what holds for the whole of it is found again."""

_FULL = 32767  # the largest part of a row, as it is stored
_MIDDLE = 128  # the level of a colour that stands for nothing
_GRAY = "gray"  # the colormap whose colour of NaN is taken


@dataclass(frozen=True, eq=False)
class PageBasis:
    """Three rows of factors and a summand each, by which values become red, green and blue.

    A channel's factor in a row is `parts * scale`. A level is their sum over the channels, and the
    summand, cut to 0..255.

    Attributes:
        parts: int16 (k, C), k being 3 or fewer.
        scale: float32 (k,).
        offset: float32 (k,).
        words: Which share of the variance each colour has.
    """

    parts: npt.NDArray[np.int16]
    scale: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    words: str

    @classmethod
    def of(cls, components: Components) -> PageBasis:
        """Returns a basis as a page has it: 16 bits for each part of a row."""
        span = (components.high - components.low).astype(np.float64)
        gain = np.where(span > 0, 255 / np.where(span > 0, span, 1), 0)
        rows = components.basis.astype(np.float64) * gain[:, None]
        scale = (np.abs(rows).max(axis=1, initial=0) / _FULL).astype(np.float32)
        parts = np.rint(rows / np.where(scale > 0, scale, 1)[:, None])
        parts = np.clip(parts, -_FULL, _FULL).astype(np.int16)
        centre = (parts * scale.astype(np.float64)[:, None]) @ components.mean.astype(np.float64)
        offset = np.where(span > 0, -centre - components.low * gain, _MIDDLE)
        channels = format_count(len(components.mean), "channel")
        return cls(parts, scale, offset.astype(np.float32), f"{components.in_words} of {channels}")

    def pack(self) -> bytes:
        """Returns it as a block: k, scales, offsets, parts, and the words."""
        numbers = np.stack([self.scale, self.offset]).astype("<f4").tobytes()
        text = self.words.encode()
        packed = bytes([len(self.parts)]) + numbers + self.parts.astype("<i2").tobytes() + text
        return zlib.compress(packed, 6)

    @staticmethod
    def unpack(packed: bytes, channels: int) -> PageBasis:
        """Returns what `pack` packed, for so many channels."""
        data = zlib.decompress(packed)
        rows, at = data[0], 1 + 8 * data[0]
        scale, offset = np.frombuffer(data, "<f4", 2 * rows, 1).reshape(2, rows)
        parts = np.frombuffer(data, "<i2", rows * channels, at).reshape(rows, channels)
        return PageBasis(parts, scale, offset, data[at + 2 * parts.size :].decode())


class PageBases:
    """The bases of all layers of a page: one for the first images, one for all fixed images.

    Attributes:
        blocks: The name and the bytes of each.
    """

    def __init__(self) -> None:
        self.blocks: list[tuple[str, bytes]] = []

    def add(self, layers: Sequence[LayerData]) -> None:
        """Finds the bases of layers, and tells each which block has its own.

        Args:
            layers: Those of images that have one basis together, of all runs; those of one name
                and the same channels belong together.
        """
        together: dict[tuple[str, tuple[int, ...]], list[LayerData]] = {}
        for layer in layers:
            if has_places(layer):
                together.setdefault((layer.name, tuple(layer.channels)), []).append(layer)
        for group in together.values():
            name = f"components-{len(self.blocks)}"
            self.blocks.append((name, find_basis(group).pack()))
            for layer in group:
                layer.components = name


class LiveBases:
    """The bases of a recording that grows: found again when there are a quarter more frames."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, bytes]] = {}

    def block(self, name: str, layers: Sequence[LayerData]) -> bytes:
        """Returns a basis as a block.

        Args:
            name: What it is called.
            layers: Those that have it together.
        """
        frames = sum(len(layer.frames) for layer in layers)
        known = self._known.get(name)
        if known is None or frames >= GROWTH * known[0]:
            known = self._known[name] = frames, find_basis(layers).pack()
        return known[1]


def has_components(view: str, made: str) -> bool:
    """Returns whether components are shown of what a page has in some view; see `PageSource`."""
    return view == "maps" and made in ("", "components")


def has_places(layer: LayerData) -> bool:
    """Returns whether a layer has components: positions in an image, and not too many channels."""
    return layer.places is not None and len(layer.channels) <= _MOST_CHANNELS


def find_basis(group: Sequence[LayerData]) -> PageBasis:
    """Returns the basis of a layer.

    Args:
        group: The layer, of each image and run that have one basis together.
    """
    cells = sorted({cell for layer in group for cell in layer.frames})

    def read(cell: Cell) -> npt.NDArray[np.float16]:
        found = [layer.in_places(cell) for layer in group if layer.present(cell)]
        return np.concatenate(found, axis=1)

    return PageBasis.of(find_components(read, cells))


def component_pixels(
    block: FrameBlock, basis: PageBasis, places: TokenGrid
) -> npt.NDArray[np.uint8]:
    """Returns what the page's canvas shows of a frame's components.

    Args:
        block: What the page holds of the frame.
        basis: The basis.
        places: Where its positions stand in the image.

    Returns:
        uint8 (H, W, 3), red, green and blue.
    """
    size = (places.rows, places.columns)
    stop = places.prefix + places.rows * places.columns
    values = block.values.reshape(len(block.levels), -1)[:, places.prefix : stop]
    factors = basis.parts.astype(np.float64) * basis.scale.astype(np.float64)[:, None]
    levels = np.full((3, values.shape[1]), _MIDDLE, np.uint8)
    for row, (factor, offset) in enumerate(zip(factors, basis.offset, strict=True)):
        total = np.full(values.shape[1], float(offset))
        for part, channel in zip(factor, values, strict=True):
            total = total + part * channel
        levels[row] = np.floor(np.clip(total, 0, 255) + 0.5).astype(np.uint8)
    if len(factors) == 1:
        levels[:] = levels[0]
    if block.odd is not None:
        odd = block.odd.reshape(len(block.levels), -1)[:, places.prefix : stop].any(axis=0)
        levels[:, odd] = unfinite_colors(_GRAY)[0][:, None]
    pixels: npt.NDArray[np.uint8] = levels.T.reshape(*size, 3)
    return pixels
