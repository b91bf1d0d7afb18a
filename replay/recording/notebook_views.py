"""How recordings, layers and inputs show themselves in a notebook.

What draws them lies above this room: `replay` says which function that is, and without it they are
shown as text.
"""

from __future__ import annotations

from collections.abc import Callable

_view: Callable[[object], str] | None = None


def show_with(view: Callable[[object], str]) -> None:
    """Sets what returns a recording, a layer's frames or the inputs as HTML; it never raises."""
    global _view
    _view = view


def show(shown: object) -> str | None:
    """Returns HTML for a notebook; None where it is to be shown as text."""
    return None if _view is None else _view(shown)
