"""Calls a function once somebody else has imported a module."""

from __future__ import annotations

import importlib.abc
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function once a module has been imported; goes first into `sys.meta_path`.

    Somebody who only asks whether the module is there, as `importlib.util.find_spec` does, has
    not imported it.

    Args:
        name: The module.
        callback: The function.
    """

    def __init__(self, name: str, callback: Callable[[], None]) -> None:
        self._name = name
        self._callback = callback

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Returns how the module is loaded, followed by the call; None for any other module."""
        if name != self._name:
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None
            if find is not None and finder is not self:
                spec = find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _NotifyingLoader(spec.loader, self._loaded)
                return spec
        return None

    def _loaded(self) -> None:
        """Takes the hook away and calls the function."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self._callback()


class _NotifyingLoader(importlib.abc.Loader):
    """A loader that loads as another one does, and then calls a function."""

    def __init__(self, original: Any, callback: Callable[[], None]) -> None:
        self._original = original
        self._callback = callback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        created: types.ModuleType | None = self._original.create_module(spec)
        return created

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = self._original
        if module.__spec__ is not None:
            module.__spec__.loader = self._original
        self._original.exec_module(module)
        self._callback()
