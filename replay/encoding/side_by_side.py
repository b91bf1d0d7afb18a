"""What sinks that compress here have in common: work done side by side, and a file to write to."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from replay.output import available_cores
from replay.schema import EncodeError

Result = TypeVar("Result")

_MAX_THREADS = 8


@contextlib.contextmanager
def open_empty(path: Path, name: str) -> Iterator[BinaryIO]:
    """Opens an empty file; what the disk refuses from now on is said in a line.

    Args:
        path: The file.
        name: What it becomes, as a message has it.
    """
    try:
        # It is there and empty. Opened with "wb" a file system may take it for one whose contents
        # are replaced (ext4 does), and has all of it written to the disk when it is closed.
        with path.open("r+b") as file:
            yield file
    except OSError as error:
        raise EncodeError(f"cannot write the {name}: {error.strerror}") from error


class InOrder(Generic[Result]):
    """Does pieces of work, several at a time, and gives their results in the order of the pieces.

    Args:
        resources: Where the threads end.
        ahead: Pieces that a thread has, the one that it does and those that wait.
        threads: Pieces done at a time; as many as there are cores, up to 8, by default.
    """

    def __init__(
        self, resources: contextlib.ExitStack, ahead: int, threads: int | None = None
    ) -> None:
        self._threads = min(available_cores(), _MAX_THREADS) if threads is None else threads
        self._ahead = ahead
        self._pool: ThreadPoolExecutor | None = None
        if self._threads > 1:
            self._pool = resources.enter_context(ThreadPoolExecutor(self._threads - 1))
        self._pending: deque[_Piece[Result]] = deque()

    def add(self, work: Callable[[], Result]) -> Iterator[Result]:
        """Has a piece of work done, and yields the results of those that are finished.

        Args:
            work: What is to be done; it spends its time outside of Python's lock.
        """
        self._pending.append(_Piece(work, self._pool))
        # This thread makes the frames; where the others have enough to do, it compresses too.
        # With one more than there are cores, some that could go on would wait for a core.
        if sum(not piece.done() for piece in self._pending) > self._ahead * (self._threads - 1):
            self._pending[-1].do_here()
        most = 2 * self._ahead * self._threads
        while self._pending and (self._pending[0].done() or len(self._pending) > most):
            yield self._pending.popleft().result()

    def rest(self) -> Iterator[Result]:
        """Does what is left, and yields the results like `add`."""
        for piece in reversed(self._pending):
            piece.do_here()
        while self._pending:
            yield self._pending.popleft().result()


class _Piece(Generic[Result]):
    """A piece of work that is done by another thread, or by this one.

    Args:
        work: What is to be done.
        pool: The other threads; without them it is done at once.
    """

    def __init__(self, work: Callable[[], Result], pool: ThreadPoolExecutor | None) -> None:
        self._work = work
        self._future = None if pool is None else pool.submit(work)
        if pool is None:
            self._result = work()

    def do_here(self) -> None:
        """Does it, unless that was done already or another thread has begun to."""
        if self._future is not None and self._future.cancel():
            self._future = None
            self._result = self._work()

    def done(self) -> bool:
        """Returns whether it is done."""
        return self._future is None or self._future.done()

    def result(self) -> Result:
        """Returns what it gave, once it is done."""
        return self._result if self._future is None else self._future.result()
