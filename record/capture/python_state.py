"""What a forward may change in Python: attributes, lists, dicts, counters. And how to undo it."""

from __future__ import annotations

import collections
import contextlib
import dis
import enum
import functools
import io
import logging
import operator
import queue
import random
import re
import sys
import sysconfig
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from record.capture.first_image import CannotProbeError
from record.capture.hidden_hooks import Hook

_LEAVES = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, enum.Enum, np.generic),
    *(torch.Tensor, torch.dtype, torch.device, torch.finfo, torch.cuda.Stream, np.dtype),
    *(types.ModuleType, types.BuiltinFunctionType, property, re.Pattern, Path, weakref.ref),
    *(logging.Logger, Hook, torch.utils.hooks.RemovableHandle),
)
# What cannot be put back: to read from them changes them, or somebody else does.
_UNSAFE = (io.IOBase, Iterator, threading.Thread, queue.Queue, torch.jit.ScriptFunction)
_ABSENT = object()
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))


class PythonState:
    """The state in Python of all that a model's forward can reach.

    That is what the modules hold, and what the code of their classes and hooks names: variables of
    its module, of functions around it, and what these hold. The code of installed packages counts
    as code that keeps no state outside of its objects. Tensors are another matter.

    Args:
        root: The model.

    Raises:
        CannotProbeError: Something is among it that cannot be put back, a file, say, or too much.
    """

    most = 100_000  # objects that are looked at
    most_bytes = 1 << 22  # of all arrays together

    def __init__(self, root: nn.Module) -> None:
        self._undo: list[tuple[Callable[[Any, Any], bool], Callable[[Any, Any], Any], Any, Any]]
        self._undo = []
        self._seen: dict[int, Any] = {}  # by id: they must not go meanwhile
        self._bytes = 0
        self._waiting: list[Any] = []
        self._looked_at = 0
        self._begin(root)
        while self._waiting:
            self._look_at(self._waiting.pop())

    def _begin(self, root: nn.Module) -> None:
        self._waiting.append(root)

    def restore(self) -> None:
        """Puts everything back that has changed, also where that fails for some of it.

        Raises:
            Exception: The first that came of it.
        """
        problems = []
        for is_same, put_back, holder, before in self._undo:
            try:
                if not is_same(holder, before):
                    put_back(holder, before)
            except Exception as problem:
                problems.append(problem)
        if problems:
            raise problems[0]

    def _refuse(self, reason: str) -> None:
        """Says that something cannot be put back."""
        raise CannotProbeError(reason)

    @staticmethod
    def _is_leaf(value: Any) -> bool:
        return isinstance(value, _LEAVES)

    def _look_at(self, value: Any) -> None:
        if type(value) in weakref.ProxyTypes:
            self._refuse("its forward can reach what it belongs to (a trainer, say)")
            return
        if self._is_leaf(value):
            return
        self._looked_at += 1
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if self._looked_at > self.most:
            self._refuse("too much can be reached from it to look after")
            return
        if isinstance(value, dict):
            held = dict(dict.items(value))  # which another thread may change meanwhile
            self._keep_items(_same_dict, _refill_dict, value, held)
            self._wait_for(held.values())
        elif isinstance(value, (list, collections.deque)):
            items = list(value)
            self._keep_items(_same_items, _refill_list, value, items)
            self._wait_for(items)
        elif isinstance(value, set):
            self._keep(operator.eq, _refill_set, value, set(value))
        elif isinstance(value, (tuple, frozenset)):
            self._wait_for(value)
        elif isinstance(value, np.ndarray):
            self._keep_array(value)
        elif isinstance(value, (random.Random, np.random.Generator, np.random.RandomState)):
            self._keep_random(value)
        elif isinstance(value, torch.Generator):
            self._keep(_never, _set_generator, value, value.get_state())
        elif isinstance(value, _UNSAFE):
            self._refuse(f"its forward can reach a {type(value).__name__}")
        elif isinstance(value, type):
            self._look_at_class(value)
        elif isinstance(value, types.FunctionType):
            self._look_at_function(value)
        elif isinstance(value, (types.MethodType, functools.partial, staticmethod, classmethod)):
            parts = ("__self__", "__func__", "func", "args", "keywords")
            self._wait_for(getattr(value, part, None) for part in parts)
        else:
            self._look_at_object(value)

    def _look_at_object(self, value: Any) -> None:
        with contextlib.suppress(TypeError, AttributeError):
            own = object.__getattribute__(value, "__dict__")
            if type(own) is dict:
                self._waiting.append(own)
        for kind in type(value).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                with contextlib.suppress(AttributeError):
                    part = object.__getattribute__(value, name)
                    self._keep_binding(value, name, part)
        self._waiting.append(type(value))

    def _look_at_class(self, kind: type) -> None:
        """Looks at what the classes of the user's own code share among their instances."""
        for base in kind.__mro__:
            if not is_users(base.__module__):
                continue
            self._keep(_has_no_new, _delete_new, base, frozenset(vars(base)))
            for name, value in list(vars(base).items()):
                if name.startswith("__") and not isinstance(value, types.FunctionType):
                    continue
                if isinstance(value, property):
                    self._wait_for((value.fget, value.fset))
                    continue
                if not isinstance(value, (types.FunctionType, staticmethod, classmethod, *_LEAVES)):
                    self._waiting.append(value)
                if not hasattr(type(value), "__set__"):
                    self._keep_name(_same_attribute(name), _set_attribute(name), base, value)
                self._waiting.append(value)

    def _look_at_function(self, function: types.FunctionType) -> None:
        self._wait_for((function.__defaults__, function.__kwdefaults__, vars(function)))
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # an empty one
                self._keep_name(_same_cell, _set_cell, cell, cell.cell_contents)
                self._waiting.append(cell.cell_contents)
        if not is_users(function.__module__):
            return
        variables = function.__globals__
        for name in _names_of(function.__code__):
            value = variables.get(name, _ABSENT)
            self._keep_name(_same_item(name), _set_item(name), variables, value)
            if value is not _ABSENT:
                self._waiting.append(value)

    def _keep_array(self, value: Any) -> None:
        if self._bytes + value.nbytes > self.most_bytes or value.dtype.hasobject:
            self._refuse("its forward can reach a large array of numpy")
        else:
            self._bytes += value.nbytes
            self._keep(_same_bytes, np.copyto, value, value.copy())

    def _keep_random(self, value: Any) -> None:
        if isinstance(value, np.random.Generator):
            value = value.bit_generator
            self._keep(_never, _set_attribute("state"), value, value.state)
        elif isinstance(value, random.Random):
            self._keep(_never, type(value).setstate, value, value.getstate())
        else:
            self._keep(_never, type(value).set_state, value, value.get_state())

    def _keep_binding(self, holder: Any, name: str, value: Any) -> None:
        self._keep_name(_same_attribute(name), _set_attribute(name), holder, value)
        self._waiting.append(value)

    def _keep_items(self, is_same: Any, put_back: Any, holder: Any, before: Any) -> None:
        """Keeps what a list or a dict holds."""
        self._keep(is_same, put_back, holder, before)

    def _keep_name(self, is_same: Any, put_back: Any, holder: Any, value: Any) -> None:
        """Keeps the value of an attribute or a variable."""
        self._keep(is_same, put_back, holder, value)

    def _keep(self, is_same: Any, put_back: Any, holder: Any, before: Any) -> None:
        self._undo.append((is_same, put_back, holder, before))

    def _wait_for(self, values: Any) -> None:
        found = [value for value in values if not self._is_leaf(value)]
        self._looked_at += len(found)
        self._waiting += found


def _same_dict(there: dict[Any, Any], before: dict[Any, Any]) -> bool:
    return (
        len(there) == len(before)
        and all(map(operator.is_, dict.values(there), before.values()))
        and all(map(operator.is_, dict.keys(there), before))
    )


def _refill_dict(there: dict[Any, Any], before: dict[Any, Any]) -> None:
    kind: Any = collections.OrderedDict if isinstance(there, collections.OrderedDict) else dict
    kind.clear(there)
    for key, value in before.items():
        kind.__setitem__(there, key, value)


def _same_items(there: Any, before: list[Any]) -> bool:
    return len(there) == len(before) and all(map(operator.is_, there, before))


def _refill_list(there: Any, before: list[Any]) -> None:
    kind: Any = list if isinstance(there, list) else collections.deque
    kind.clear(there)
    kind.extend(there, before)


def _refill_set(there: set[Any], before: set[Any]) -> None:
    set.clear(there)
    set.update(there, before)


def _same_cell(there: Any, before: Any) -> bool:
    return there.cell_contents is before


def _set_cell(there: Any, before: Any) -> None:
    there.cell_contents = before


def _new_names(there: type, before: frozenset[str]) -> list[str]:
    return [name for name in vars(there).keys() - before if not name.startswith("__")]


def _has_no_new(there: type, before: frozenset[str]) -> bool:
    return not _new_names(there, before)


def _delete_new(there: type, before: frozenset[str]) -> None:
    for name in _new_names(there, before):
        delattr(there, name)


def _same_bytes(there: Any, before: Any) -> bool:
    return bool(there.tobytes() == before.tobytes())


def _never(there: Any, before: Any) -> bool:
    return False  # to put it back costs no more than to compare


def _set_generator(there: torch.Generator, before: torch.Tensor) -> None:
    there.set_state(before)


@functools.cache
def _same_attribute(name: str) -> Callable[[Any, Any], bool]:
    return lambda there, before: (
        vars(there).get(name) is before
        if isinstance(there, type)
        else getattr(there, name, None) is before
    )


@functools.cache
def _set_attribute(name: str) -> Callable[[Any, Any], None]:
    return lambda there, before: setattr(there, name, before)


@functools.cache
def _same_item(name: str) -> Callable[[Any, Any], bool]:
    return lambda there, before: there.get(name, _ABSENT) is before


@functools.cache
def _set_item(name: str) -> Callable[[Any, Any], None]:
    def put_back(there: Any, before: Any) -> None:
        if before is _ABSENT:
            del there[name]
        else:
            there[name] = before

    return put_back


@functools.cache
def _names_of(code: types.CodeType) -> frozenset[str]:
    """Returns the variables of its module that a function reads or writes."""
    found = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "STORE_GLOBAL", "LOAD_NAME", "STORE_NAME")
    }
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return frozenset(found.union(*map(_names_of, inner)))


@functools.cache
def is_users(name: str | None) -> bool:
    """Whether a module of this name is of the user's own code, not of an installed package's."""
    if name is None or name.split(".")[0] in ("record", "replay", "builtins"):
        return False
    if name == "__main__":
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or "site-packages" in file or "dist-packages" in file:
        return False
    return not file.startswith(_LIBRARIES)
