"""Tells which forwards a backward pass goes through, by hooks in the graphs of their outputs.

A hook changes nothing in the graph, and is freed with it; that it has been freed tells that no
backward pass can come through the graph any more.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from record.batch_detection.candidate import BatchCandidate
from record.capture.backward_pass import is_backward_compiled
from record.capture.tensors import all_tensors

_MAX_CANDIDATES = 64  # that are remembered


class _GraphHook:
    """A hook in the graph of one forward; it notes its number when a backward pass comes by."""

    __slots__ = ("__weakref__", "_passed", "number")

    def __init__(self, passed: set[int], number: int) -> None:
        self._passed = passed
        self.number = number

    def __call__(self, gradients: Any) -> None:
        self._passed.add(self.number)


class _ForwardMark(NamedTuple):
    """One forward whose graph is marked.

    Attributes:
        number: The number of its hook.
        hook: The hook, for as long as the graph lives.
        is_first: Whether it is the first forward of its candidate.
    """

    number: int
    hook: weakref.ref[_GraphHook]
    is_first: bool


class BackwardMarks:
    """The marks in the graphs of one model's forwards."""

    def __init__(self) -> None:
        self._passed: set[int] = set()  # numbers of the hooks that the backward pass came through
        self._numbers = itertools.count()
        self._marks: dict[BatchCandidate, list[_ForwardMark]] = {}

    def mark(self, output: Any, candidate: BatchCandidate) -> None:
        """Marks the graph of a forward's output.

        Args:
            output: What the forward returned.
            candidate: The candidate that the forward belongs to.
        """
        nodes = list(_entry_nodes(output))
        marks = self._marks.setdefault(candidate, [])
        is_first = not marks
        if not nodes or is_backward_compiled():
            del self._marks[candidate]  # what is not marked cannot be told
            return
        hook = _GraphHook(self._passed, next(self._numbers))
        for node in nodes:
            node.register_prehook(hook)
        marks.append(_ForwardMark(hook.number, weakref.ref(hook), is_first))
        while len(self._marks) > _MAX_CANDIDATES:
            del self._marks[next(iter(self._marks))]

    def forget(self, candidate: BatchCandidate) -> None:
        """Forgets a candidate that is decided."""
        self._marks.pop(candidate, None)

    def begin_backward(self) -> None:
        """Notes that a backward pass begins."""
        self._passed.clear()

    def passed_through(
        self, waiting: Sequence[BatchCandidate]
    ) -> dict[BatchCandidate, bool] | None:
        """Returns which candidates the backward pass went through.

        Args:
            waiting: The candidates to ask for.

        Returns:
            The candidates, with whether it went through their first forward. None where one that
            waits is not marked, so that nothing tells.
        """
        through: dict[BatchCandidate, bool] = {}
        for candidate in waiting:
            marks = self._marks.get(candidate)
            if marks is None and not candidate.trained:
                return None
            passed = [mark.is_first for mark in marks or () if mark.number in self._passed]
            if passed:
                through[candidate] = any(passed)
        return through

    def are_freed(self, candidate: BatchCandidate) -> bool:
        """Returns whether no backward pass can go through any forward of a candidate."""
        marks = self._marks.get(candidate)
        return bool(marks) and all(mark.hook() is None for mark in marks or ())


def _entry_nodes(output: Any) -> Iterator[Any]:
    """Yields the nodes at which backward passes enter the graph of an output, each once."""
    seen = set()
    for tensor in all_tensors(output):
        node = tensor.grad_fn if tensor.requires_grad else None
        if node is not None and node not in seen:
            seen.add(node)
            yield node
