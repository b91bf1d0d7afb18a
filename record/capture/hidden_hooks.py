"""Hooks that nobody but the recorder sees.

A hook is in the tables of its module, where whoever copies, pickles or scripts the module finds
it. While anything is recorded, a module's state is given out without our hooks: by then nothing of
ours is in a copy, an average of the weights, a saved model or a script, at whatever moment it is
made. What is in the tables of a copy nevertheless does nothing and needs no mapreel to load.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

_TABLES = ("_forward_hooks", "_forward_pre_hooks")
_MARKS = (  # what else is kept by a hook's number
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)


class Hook:
    """A hook of ours."""

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")

    def __deepcopy__(self, memo: Any) -> Any:
        stub = contextlib.nullcontext().__exit__
        for module in self.modules():
            for name in _TABLES:
                copied = memo.get(id(module.__dict__.get(name)))
                if copied is not None:  # the table that this is copied into
                    purge = _Purge(copied, stub)
                    memo[id(purge)] = purge
        return stub

    def modules(self) -> list[nn.Module]:
        """The modules in whose tables it is."""
        return []


class _Purge:
    """Takes a stub out of a copied table once the copy is complete, and its memo goes.

    For classes that copy their tables themselves and that the shield does not know: those that
    torch makes of a module's when its weight is parametrised, say.
    """

    def __init__(self, table: dict[int, Any], stub: Any) -> None:
        self._table, self._stub = table, stub

    def __del__(self) -> None:
        for number in [n for n, hook in self._table.items() if hook is self._stub]:
            del self._table[number]


def strip(module: nn.Module) -> None:
    """Takes every hook of ours out of one module, also those that torch has copied there."""
    for number in _numbers(module.__dict__):
        for name in (*_TABLES, *_MARKS):
            (module.__dict__.get(name) or {}).pop(number, None)


@contextlib.contextmanager
def lifted(modules: list[nn.Module]) -> Iterator[None]:
    """The modules without our hooks, for as long as they are looked at by what cannot read them."""
    kept = []
    for module in modules:
        ours = _numbers(module.__dict__)
        if ours:
            tables = {name: dict(module.__dict__.get(name) or {}) for name in (*_TABLES, *_MARKS)}
            kept.append((module, ours, tables))
            strip(module)
    try:
        yield
    finally:
        for module, ours, tables in kept:
            for name, before in tables.items():
                table = module.__dict__.get(name)
                if table is None:
                    continue
                now = dict(table)
                table.clear()  # in their old order: a hook sees what those before it have made
                table.update((n, v) for n, v in before.items() if n in now or n in ours)
                table.update(now)


def _numbers(state: dict[str, Any]) -> set[int]:
    """The numbers under which hooks of ours are in a module's tables."""
    return {
        number
        for name in _TABLES
        for number, hook in (state.get(name) or {}).items()
        if isinstance(hook, Hook)
    }


def cleaned(state: Any) -> Any:
    """A module's state as it is copied or pickled, without our hooks."""
    if isinstance(state, tuple):
        return tuple(cleaned(part) for part in state)
    if not isinstance(state, dict):
        return state
    numbers = _numbers(state)
    if not numbers:
        return state
    clean = dict(state)
    for name in (*_TABLES, *_MARKS):
        table = state.get(name)
        if table:
            clean[name] = type(table)((n, v) for n, v in table.items() if n not in numbers)
    return clean


class Shield:
    """Keeps hooks out of copies, pickles and scripts, as long as anything is recorded.

    Replaces `__getstate__` of torch's modules, and what classes of the user define in its place.
    """

    def __init__(self) -> None:
        self._count = 0
        self._undo: list[Callable[[], None]] = []
        self._classes: set[type] = set()

    def raise_over(self, model: nn.Module) -> None:
        """Begins with a model; to be called once for each recording."""
        self._count += 1
        if self._count == 1:
            self._wrap(nn.Module, "__getstate__", _cleaning)
            self._wrap_scripting()
        self.cover(model)

    def cover(self, model: nn.Module) -> None:
        """Covers the classes of a model's modules, new ones among them."""
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for kind in type(module).__mro__:
                if kind is nn.Module or not issubclass(kind, nn.Module) or kind in self._classes:
                    continue
                self._classes.add(kind)
                for name in ("__getstate__", "__reduce__", "__reduce_ex__"):
                    self._wrap(kind, name, _cleaning)
                for name in ("__deepcopy__", "__copy__"):
                    self._wrap(kind, name, _lifting)

    def lower(self) -> None:
        """Ends for one recording; with the last one, everything is as it was."""
        self._count -= 1
        if self._count == 0:
            for undo in reversed(self._undo):
                undo()
            self._undo.clear()
            self._classes.clear()

    def _wrap(self, owner: Any, name: str, around: Callable[[Any], Any]) -> None:
        original = vars(owner).get(name)
        if not callable(original):
            return
        wrapper = around(original)

        def undo() -> None:
            if vars(owner).get(name) is wrapper:  # else somebody has wrapped it since
                setattr(owner, name, original)

        with contextlib.suppress(TypeError):  # a class that cannot be changed
            setattr(owner, name, wrapper)
            self._undo.append(undo)

    def _wrap_scripting(self) -> None:
        """Lets torch.jit.script, which takes every hook for code of the model, see none of ours."""
        home: Any = torch.jit._recursive
        if hasattr(home, "create_script_module"):
            self._wrap(home, "create_script_module", _lifting)


def _cleaning(original: Any) -> Any:
    @functools.wraps(original)
    def call(module: nn.Module, *args: Any) -> Any:
        return cleaned(original(module, *args))

    return call


def _lifting(original: Any) -> Any:
    @functools.wraps(original)
    def call(module: Any, *args: Any, **kwargs: Any) -> Any:
        modules = list(module.modules()) if isinstance(module, nn.Module) else []
        with lifted([m for m in modules if not isinstance(m, torch.jit.ScriptModule)]):
            return original(module, *args, **kwargs)

    return call


def attach(module: nn.Module, hook: Hook, before: bool = False) -> None:
    """Adds a hook; `strip` takes it away.

    Args:
        module: The module; unbound calls, since a ScriptModule refuses by name what works.
        hook: Called behind each forward, or before it with its keyword arguments.
        before: Whether it is called before.
    """
    if before:
        nn.Module.register_forward_pre_hook(module, hook, with_kwargs=True)  # type: ignore[arg-type]
    else:
        nn.Module.register_forward_hook(module, hook)  # type: ignore[arg-type]


def attach_always(module: nn.Module, hook: Hook) -> None:
    """Adds a hook that is called behind each forward, also where that ended in an exception."""
    nn.Module.register_forward_hook(module, hook, always_call=True)  # type: ignore[arg-type]


shield = Shield()
