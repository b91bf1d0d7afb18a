"""Calls a method later without keeping its owner alive until then."""

from __future__ import annotations

import weakref
from collections.abc import Callable


def weakly(owner: object, method: str) -> Callable[[], None]:
    """Returns a function that calls a method of the owner, if that is still alive.

    Args:
        owner: The object, which is not kept alive.
        method: The method's name.
    """
    reference = weakref.ref(owner)

    def call() -> None:
        alive = reference()
        if alive is not None:
            getattr(alive, method)()

    return call
