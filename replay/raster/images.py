"""Makes pictures of arrays: of the input image as the eye knows it, and of kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def to_rgb(
    image: npt.NDArray[np.float16],
    mean: npt.NDArray[np.float32] | None,
    std: npt.NDArray[np.float32] | None,
    low: float,
    high: float,
) -> Pixels:
    """Returns the input image in color, with the network's normalisation undone.

    Args:
        image: float16 (C, H, W), as the network saw it. Three channels are red, green and blue;
            of any other number the mean is shown in gray.
        mean: What was subtracted from each channel, float32 (C,), or None if unknown.
        std: What each channel was divided by, float32 (C,), or None if unknown.
        low: The value to show as black where mean or std is unknown or does not fit.
        high: The value to show as white there.

    Returns:
        uint8 (H, W, 3). NaN is black.
    """
    values = image.astype(np.float32)
    if mean is not None and std is not None and len(mean) == len(std) == len(values):
        values = values * std[:, None, None] + mean[:, None, None]
    else:
        values = (values - low) / (high - low if high > low else 1.0)
    if len(values) != 3:
        values = np.repeat(values.mean(axis=0, keepdims=True), 3, axis=0)
    levels = np.clip(np.nan_to_num(values) * 255, 0, 255)
    rgb: Pixels = np.rint(levels).astype(np.uint8).transpose(1, 2, 0)  # (H, W, 3)
    return rgb


def kernel_levels(
    kernels: npt.NDArray[np.float16], reach: float
) -> tuple[npt.NDArray[np.float32], str]:
    """Returns kernels as pictures on a scale symmetric around zero.

    Args:
        kernels: float16 (C_out, C_in/groups, kH, kW); one axis less or more is made to fit.
        reach: The absolute value that stands for the ends of the scale.

    Returns:
        float32 in 0..1, where 0.5 stands for zero: (C_out, kH, kW, 3) in red, green and blue
        where the kernels have three inputs, else (C_out, kH, kW), their mean over the inputs;
        and what that is, as text.
    """
    planes = _planes(kernels)
    if planes.shape[1] == 3:
        shown, kind = planes.transpose(0, 2, 3, 1), "kernels in RGB"
    elif planes.shape[1] == 1:
        shown, kind = planes[:, 0], "kernels"
    else:
        shown, kind = planes.mean(axis=1), f"kernels, mean of {planes.shape[1]} inputs"
    half = np.nan_to_num(shown / (2 * (reach or 1.0)), posinf=1.0, neginf=-1.0)
    return np.clip(0.5 + half, 0.0, 1.0).astype(np.float32), kind


def kernel_reach(kernels: npt.NDArray[np.float16]) -> float:
    """Returns the largest finite absolute value of the kernels as `kernel_levels` shows them."""
    planes = _planes(kernels)
    shown = planes if planes.shape[1] in (1, 3) else planes.mean(axis=1)
    finite = np.abs(shown[np.isfinite(shown)])
    return float(finite.max()) if finite.size else 1.0


def _planes(kernels: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Returns float32 (C_out, C_in/groups, kH, kW): of a 3-D kernel the middle plane."""
    planes = kernels.astype(np.float32)
    if planes.ndim == 3:
        return planes[:, :, None]
    return planes[:, :, planes.shape[2] // 2] if planes.ndim == 5 else planes


def is_blank(values: npt.NDArray[np.float16]) -> bool:
    """Returns whether all is NaN, which stands in the file where nothing was recorded."""
    flat = values.reshape(-1)
    return bool(np.isnan(flat[:1]).all() and np.isnan(flat).all())


def no_picture(height: int, width: int) -> Pixels:
    """Returns what is shown for a missing picture: a crossed out gray field, uint8 (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    one, other = x * height // max(width, 1), (width - 1 - x) * height // max(width, 1)
    field = np.where((y == one) | (y == other), np.uint8(200), np.uint8(112))
    return np.repeat(field[..., None], 3, axis=2).astype(np.uint8)


def whitest(values: npt.NDArray[np.floating]) -> float | None:
    """Returns what is white in a picture that was never normalised: 1, or 255 for whole numbers.

    Args:
        values: Finite values of some pictures.

    Returns:
        None where it was normalised: values below 0, or of no such kind. Whole numbers that stay
        below 16 are no bytes of a picture either, but numbers of classes, say.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if low < 0.0 or high <= 0.0:
        return None
    if high <= 1.0:
        return 1.0
    if 16 <= high <= 255 and (values == np.floor(values)).all():
        return 255.0
    return None


def enlarge(picture: npt.NDArray[np.uint8], factor: int, down: int | None = None) -> Pixels:
    """Returns every pixel as a block of equal pixels.

    Args:
        picture: uint8 (H, W) or (H, W, 3).
        factor: Pixels of a block across, and down if nothing else is said.
        down: Pixels of a block down.
    """
    return picture.repeat(down or factor, axis=0).repeat(factor, axis=1)


def reduce(picture: Pixels, factor: int) -> Pixels:
    """Returns the mean of every block of factor x factor pixels; incomplete blocks are left out."""
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    blocks = picture[: height * factor, : width * factor]
    blocks = blocks.reshape(height, factor, width, factor, -1)  # (H, f, W, f, 3)
    means: Pixels = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return means
