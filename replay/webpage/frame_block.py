"""A frame of a layer as one compressed block of a page, and back.

A block is compressed by zlib. Inside it has a byte of flags, the adaptive range and the extremes of
each map (float32), a byte for each map that says whether it is flat, where NaN and infinity are if
there are any, the maps (`plane_codec`, or as `picture_filters` of the frame's input picture), and
the pictures of the kernels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.maps.adaptive import Shown
from replay.maps.scaling import Levels
from replay.webpage.eight_bit import StoredSteps
from replay.webpage.picture_filters import (
    SIDE,
    Filters,
    Picture,
    apply_filters,
    fit_filters,
    sums_are_exact,
)
from replay.webpage.plane_codec import decode_planes, encode_planes
from replay.webpage.wavelet import Planes

# Flags: not all values are finite; what the frame before shows is expected; told from the picture.
_ODD, _FOLLOWS, _TOLD = 1, 2, 4
FAINT, CONSTANT = 1, 2


@dataclass(frozen=True)
class FrameBlock:
    """What a block holds.

    Attributes:
        levels: int32 (C, H, W), the maps as stored.
        odd: Where NaN and infinity are, as in `StoredSteps.quantize`.
        stored: How the maps are stored.
        bounds: float64 (C, 2), the adaptive range of each channel.
        extremes: float64 (C, 2), smallest and largest value of each map.
        flat: uint8 (C,), `FAINT` where a channel is too faint, `CONSTANT` where it is constant.
        kernels: The pictures of the kernels.
        told: Whether the maps are told from the picture.
    """

    levels: Planes
    odd: Levels | None
    stored: StoredSteps
    bounds: npt.NDArray[np.float64]
    extremes: npt.NDArray[np.float64]
    flat: npt.NDArray[np.uint8]
    kernels: bytes
    told: bool = False

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The values that the maps are shown by, float64 (C, H, W)."""
        return self.stored.values(self.levels)


def pack_frame(
    maps: npt.NDArray[np.float16],
    extremes: npt.NDArray[np.float32],
    shown: Shown,
    step: float = 1.0,
    kernels: bytes = b"",
    before: FrameBlock | None = None,
    picture: Picture | None = None,
) -> tuple[bytes, FrameBlock]:
    """Returns the block of a frame, and what a reader finds in it.

    Args:
        maps: float16 (C, H, W).
        extremes: float32 (C, 2) of the maps before they were averaged; NaN where none is finite.
        shown: Their adaptive ranges.
        step: As in `encode_planes`.
        kernels: The pictures of the kernels.
        before: The frame before, where it shows the same image.
        picture: The input picture, where the maps may be told from it; they are where they come out
            no more than a level off.
    """
    stored = StoredSteps.of(shown.bounds, extremes)
    levels, odd = stored.quantize(maps)
    told = None if picture is None or odd is not None else _tell(maps, levels, stored, picture)
    if told is not None:
        before = None
        planes, made = told
    else:
        expected = None if before is None else stored.expect(before.values)
        planes, made = encode_planes(levels, step, stored.highest, expected)
    flat = np.where(shown.constant, CONSTANT, np.where(shown.faint, FAINT, 0)).astype(np.uint8)
    numbers = np.concatenate([shown.bounds.T, extremes.T]).astype("<f4")  # (4, C)
    flags = (0 if odd is None else _ODD) | (0 if before is None else _FOLLOWS)
    flags |= 0 if told is None else _TOLD
    data = [bytes([flags]), numbers.tobytes(), flat.tobytes()]
    data += [b"" if odd is None else odd.tobytes(), planes, kernels]
    found = numbers.astype(np.float64)
    block = FrameBlock(made, odd, stored, found[:2].T, found[2:].T, flat, kernels, told is not None)
    return deflate(b"".join(data)), block


def _tell(
    maps: npt.NDArray[np.float16], levels: Planes, stored: StoredSteps, picture: Picture
) -> tuple[bytes, Planes] | None:
    """Returns filters as bytes, and the maps that they tell; None where these are not the maps."""
    low, step = stored.low[:, None, None], stored.step[:, None, None]
    filters = fit_filters((maps.astype(np.float64) - low) / step, picture)
    if not sums_are_exact(filters):
        return None
    made = _told(filters, picture, stored)
    if np.abs(made - levels).max(initial=0) > 1:
        return None
    return filters.astype("<f4").tobytes(), made


def _told(filters: Filters, picture: Picture, stored: StoredSteps) -> Planes:
    told: Planes = np.clip(apply_filters(filters, picture), 0, stored.highest[:, None, None])
    return told.astype(np.int32)


def unpack_frame(
    packed: bytes,
    shape: tuple[int, int, int],
    step: float,
    before: FrameBlock | None = None,
    picture: Picture | None = None,
) -> FrameBlock:
    """Returns what a block holds.

    Args:
        packed: What `pack_frame` gave.
        shape: (C, H, W) of the maps.
        step: As it was packed.
        before: The frame before, where the block says that it is needed.
        picture: The input picture, where it is.
    """
    data = zlib.decompress(packed)
    channels = shape[0]
    numbers = np.frombuffer(data, "<f4", 4 * channels, 1).reshape(4, channels).astype(np.float64)
    at = 1 + 16 * channels
    flat = np.frombuffer(data, np.uint8, channels, at)
    at += channels
    odd = None
    if data[0] & _ODD:
        odd = np.frombuffer(data, np.uint8, int(np.prod(shape)), at).reshape(shape)
        at += odd.size
    stored = StoredSteps.of(numbers[:2].T, numbers[2:].T)
    expected = None
    if data[0] & _TOLD:
        assert picture is not None
        used = channels * (len(picture.planes) * SIDE * SIDE + 1)
        filters = np.frombuffer(data, "<f4", used, at).reshape(channels, -1)
        levels, used = _told(filters, picture, stored), 4 * used
    else:
        if data[0] & _FOLLOWS:
            assert before is not None
            expected = stored.expect(before.values)
        levels, used = decode_planes(data[at:], shape, step, stored.highest, expected)
    return FrameBlock(levels, odd, stored, numbers[:2].T, numbers[2:].T, flat, data[at:][used:])


def pack_picture(picture: npt.NDArray[np.uint8], step: float = 1.0) -> bytes:
    """Returns the block of a colour picture.

    Args:
        picture: uint8 (H, W, 3).
        step: As in `encode_planes`.
    """
    planes = picture.transpose(2, 0, 1).astype(np.int32)
    return deflate(encode_planes(planes, step, np.full(3, 255, np.int32))[0])


def unpack_picture(packed: bytes, size: tuple[int, int], step: float) -> npt.NDArray[np.uint8]:
    """Returns the picture that `pack_picture` packed, uint8 (H, W, 3)."""
    data = zlib.decompress(packed)
    planes, _ = decode_planes(data, (3, *size), step, np.full(3, 255, np.int32))
    found: npt.NDArray[np.uint8] = planes.transpose(1, 2, 0).astype(np.uint8)
    return found


def deflate(data: bytes) -> bytes:
    """Returns the bytes, compressed (zlib) for what is mostly small numbers.

    Coefficients repeat each other by chance only. Runs of zeros are all that is worth looking for:
    that is smaller than zlib's best effort, in a 60th of the time.
    """
    compressor = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return compressor.compress(data) + compressor.flush()
