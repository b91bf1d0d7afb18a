"""Refuses operations of a forward that would change what was there before it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from record.capture.first_image import CannotProbeError

_COLLECTIVES = ("c10d", "_c10d_functional", "c10d_functional", "_dtensor")


class RefusedWrites(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, torch changes no tensor that was not made meanwhile.

    An operation in place on anything else is refused before it runs, and so are what other
    processes take part in and what draws from a random generator of the script's own.

    Args:
        allowed: Tensors that may be changed nevertheless.
    """

    def __init__(self, allowed: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made = {_storage(tensor) for tensor in allowed}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation, or raises `CannotProbeError`."""
        kwargs = kwargs or {}
        written, normalising, is_fresh, is_collective = _facts_of(func)
        if is_collective:
            raise CannotProbeError("its forward talks to other processes")
        if kwargs.get("generator") is not None:
            raise CannotProbeError("its forward draws from a random generator of its own")
        for place, name in written:
            self._check(args[place] if place < len(args) else kwargs.get(name))
        if normalising is not None and _argument(normalising, args, kwargs):
            for place, value in enumerate(args):
                if func._schema.arguments[place].name in ("running_mean", "running_var"):
                    self._check(value)
        output = func(*args, **kwargs)
        if is_fresh:
            for tensor in output if isinstance(output, (tuple, list)) else (output,):
                if isinstance(tensor, torch.Tensor):
                    self._made.add(_storage(tensor))
        return output

    def _check(self, value: Any) -> None:
        """Raises an error where a tensor was there before, or one in a list of tensors."""
        for tensor in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(tensor, torch.Tensor) and _storage(tensor) not in self._made:
                raise CannotProbeError("its forward changes tensors in place that it keeps")


def _storage(tensor: torch.Tensor) -> int:
    """Returns what is the same for all tensors that share memory."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # it has none: it is sparse, say
        return id(tensor)


def _argument(place: tuple[int, str], args: Any, kwargs: dict[str, Any]) -> Any:
    return args[place[0]] if place[0] < len(args) else kwargs.get(place[1])


@functools.cache
def _facts_of(func: Any) -> tuple[tuple[tuple[int, str], ...], tuple[int, str] | None, bool, bool]:
    """Returns what an operation's schema says.

    Returns:
        The places and names of the arguments that it writes; of a normalisation the place of the
        argument that says whether its running numbers are written, which no schema calls written;
        whether its outputs share no memory with its arguments; whether other processes take part.
    """
    schema = func._schema
    written = tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    names = [argument.name for argument in schema.arguments]
    normalising = None
    if "running_mean" in names:
        flag = next((n for n in ("training", "train", "use_input_stats") if n in names), None)
        normalising = None if flag is None else (names.index(flag), flag)
    is_fresh = all(value.alias_info is None for value in schema.returns)
    return written, normalising, is_fresh, func.namespace in _COLLECTIVES
