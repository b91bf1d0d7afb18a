"""By what a GradScaler has multiplied a loss: it is noted in the loss's graph when that happens.

Afterwards nobody can tell: a loss may be multiplied by many things, and once a backward pass has
come through an operation it keeps its factor no longer.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from record.capture.phase import compiles_here

_FACTOR = "mapreel_factor"  # under which a node keeps it
_DEPTH = 8  # operations between a loss and what was scaled, such as a division


class LossScaling:
    """Follows what GradScalers multiply, from `begin` to `end`."""

    def __init__(self) -> None:
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def begin(self) -> None:
        """Has every GradScaler say what it multiplies."""
        _followers.add(self)

    def end(self) -> None:
        """Follows none any more."""
        _followers.discard(self)

    def has_seen(self, scaler: Any) -> bool:
        """Returns whether a GradScaler's losses are noted, as far as one has seen."""
        return scaler in self._seen

    def note(self, scaler: Any, scaled: Any) -> None:
        """Notes in the graph of what a GradScaler has scaled by what it was multiplied."""
        factor = scaler._scale
        if not scaler._enabled or factor is None:
            return
        self._seen.add(scaler)
        for one in _tensors(scaled):
            if one.grad_fn is not None:
                notes: Any = one.grad_fn.metadata
                notes[_FACTOR] = factor


def factors_of(node: Any, depth: int = _DEPTH) -> Iterator[torch.Tensor | None]:
    """Yields the factor of each part of a loss; None of one that no GradScaler has multiplied.

    Args:
        node: The node in the graph that puts the loss out. It may have been divided since, as for
            accumulated gradients, or be a sum of parts.
        depth: How many operations are looked at, one behind the other.
    """
    if node is None:
        return
    factor = node.metadata.get(_FACTOR)
    if factor is not None or depth == 0 or type(node).__name__[:3] not in _FOLLOWED:
        yield factor
        return
    parts = [part for part, _ in itertools.islice(node.next_functions, _MOST) if part is not None]
    for part in parts:
        yield from factors_of(part, depth - 1)


_FOLLOWED = ("Mul", "Div", "Add", "Sub", "Neg", "Sum", "Mea", "Sta", "Vie", "Squ", "ToC")
_MOST = 16


def _tensors(scaled: Any) -> Iterable[torch.Tensor]:
    if isinstance(scaled, torch.Tensor):
        return (scaled,)
    if isinstance(scaled, (list, tuple)):
        return [one for part in scaled for one in _tensors(part)]
    return ()


class _Followers:
    """Has all that follow GradScalers told of each, and torch as it was behind the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # trainings may begin and end in several threads
        self._all: weakref.WeakSet[LossScaling] = weakref.WeakSet()
        self._original: Any = None
        self._own: Any = None

    def add(self, follower: LossScaling) -> None:
        with self._lock:
            self._all.add(follower)
            if self._own is None or torch.amp.GradScaler.scale is not self._own:
                self._wrap(torch.amp.GradScaler.scale)

    def _wrap(self, original: Any) -> None:
        @functools.wraps(original)
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if not compiles_here():
                with self._lock:  # while it is copied none may come or go
                    followers = list(self._all)
                for each in followers:
                    with contextlib.suppress(Exception):  # never into the training
                        each.note(scaler, scaled)
            return scaled

        self._original, self._own = original, scale
        setattr(torch.amp.GradScaler, "scale", scale)  # noqa: B010 - which has overloads

    def discard(self, follower: LossScaling) -> None:
        with self._lock:
            self._all.discard(follower)
            if not self._all and torch.amp.GradScaler.scale is self._own:
                # What has wrapped it since calls it still, and nothing is noted.
                setattr(torch.amp.GradScaler, "scale", self._original)  # noqa: B010
                self._own = None


_followers = _Followers()
