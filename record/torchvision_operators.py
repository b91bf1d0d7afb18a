"""Lets a torchvision be imported beside a torch that it was not built for.

The wheel of torchvision that package indexes serve is built for CUDA. Beside a CPU build of torch
its compiled operators do not load, and every import of it, also that by Lightning or transformers,
ends in "operator torchvision::nms does not exist": its Python code attaches implementations to
operators that nobody has declared. They are declared here just before that, if torch is a CPU
build and they are missing; the operators themselves (non-maximum suppression for detection) stay
without an implementation.

Needs neither torch nor the rest of this package until torchvision is imported: `scripts/setup` puts
a copy of this file into its environment, where Python installs the hook at each start.
"""

from __future__ import annotations

import importlib.abc
import re
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Where torchvision, having tried to load its operators, begins to take them for granted.
_MODULE = "torchvision._meta_registrations"
_ATTACHED = re.compile(r"""(?:register_fake|impl_abstract)\(\s*["']torchvision::(\w+)["']""")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_libraries: list[Any] = []  # a declaration lasts as long as its library


def install() -> None:
    """Has operators declared before torchvision is imported; calling it once is enough."""
    installed = any(getattr(finder, "declares_operators", False) for finder in sys.meta_path)
    if _MODULE not in sys.modules and not installed:
        sys.meta_path.insert(0, _DeclaringFinder())


def declare(names: set[str]) -> None:
    """Declares operators of torchvision that are missing, if torch is a CPU build.

    Args:
        names: The operators' names, without the namespace.
    """
    import torch

    if torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None:
        return
    for name in sorted(names):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(name + _SCHEMA)  # type: ignore[no-untyped-call]
            _libraries.append(library)


class _DeclaringFinder(importlib.abc.MetaPathFinder):
    """Finds one module of torchvision, with a loader that declares operators first."""

    declares_operators = True

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if find is None or finder is self else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _DeclaringLoader(spec.loader)
                found: ModuleSpec = spec
                return found
        return None


class _DeclaringLoader(importlib.abc.Loader):
    """Loads as another loader does, and declares operators before the module runs."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._original.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._original
        if module.__spec__ is not None:
            module.__spec__.loader = self._original
        try:
            import torchvision.extension  # noqa: F401  # which loads the operators, if it can

            declare(set(_ATTACHED.findall(self._original.get_source(module.__name__))))
        except Exception as error:  # then torchvision says what it lacks, as it does without us
            del error
        self._original.exec_module(module)
