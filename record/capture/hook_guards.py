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
from typing import Any

from record.import_hooks import AfterImport

_CONFIG = "torch._dynamo.config"
_OPTION = "skip_nnmodule_hook_guards"


class HookGuards:
    """Knows who has hooks in a model, and asks for the guards while there is anybody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._changed = False
        self._awaited: AfterImport | None = None

    def begin(self, user: object) -> None:
        """Asks for the guards of what is compiled from now on, now or when torch can compile."""
        with self._lock:
            self._users.add(user)
            if _CONFIG not in sys.modules and self._awaited is None:
                # To import it here would take a second of a training that compiles nothing.
                self._awaited = AfterImport(_CONFIG, self.apply)
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


hook_guards = HookGuards()
"""Those of this process."""
