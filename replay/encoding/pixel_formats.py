"""Frames to pixels in the form that costs an encoder least: YUV planes, indices, or colours.

Each function is a generator over frames that fills the same buffers again and again: what it
yields is valid until the next frame is asked for. Of a frame that says where it differs from the
one before, only that is converted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.encoding.quantize import quantize
from replay.raster.frame import Frame, Overlay
from replay.raster.mosaic import Box
from replay.raster.palette import Palette, widen

Bytes = npt.NDArray[np.uint8]

_GRAY = 128  # the value of U and V
_MOST_COLOURS = 32  # palette entries with a colour, up to which it pays to look for them
_LITTLE = sys.byteorder == "little"


class _Stale:
    """Keeps track of the boxes in which the buffers do not hold the frame yet, pictures aside.

    Args:
        size: Height and width of the frames.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._whole: Box = (0, 0, *size)
        self._covered: list[Box] | None = None  # boxes of the pictures of the frame before

    def boxes(self, frame: Frame) -> Iterator[Box]:
        """Yields what changed, and where a picture was that is not there any more."""
        covered = [_box_of(picture) for picture in frame.pictures]
        if frame.changed is None or self._covered is None:
            yield self._whole
        else:
            yield from frame.changed
            yield from (box for box in self._covered if box not in covered)
        self._covered = covered


def as_yuv(
    frames: Iterable[Frame], palette: Palette, size: tuple[int, int]
) -> Iterator[list[Bytes]]:
    """Converts frames into 8-bit 4:2:0 planes in BT.709, limited range, without RGB in between.

    Args:
        frames: The frames, all of one size.
        palette: The colours of their indices.
        size: Height and width, both even.

    Yields:
        Y, uint8 (H, W), then U and V, uint8 (H / 2, W / 2).
    """
    height, width = size
    table = _to_yuv(palette.table)  # (256, 3)
    luma, chroma = _of_pairs(table)
    y = np.empty((height, width), np.uint8)
    brightness = y.view(np.uint16)
    halves = [np.empty((height // 2, width // 2), np.uint8) for _ in range(2)]
    stale, coloured = _Stale(size), _Coloured(table)
    gray = bool((table[[*range(palette.levels), palette.paper], 1:] == _GRAY).all())
    for frame in frames:
        plain = [box for box in frame.plain if gray and box == _to_even(box)]
        pairs = np.ascontiguousarray(frame.plane).view(np.uint16)
        for box in stale.boxes(frame):
            top, left, bottom, right = (place // 2 for place in _to_even(box))
            brightness[2 * top : 2 * bottom, left:right] = luma.take(
                pairs[2 * top : 2 * bottom, left:right],
                mode="wrap",  # no pair is without an entry, and so numpy need not look for one
            )
            if box in plain or not coloured.any(
                frame.plane[2 * top : 2 * bottom, 2 * left : 2 * right]
            ):
                for half in halves:
                    half[top:bottom, left:right] = _GRAY
                continue
            # The sums of four pixels each.
            sums = chroma.take(pairs[2 * top : 2 * bottom : 2, left:right], mode="wrap")
            sums += chroma.take(pairs[2 * top + 1 : 2 * bottom : 2, left:right], mode="wrap")
            sums += 0x00020002
            sums >>= 2  # now the mean of U is in the first byte and that of V in the third
            means = sums.view(np.uint8).reshape(*sums.shape, 4)
            for half, place in zip(halves, (0, 2) if _LITTLE else (3, 1), strict=True):
                half[top:bottom, left:right] = means[..., place]
        for picture in frame.pictures:
            _put_yuv(picture, frame.plane, table, y, halves)
        yield [y, *halves]


class _Coloured:
    """Finds colours among pixels, where the colormap is gray and few entries are anything else.

    Args:
        table: Y, U and V of each index, uint8 (256, 3).
    """

    def __init__(self, table: Bytes) -> None:
        odd = (table[:, 1:] != _GRAY).any(axis=1)
        edges = np.flatnonzero(np.diff(odd, prepend=False, append=False))
        self._spans = [(np.uint8(a), int(b - a)) for a, b in edges.reshape(-1, 2)]
        self._many = int(np.count_nonzero(odd)) > _MOST_COLOURS

    def any(self, plane: Bytes) -> bool:
        """Returns whether a pixel may have a colour; always True for a colormap in colours."""
        return self._many or any(int((plane - a).min()) < n for a, n in self._spans)


def _put_yuv(picture: Overlay, plane: Bytes, table: Bytes, y: Bytes, halves: list[Bytes]) -> None:
    """Puts a picture on the Y, U and V planes of a frame."""
    colours = _to_yuv(picture.pixels)
    top, left, bottom, right = box = _box_of(picture)
    if box == _to_even(box) and picture.zoom % 2 == 0:  # each block of four is of one colour
        y[top:bottom, left:right] = _enlarge(colours[..., 0], picture.zoom)
        for half, i in zip(halves, (1, 2), strict=True):
            small = _enlarge(colours[..., i], picture.zoom // 2)
            half[top // 2 : bottom // 2, left // 2 : right // 2] = small
        return
    top, left, bottom, right = _to_even(box)
    mixed = table[plane[top:bottom, left:right]]
    _overlay(mixed, picture, colours, top, left)
    y[top:bottom, left:right] = mixed[..., 0]
    means = mixed[0::2, 0::2].astype(np.uint16)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        means += mixed[row::2, column::2]
    means += 2
    means >>= 2
    for half, i in zip(halves, (1, 2), strict=True):
        half[top // 2 : bottom // 2, left // 2 : right // 2] = means[..., i]


def _of_pairs(table: Bytes) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32]]:
    """Returns tables of what two neighbouring pixels make, by both indices at once.

    So there are half as many look-ups as pixels for Y, and a quarter of those for U and V, which
    have a quarter of the samples.

    Args:
        table: Y, U and V of each index, uint8 (256, 3).

    Returns:
        Both brightnesses as they lie in memory, uint16 (65536,), and the sum of U in the lower
        and of V in the upper half, uint32 (65536,).
    """
    y, u, v = table.T.astype(np.uint32)
    both = u | v << np.uint32(16)
    luma = np.add.outer(y << np.uint32(8), y).astype(np.uint16)
    return luma.ravel(), np.add.outer(both, both).ravel()


@dataclass(frozen=True)
class Indexed:
    """The part of a frame that is new, in indices of colours that may be its own.

    Attributes:
        plane: The indices in the box, uint8 (bottom - top, right - left).
        colours: Red, green and blue of each index, uint8 (256, 3); valid until the next frame is
            asked for.
        box: Where it differs from the frame before it, or the whole frame.
    """

    plane: Bytes
    colours: Bytes
    box: Box


def as_indices(
    frames: Iterable[Frame], palette: Palette, size: tuple[int, int]
) -> Iterator[Indexed]:
    """Converts frames into indices, with the pictures in the palette entries that are free.

    Args:
        frames: The frames, all of one size.
        palette: The colours of their indices.
        size: Height and width.

    Yields:
        The part of each frame that is new.
    """
    colours = palette.table.copy()
    stale, before = _Stale(size), np.empty((0, 3), np.uint8)
    for frame in frames:
        box = _around([*stale.boxes(frame), *map(_box_of, frame.pictures)])
        top, left, bottom, right = box
        plane = frame.plane[top:bottom, left:right].copy()
        pixels = np.concatenate(
            [before[:0], *(picture.pixels.reshape(-1, 3) for picture in frame.pictures)]
        )
        if len(pixels) and not np.array_equal(pixels, before):  # as those of a fixed image are
            indices, found = quantize(pixels, min(256 - palette.free, palette.levels))
            colours[palette.free : palette.free + len(found)] = found
            indices += np.uint8(palette.free)
            before = pixels
        start = 0
        for picture in frame.pictures:
            height, width = picture.pixels.shape[:2]
            block = indices[start : (start := start + height * width)].reshape(height, width)
            _put(plane, picture, _enlarge(block, picture.zoom), top, left)
        yield Indexed(plane, colours, box)


def as_colours(
    frames: Iterable[Frame], palette: Palette, size: tuple[int, int]
) -> Iterator[list[Bytes]]:
    """Converts frames into 32-bit colours.

    Args:
        frames: The frames, all of one size.
        palette: The colours of their indices.
        size: Height and width.

    Yields:
        One array, uint8 (H, W, 4): blue, green, red and an alpha of 255.
    """
    colours = np.full((256, 4), 255, np.uint8)
    colours[:, :3] = palette.table[:, ::-1]
    table = colours.view(np.uint32)[:, 0]
    pixels = np.empty(size, np.uint32)
    parts = pixels.view(np.uint8).reshape(*size, 4)
    stale = _Stale(size)
    for frame in frames:
        for top, left, bottom, right in stale.boxes(frame):
            pixels[top:bottom, left:right] = table.take(
                frame.plane[top:bottom, left:right], mode="wrap"
            )
        for picture in frame.pictures:
            _overlay(parts[..., 2::-1], picture, picture.pixels)
        yield [parts]


@dataclass(frozen=True)
class Patch:
    """The part of a frame that is new, in colours.

    Attributes:
        pixels: Red, green, blue and 255, uint8 (bottom - top, right - left, 4).
        box: The smallest one with even edges in which it differs from the frame before it, or the
            whole frame; where it does not differ, a corner of it.
        same: Whether it does not differ.
    """

    pixels: Bytes
    box: Box
    same: bool = False


def as_patches(frames: Iterable[Frame], palette: Palette, size: tuple[int, int]) -> Iterator[Patch]:
    """Converts frames into colours of which only those are given that are new.

    Args:
        frames: The frames, all of one size.
        palette: The colours of their indices.
        size: Height and width, both even.

    Yields:
        The part of each frame that is new; its pixels stay as they are.
    """
    colours = np.full((256, 4), 255, np.uint8)
    colours[:, :3] = palette.table
    table = colours.view(np.uint32)[:, 0]
    pixels, before = np.empty(size, np.uint32), None
    stale = _Stale(size)
    for frame in frames:
        boxes = [*stale.boxes(frame), *map(_box_of, frame.pictures)]
        for top, left, bottom, right in boxes:
            pixels[top:bottom, left:right] = table.take(
                frame.plane[top:bottom, left:right], mode="wrap"
            )
        for picture in frame.pictures:
            _overlay(pixels.view(np.uint8).reshape(*size, 4)[..., :3], picture, picture.pixels)
        if before is None:
            new: Box | None = (0, 0, *size)
            before = np.empty(size, np.uint32)
        else:
            new = _differing(before, pixels, _around(boxes))
        box = top, left, bottom, right = new or (0, 0, 2, 2)
        part = pixels[top:bottom, left:right].copy()
        before[top:bottom, left:right] = part
        yield Patch(part.view(np.uint8).reshape(*part.shape, 4), box, new is None)


def _around(boxes: list[Box]) -> Box:
    """Returns the smallest box around all boxes; one pixel where there are none."""
    if not boxes:
        return 0, 0, 1, 1
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return min(tops), min(lefts), max(bottoms), max(rights)


def _box_of(picture: Overlay) -> Box:
    """Returns the box of a frame that a picture covers."""
    height, width = picture.pixels.shape[:2]
    bottom, right = picture.top + height * picture.zoom, picture.left + width * picture.zoom
    return picture.top, picture.left, bottom, right


def _to_even(box: Box) -> Box:
    """Returns the box, widened to even rows and columns."""
    top, left, bottom, right = box
    return top & ~1, left & ~1, (bottom + 1) & ~1, (right + 1) & ~1


def _differing(before: npt.NDArray[np.uint32], now: npt.NDArray[np.uint32], box: Box) -> Box | None:
    """Returns the smallest box with even edges around what differs within a box, if anything."""
    top, left, bottom, right = _to_even(box)
    differs = before[top:bottom, left:right] != now[top:bottom, left:right]
    rows = np.flatnonzero(differs.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(differs.any(axis=0))
    return _to_even(
        (
            top + int(rows[0]),
            left + int(columns[0]),
            top + int(rows[-1]) + 1,
            left + int(columns[-1]) + 1,
        )
    )


def _enlarge(plane: Bytes, zoom: int) -> Bytes:
    """Returns each pixel as a block of zoom x zoom, uint8 (h, w) to (h * zoom, w * zoom)."""
    large: Bytes = widen(np.ascontiguousarray(plane), zoom).repeat(zoom, 0)
    return large


def _overlay(colours: Bytes, at: Overlay, picture: Bytes, top: int = 0, left: int = 0) -> None:
    """Puts a picture, enlarged, on (H, W, ...) colours whose corner is at (top, left)."""
    _put(colours, at, picture.repeat(at.zoom, 0).repeat(at.zoom, 1), top, left)


def _put(pixels: Bytes, at: Overlay, block: Bytes, top: int, left: int) -> None:
    """Puts a block where a picture lies, on pixels whose corner is at (top, left)."""
    height, width = block.shape[:2]
    top, left = at.top - top, at.left - left
    pixels[top : top + height, left : left + width] = block


def _to_yuv(rgb: Bytes) -> Bytes:
    """Converts 8-bit R'G'B' (..., 3) to limited-range Y'CbCr of ITU-R BT.709, sections 3 and 4."""
    red, green, blue = (rgb[..., i].astype(np.float32) for i in range(3))
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    parts = [16 + y * (219 / 255), 128 + (blue - y) * (224 / 255 / 1.8556)]
    parts.append(128 + (red - y) * (224 / 255 / 1.5748))
    planes: Bytes = np.rint(np.stack(parts, axis=-1)).astype(np.uint8)
    return planes
