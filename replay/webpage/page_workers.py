"""The frames of a page packed by several processes, each a share of every layer.

Each of the other processes gets the layers and the pictures, opens the recording for itself and
packs its share; what comes back are the frames as this process would have packed them. Where one
cannot be started or fails, its share is packed here: no page depends on it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from replay.output import available_cores

_PER_FRAME = 1e-3  # seconds that a frame takes to pack,
_PER_VALUE = 5e-8  # and each of its values
_WORTH = 1.5  # seconds of work for which another process is started; to start takes half a second
_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
_MOST = 8  # processes: each has ranges and scales in memory


class Part(Protocol):
    """A layer or the pictures of a page, once it is prepared."""

    @property
    def packed_frames(self) -> int:
        """How many frames it packs."""

    @property
    def values(self) -> int:
        """The number of values of each."""

    def pack(self, start: int, stop: int) -> Iterator[Any]:
        """Yields frames, packed; each of which may be packed in any process."""

    def borders(self, count: int) -> list[int]:
        """Returns where so many shares of its frames begin, and where the last one ends."""


def even_borders(frames: int, count: int, whole: int = 1) -> list[int]:
    """Returns where shares of frames begin, and where the last one ends.

    Args:
        frames: How many frames there are.
        count: How many shares.
        whole: Each begins at a multiple of this.
    """
    groups = -(-frames // whole)
    return [min(frames, groups * share // count * whole) for share in range(count + 1)]


def pack_parts(parts: Sequence[Part], report: Callable[[float], None]) -> list[list[Any]]:
    """Returns the packed frames of each part.

    Args:
        parts: What to pack.
        report: Called with the share of the work that is done, after each frame.
    """
    count = _processes(parts)
    total = sum(part.borders(count)[1] for part in parts)
    done = 0
    with contextlib.ExitStack() as resources:
        helpers = [
            resources.enter_context(_helper(parts, share, count)) for share in range(1, count)
        ]
        shares: list[list[list[Any]]] = [[]]
        for part in parts:
            frames = []
            for frame in part.pack(*part.borders(count)[:2]):
                frames.append(frame)
                done += 1
                report(done / max(total, 1))
            shares[0].append(frames)
        for share, helper in enumerate(helpers, 1):
            shares.append(helper() or _pack_share(parts, share, count))
    return [[frame for share in shares for frame in share[place]] for place in range(len(parts))]


def _processes(parts: Sequence[Part]) -> int:
    """Returns how many processes are worth it, this one included."""
    work = sum(part.packed_frames * (_PER_FRAME + _PER_VALUE * part.values) for part in parts)
    return max(1, min(available_cores(), _MOST, int(work / _WORTH)))


def _pack_share(parts: Sequence[Part], share: int, count: int) -> list[list[Any]]:
    return [list(part.pack(*part.borders(count)[share : share + 2])) for part in parts]


@contextlib.contextmanager
def _helper(
    parts: Sequence[Part], share: int, count: int
) -> Iterator[Callable[[], list[list[Any]] | None]]:
    """Starts a process that packs a share; yields what waits for it, and gives None if it failed.

    Args:
        parts: What to pack.
        share: Which share.
        count: Of how many.
    """
    with tempfile.TemporaryFile() as task, tempfile.TemporaryFile() as found:
        try:
            pickle.dump((list(parts), share, count), task)
            process = _start(task, found)
        except Exception:  # something that is not to be pickled, or no more processes
            yield lambda: None
            return

        def wait() -> list[list[Any]] | None:
            if process.wait():
                return None
            found.seek(0)
            packed: list[list[Any]] = pickle.load(found)
            return packed

        try:
            yield wait
        finally:
            process.kill()
            process.wait()


def _start(task: IO[bytes], found: IO[bytes]) -> subprocess.Popen[bytes]:
    task.seek(0)
    return subprocess.Popen(
        [sys.executable, "-m", "replay.webpage.page_workers"],
        stdin=task,
        stdout=found,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, **dict.fromkeys(_THREADS, "1")},  # a core is what it has
    )


def run_worker() -> None:
    """Packs the share that standard input names, and writes it to standard output."""
    packed = _pack_share(*pickle.load(sys.stdin.buffer))
    pickle.dump(packed, sys.stdout.buffer)


if __name__ == "__main__":
    run_worker()
