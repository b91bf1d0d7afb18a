"""Which places of an image speak for a class: what a layer put out, weighed by gradients.

Arrays in, arrays out. All of them take what the layer put out, A, and the gradient of the class's
score with respect to it, g, or the mean of that over the positions, w.

Sources:
    Grad-CAM: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization", ICCV 2017, equations 1 and 2: relu(sum_c w_c A_c).
    HiResCAM: Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks", 2020, equation 2: sum_c g_c * A_c; after it a ReLU, as there.
    Gradient times activation: Shrikumar et al., "Not just a black box", 2016: sum_c g_c * A_c with
    its sign.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from replay.options import CAM_METHODS
from replay.schema import OptionError
from replay.schema.suggestions import unknown

SIGNED = frozenset({"gradient-x-activation"})
"""Those whose values may be below zero."""

Maps = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Values = npt.NDArray[np.float32]
_Value = TypeVar("_Value", bound=np.generic)


def check_method(method: str) -> str:
    """Returns the method.

    Raises:
        OptionError: It is none of `CAM_METHODS`.
    """
    if method not in CAM_METHODS:
        raise OptionError(unknown("CAM method", method, CAM_METHODS))
    return method


def needs_gradients(method: str) -> bool:
    """Returns whether a method takes the gradient of every position, not only its mean."""
    return method != "grad-cam"


def class_activation(method: str, maps: Maps, weights: npt.NDArray[np.generic]) -> Values:
    """Returns how much each position speaks for the class, float32 (H, W).

    A position where a value is NaN or infinite is NaN.

    Args:
        method: One of `CAM_METHODS`.
        maps: What the layer put out, (C, H, W).
        weights: For `grad-cam` (C,), the mean gradient of each channel; else (C, H, W), the
            gradient.

    Raises:
        OptionError: An unknown method.
    """
    check_method(method)
    values = maps.astype(np.float32)
    factors = weights.astype(np.float32)
    if needs_gradients(method):
        assert factors.shape == values.shape, "a gradient for every value"
    else:
        assert factors.shape == values.shape[:1], "a weight for every channel"
        factors = factors[:, None, None]
    with np.errstate(invalid="ignore", over="ignore"):
        found: Values = np.einsum("chw,chw->hw", values, np.broadcast_to(factors, values.shape))
        found[~np.isfinite(found)] = np.nan
        return found if method in SIGNED else np.maximum(found, np.float32(0))


def place_tokens(tokens: npt.NDArray[_Value], rows: int, columns: int) -> npt.NDArray[_Value]:
    """Returns the tokens of an image as maps, (T, C) to (C, rows, columns).

    The tokens before them, such as that of the class, have no place in the image and are left out.
    """
    count = rows * columns
    assert tokens.shape[0] >= count, "a token for every place"
    placed: npt.NDArray[_Value] = tokens[tokens.shape[0] - count :].T.reshape(-1, rows, columns)
    return placed
