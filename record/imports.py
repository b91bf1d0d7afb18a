"""What happens when somebody else imports a module: a call behind it, a second attempt at it."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function once a module has been imported; goes first into `sys.meta_path`.

    Args:
        name: The module.
        then: The function.
    """

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """How the module is loaded, and then the call; None for any other."""
        if name != self._name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._execute)
        return spec

    def _execute(self, module: types.ModuleType, original: Any) -> None:
        original.exec_module(module)
        self._then()


class BesideAnotherTorch(AfterImport):
    """Lets a script import a torchvision that was built for another build of torch."""

    def __init__(self) -> None:
        super().__init__("torchvision", lambda: None)

    def _execute(self, module: types.ModuleType, original: Any) -> None:
        for _ in range(4):
            try:
                original.exec_module(module)
                return
            except RuntimeError as error:
                from record.vision import declare_missing

                if not declare_missing(error):
                    raise
                for name in [n for n in sys.modules if n.startswith("torchvision.")]:
                    del sys.modules[name]
        original.exec_module(module)


class _Loader(importlib.abc.Loader):
    """A loader that does something more than the one that it stands for."""

    def __init__(self, original: Any, execute: Callable[[types.ModuleType, Any], None]) -> None:
        self._original = original
        self._execute = execute

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        created: types.ModuleType | None = self._original.create_module(spec)
        return created

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = self._original
        if module.__spec__ is not None:
            module.__spec__.loader = self._original
        self._execute(module, self._original)
