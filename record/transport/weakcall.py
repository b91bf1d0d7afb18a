"""Calls for later that keep nobody alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable


def weakly(owner: object, method: str) -> Callable[[], None]:
    """Calls the method if the owner is still there: no registry keeps it alive."""
    reference = weakref.ref(owner)

    def call() -> None:
        alive = reference()
        if alive is not None:
            getattr(alive, method)()

    return call
