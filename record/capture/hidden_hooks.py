"""Hooks that nobody but the recorder sees.

A hook is in the tables of its module, where whoever copies, pickles or scripts the module finds
it. While anything is recorded, a module's state is given out without our hooks: by then nothing of
ours is in a copy, an average of the weights, a saved model or a script, at whatever moment it is
made. What is in the tables of a copy nevertheless does nothing and needs no mapreel to load.
"""

from __future__ import annotations

import contextlib
import functools
import threading
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
    """The base of all hooks of the recorder.

    Attributes:
        recording: What all hooks of one recording share, and those of others do not.
    """

    recording: object = None

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")

    def __deepcopy__(self, memo: Any) -> Any:
        stub = contextlib.nullcontext().__exit__
        for module in self.modules():
            for name in _TABLES:
                copied = memo.get(id(module.__dict__.get(name)))
                if copied is not None:  # the table that this is copied into
                    removal = _StubRemoval(copied, stub)
                    memo[id(removal)] = removal
        return stub

    def modules(self) -> list[nn.Module]:
        """Returns the modules in whose tables the hook is."""
        return []


class _StubRemoval:
    """Takes a stub out of a copied table once the copy is complete, when deepcopy drops its memo.

    That is needed for classes that copy their tables themselves and that `CopyGuard` does not
    know: those that torch makes of a module's when its weight is parametrised, say.
    """

    def __init__(self, table: dict[int, Any], stub: Any) -> None:
        self._table, self._stub = table, stub

    def __del__(self) -> None:
        for number in [n for n, hook in self._table.items() if hook is self._stub]:
            del self._table[number]


def has_hooks(module: nn.Module) -> bool:
    """Returns whether hooks of ours are on a module."""
    return bool(_our_numbers(module.__dict__))


def remove_hooks(module: nn.Module, recording: object = None) -> None:
    """Takes hooks of ours out of one module, also those that torch has copied there.

    Args:
        module: The module.
        recording: Whose hooks, as `Hook.recording`; None for those of all recordings.
    """
    for number in _our_numbers(module.__dict__, recording):
        for name in (*_TABLES, *_MARKS):
            (module.__dict__.get(name) or {}).pop(number, None)


@contextlib.contextmanager
def without_hooks(modules: list[nn.Module], recording: object = None) -> Iterator[None]:
    """Takes our hooks out of some modules for a while, and puts them back in their old order.

    Args:
        modules: The modules.
        recording: Whose hooks, as `Hook.recording`; None for those of all recordings.
    """
    kept = []
    for module in modules:
        ours = _our_numbers(module.__dict__, recording)
        if ours:
            tables = {name: dict(module.__dict__.get(name) or {}) for name in (*_TABLES, *_MARKS)}
            kept.append((module, ours, tables))
            remove_hooks(module, recording)
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
                for number in _in_order(before, now, ours):
                    table[number] = now[number] if number in now else before[number]


def _in_order(before: dict[int, Any], now: dict[int, Any], ours: set[int]) -> list[int]:
    """Returns the numbers of hooks as they are now, with ours where they were.

    Another recording may have put back its own meanwhile, or taken them away.
    """
    order, last = list(now), None
    for number in before:
        if number in ours and number not in now:
            order.insert(0 if last is None else order.index(last) + 1, number)
        if number in ours or number in now:
            last = number
    return order


def _our_numbers(state: dict[str, Any], recording: object = None) -> set[int]:
    """Returns the numbers under which hooks of ours, or of one recording, are in tables."""
    return {
        number
        for name in _TABLES
        for number, hook in (state.get(name) or {}).items()
        if isinstance(hook, Hook) and (recording is None or hook.recording is recording)
    }


def state_without_hooks(state: Any) -> Any:
    """Returns a module's state as it is copied or pickled, without our hooks."""
    if isinstance(state, tuple):
        return tuple(state_without_hooks(part) for part in state)
    if not isinstance(state, dict):
        return state
    numbers = _our_numbers(state)
    if not numbers:
        return state
    clean = dict(state)
    for name in (*_TABLES, *_MARKS):
        table = state.get(name)
        if table:
            clean[name] = type(table)((n, v) for n, v in table.items() if n not in numbers)
    return clean


class CopyGuard:
    """Keeps hooks out of copies, pickles and scripts, as long as anything is recorded.

    It replaces `__getstate__` of torch's modules, and what classes of the user define in its
    place.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # trainings may begin and end in several threads
        self._count = 0  # recordings
        self._undo: list[Callable[[], None]] = []
        self._classes: set[type] = set()

    def begin(self, model: nn.Module) -> None:
        """Begins to guard the copies of a model; is called once for each recording."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._wrap(nn.Module, "__getstate__", _returning_clean_state)
                self._wrap_scripting()
            self.cover(model)

    def cover(self, model: nn.Module) -> None:
        """Guards the classes of a model's modules, also those that are new since `begin`."""
        modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
        kinds = dict.fromkeys(kind for module in modules for kind in type(module).__mro__)
        with self._lock:
            for kind in kinds:
                if kind is nn.Module or not issubclass(kind, nn.Module) or kind in self._classes:
                    continue
                self._classes.add(kind)
                for name in ("__getstate__", "__reduce__", "__reduce_ex__"):
                    self._wrap(kind, name, _returning_clean_state)
                for name in ("__deepcopy__", "__copy__"):
                    self._wrap(kind, name, _called_without_hooks)

    def end(self) -> None:
        """Ends for one recording; with the last one, all classes are as they were."""
        with self._lock:
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
            self._wrap(home, "create_script_module", _called_without_hooks)


def _returning_clean_state(original: Any) -> Any:
    @functools.wraps(original)
    def call(module: nn.Module, *args: Any) -> Any:
        return state_without_hooks(original(module, *args))

    return call


def _called_without_hooks(original: Any) -> Any:
    @functools.wraps(original)
    def call(module: Any, *args: Any, **kwargs: Any) -> Any:
        modules = list(module.modules()) if isinstance(module, nn.Module) else []
        with without_hooks([m for m in modules if not isinstance(m, torch.jit.ScriptModule)]):
            return original(module, *args, **kwargs)

    return call


def add_forward_hook(module: nn.Module, hook: Hook, always: bool = False) -> None:
    """Adds a hook that is called behind each forward; `remove_hooks` takes it away.

    Args:
        module: The module.
        hook: The hook, called with the module, its positional arguments and its output.
        always: Whether it is also called behind a forward that ended in an exception.
    """
    # An unbound call, since a ScriptModule refuses by name what works.
    nn.Module.register_forward_hook(module, hook, always_call=always)  # type: ignore[arg-type]


def add_pre_forward_hook(module: nn.Module, hook: Hook) -> None:
    """Adds a hook that is called before each forward; `remove_hooks` takes it away.

    Args:
        module: The module.
        hook: The hook, called with the module, its positional and its keyword arguments.
    """
    nn.Module.register_forward_pre_hook(module, hook, with_kwargs=True)  # type: ignore[arg-type]


copy_guard = CopyGuard()
