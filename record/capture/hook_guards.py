"""Has torch.compile look whether a module has hooks before it runs what it compiled of another one.

What was compiled of one model serves every other one of its class, and by default nobody asks
whether that has hooks: beside a recorded model, a teacher, an average of its weights or the model
of another fold, compiled without any, would take the recorded one's forwards, and its maps would be
missing. torch has the question as a guard, which it leaves out for speed; while anything is
recorded it is asked (`skip_nnmodule_hook_guards` of torch._dynamo.config).
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_CONFIG = "torch._dynamo.config"
_OPTION = "skip_nnmodule_hook_guards"


class HookGuards:
    """Knows who has hooks in a model, and asks for the guards while there is anybody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._changed = False
        self._awaited: _Awaited | None = None

    def begin(self, user: object) -> None:
        """Asks for the guards of what is compiled from now on, now or when torch can compile."""
        with self._lock:
            self._users.add(user)
            if _CONFIG not in sys.modules and self._awaited is None:
                # To import it here would take a second of a training that compiles nothing.
                self._awaited = _Awaited(self)
                sys.meta_path.insert(0, self._awaited)
        self.apply()

    def end(self, user: object) -> None:
        """Leaves torch as it was, once nobody else asks; a second call does nothing."""
        with self._lock:
            self._users.discard(user)
            if self._users:
                return
            if self._awaited in sys.meta_path:
                sys.meta_path.remove(self._awaited)
            self._awaited = None
            if self._changed:
                self._changed = False
                _set(sys.modules[_CONFIG], True)

    def apply(self) -> None:
        """Asks for the guards if torch's compiler has been imported."""
        config = sys.modules.get(_CONFIG)
        with self._lock:
            if config is None or not self._users or not getattr(config, _OPTION, False):
                return
            _set(config, False)
            self._changed = True


def _set(config: Any, value: bool) -> None:
    """Sets the option for all threads: what is set in the usual way may be one thread's."""
    entry: Any = getattr(config, "_config", {}).get(_OPTION)
    if hasattr(entry, "default"):
        entry.default = value
    else:
        setattr(config, _OPTION, value)


class _Awaited(MetaPathFinder):
    """Finds one module, as it is found anyway, and tells when it has been imported."""

    def __init__(self, guards: HookGuards) -> None:
        self._guards = guards

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the module's place, for the one that is awaited; None for all others."""
        if name != _CONFIG:
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and found.loader is not None:
            _tell(found.loader, self._guards)
        return found


def _tell(loader: Any, guards: HookGuards) -> Loader:
    """Has a loader tell when it has run its module."""
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        guards.apply()

    loader.exec_module = exec_module
    return loader  # type: ignore[no-any-return]


hook_guards = HookGuards()
"""Those of this process."""
