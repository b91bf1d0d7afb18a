"""Tells which forwards a backward pass goes through, by hooks in the graphs of their outputs.

A hook changes nothing in the graph, and is freed with it; that it has been freed tells that no
backward pass can come through the graph any more.
"""

from __future__ import annotations

import itertools
import weakref
from _thread import get_ident
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from record.batch_detection.candidate import BatchCandidate
from record.capture.backward_pass import is_backward_compiled
from record.capture.tensors import all_tensors

_MAX_CANDIDATES = 1100  # that are remembered: all that wait, and a few that are decided


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
        thread: The thread of the forward.
    """

    number: int
    hook: weakref.ref[_GraphHook]
    is_first: bool
    thread: int


class BackwardMarks:
    """The marks in the graphs of one model's forwards."""

    def __init__(self) -> None:
        self._passed: set[int] = set()  # numbers of the hooks that the backward pass came through
        self._threads: set[int] = set()  # in which backward passes run, of whatever model
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
        marks.append(_ForwardMark(hook.number, weakref.ref(hook), is_first, get_ident()))
        while len(self._marks) > _MAX_CANDIDATES:
            del self._marks[next(iter(self._marks))]

    def forget(self, candidate: BatchCandidate) -> None:
        """Forgets a candidate that is decided."""
        self._marks.pop(candidate, None)

    def begin_backward(self) -> None:
        """Notes that a backward pass begins in this thread."""
        self._threads.discard(get_ident())  # its last pass may have ended in an exception
        for marks in self._marks.values() if self._threads else ():
            self._passed -= {mark.number for mark in marks if self._may_come_through(mark)}
        if not self._threads:
            self._passed.clear()
        self._threads.add(get_ident())

    def end_backward(self) -> None:
        """Notes that the backward pass of this thread has ended."""
        self._threads.discard(get_ident())

    def _may_come_through(self, mark: _ForwardMark) -> bool:
        """Whether a pass of this thread may: in that of the forward no other one runs."""
        return mark.thread == get_ident() or mark.thread not in self._threads

    def passed_through(
        self, waiting: Sequence[BatchCandidate]
    ) -> dict[BatchCandidate, bool] | None:
        """Returns which candidates the backward pass of this thread went through.

        Args:
            waiting: The candidates to ask for.

        Returns:
            The candidates, with whether it went through their first forward. None where one that
            waits is not marked, so that nothing tells; but for those of other threads, whose
            forward may still run.
        """
        through: dict[BatchCandidate, bool] = {}
        for candidate in waiting:
            marks = self._marks.get(candidate)
            if marks is None and not candidate.trained and candidate.thread == get_ident():
                return None
            passed = [
                mark.is_first
                for mark in marks or ()
                if mark.number in self._passed and self._may_come_through(mark)
            ]
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
