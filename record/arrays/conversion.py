"""What is written for an array: float16 values of one image, in the shape of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from record.protocol.messages import LARGEST_NUMBER
from replay import schema
from replay.schema import FRAME_DTYPE, OptionError

_KINDS = "fiub"  # of numpy's dtypes: what has an order and values that float16 can come near


def to_frame(name: str, value: Any, rank: int = 5) -> npt.NDArray[Any]:
    """Returns an array of one image as numpy has it, of at least one axis.

    Args:
        name: What the array is, for messages.
        value: An array of numpy, JAX, TensorFlow or torch, or nested lists.
        rank: The most axes that it may have.

    Raises:
        OptionError: It is no array of numbers, has too many axes, or none of its axes has a length.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # of any library: of a GPU's memory, say
        raise OptionError(
            f"{name}: expected an array that numpy can read, found {type(value).__name__} ({error})"
        ) from error
    if array.dtype.kind == "c":
        array = np.abs(array)
    elif array.dtype.kind == "V" or array.dtype.kind not in _KINDS:  # bfloat16 is of kind V
        try:
            if array.dtype.kind != "V":
                raise TypeError(f"values of {array.dtype}")
            array = array.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"{name}: expected numbers, found {type(value).__name__} of {array.dtype}"
            ) from error
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim >= rank or 0 in array.shape:
        raise OptionError(
            f"{name}: expected one image's part, of 1 to {rank - 1} axes that are not empty, "
            f"found {array.shape}; without the axis of the batch"
        )
    return array


def is_complex(value: Any) -> bool:
    """Whether an array has complex values."""
    return bool(getattr(getattr(value, "dtype", None), "kind", "") == "c") or isinstance(
        value, complex
    )


def copy_scaled(values: npt.NDArray[Any], target: npt.NDArray[np.float16]) -> int:
    """Copies values so that float16 keeps the small ones, and returns their exponent.

    Args:
        values: Any shape.
        target: Of the same shape; takes `values * 2 ** -exponent`.

    Returns:
        The exponent, see `schema.exponent_of`.
    """
    wide = values.astype(np.float64)
    finite = np.abs(wide[np.isfinite(wide)])
    largest = float(finite.max()) if finite.size else 0.0
    exponent = schema.exponent_of(largest)
    target[...] = np.ldexp(wide, -exponent)
    return exponent


def as_float16(values: npt.NDArray[Any], target: npt.NDArray[np.float16]) -> None:
    """Copies values; those beyond what float16 holds become infinite, which is counted later."""
    assert target.dtype == FRAME_DTYPE
    with np.errstate(over="ignore", invalid="ignore"):
        target[...] = values


def whole_number(name: str, value: Any) -> int:
    """Returns a whole number from 0.

    Raises:
        OptionError: It is something else.
    """
    known = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not known or not 0 <= value <= LARGEST_NUMBER:
        raise OptionError(f"{name}: expected a whole number from 0, found {value!r}")
    return int(value)


def number_of(name: str, value: Any) -> float:
    """Returns what is logged as a number.

    Raises:
        OptionError: It is none, or its name is one that the recording itself sets.
    """
    if name in schema.RESERVED:
        raise OptionError(
            f"{name}=...: expected a name of your own, the writer sets {name!r} itself"
        )
    try:
        array = np.asarray(value)
        if array.size != 1:
            raise ValueError
        return float(array.reshape(()).astype(np.float64))
    except (TypeError, ValueError) as error:
        shape = f" of shape {np.shape(value)}" if isinstance(value, (Sequence, np.ndarray)) else ""
        raise OptionError(
            f"{name}=...: expected one number, found {type(value).__name__}{shape}"
        ) from error
