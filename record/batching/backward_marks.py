"""Which forwards a backward pass goes through: told by hooks in the graph of what they put out.

A hook changes nothing there, and goes with the graph; that it has gone tells that no backward can
come through it any more.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from record.batching.state_machine import CapturedForward
from record.capture.tensors import all_tensors

_MOST = 64  # captures that are remembered


class _Mark:
    """A hook of one forward's graph."""

    __slots__ = ("__weakref__", "_passed", "number")

    def __init__(self, passed: set[int], number: int) -> None:
        self._passed = passed
        self.number = number

    def __call__(self, gradients: Any) -> None:
        self._passed.add(self.number)


class Marks:
    """The marks in the graphs of one model's forwards."""

    def __init__(self) -> None:
        self._passed: set[int] = set()  # marks, by number, since a backward began
        self._numbers = itertools.count()
        self._of: dict[CapturedForward, list[tuple[int, weakref.ref[_Mark], bool]]] = {}

    def put_on(self, output: Any, capture: CapturedForward) -> None:
        """Marks the graph of what a forward put out."""
        nodes = list(_nodes(output))
        marks = self._of.setdefault(capture, [])
        first = not marks
        if not nodes or _is_compiled():
            del self._of[capture]  # what is not marked cannot be told
            return
        mark = _Mark(self._passed, next(self._numbers))
        for node in nodes:
            node.register_prehook(mark)
        marks.append((mark.number, weakref.ref(mark), first))
        while len(self._of) > _MOST:
            del self._of[next(iter(self._of))]

    def forget(self, capture: CapturedForward) -> None:
        """It is known what the capture is."""
        self._of.pop(capture, None)

    def begin(self) -> None:
        """A backward begins."""
        self._passed.clear()

    def passed(self, waiting: Sequence[CapturedForward]) -> dict[CapturedForward, bool] | None:
        """The captures that it went through, and whether through their first forward.

        Returns:
            None where one of those that wait is not marked, so that nothing tells.
        """
        through: dict[CapturedForward, bool] = {}
        for capture in waiting:
            marks = self._of.get(capture)
            if marks is None and not capture.trained:
                return None
            seen = [first for number, _, first in marks or () if number in self._passed]
            if seen:
                through[capture] = any(seen)
        return through

    def are_gone(self, capture: CapturedForward) -> bool:
        """Whether no backward can go through any forward of a capture."""
        marks = self._of.get(capture)
        return bool(marks) and all(reference() is None for _, reference, _ in marks or ())


def _nodes(output: Any) -> Iterator[Any]:
    """Where backward passes enter the graph of an output."""
    seen = set()
    for tensor in all_tensors(output):
        node = tensor.grad_fn if tensor.requires_grad else None
        if node is not None and node not in seen:
            seen.add(node)
            yield node


def _is_compiled() -> bool:
    """Whether the backward pass is compiled too: a hook would be traced into it."""
    home = sys.modules.get("torch._dynamo.compiled_autograd")  # its import would take a second
    enabled = getattr(home, "compiled_autograd_enabled", False)
    return bool(enabled) or torch.compiler.is_compiling()
