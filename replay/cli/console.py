"""What a command says: messages and a bar on stderr while it works, what it made on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.formatting import clean, format_bytes, format_count
from replay.schema.addresses import without_secrets

if TYPE_CHECKING:
    from replay.recording import Recording


_LONGEST = 10_000  # characters of a message, which may hold names from a file


def say(kind: str, message: str) -> None:
    """Writes one line to stderr, such as `error: no such file: run.h5`."""
    shown = without_secrets(clean(message, _LONGEST, mark="?"))
    print(f"{kind}: {shown}", file=sys.stderr)


def warn(message: str | None) -> None:
    """Writes a warning to stderr; nothing for None."""
    if message is not None:
        say("warning", message)


def check_frames(*recordings: Recording) -> None:
    """Makes sure that each has something to show, and warns of what is missing or unfinished.

    Raises:
        FileError: No frame of one of them was committed.
    """
    from replay.recording.info import describe_problems

    for recording in recordings:
        recording.require_frames()
        warn(describe_problems(recording))


def print_result(path: Path, size: int, seconds: float, frames: int | None = None) -> None:
    """Prints on stdout what a command has written.

    Args:
        path: The file, or the folder.
        size: Its bytes.
        seconds: How long it took.
        frames: Number of frames in it, where it has several.
    """
    many = "" if frames is None else f", {format_count(frames, 'frame')}"
    print(f"{path}  {format_bytes(size)}{many}, {seconds:.1f} s")


@contextmanager
def progress_bar(quiet: bool, unit: str = " frames") -> Iterator[Callable[[int, int], None]]:
    """Yields a function of (done, total) that shows a bar on stderr, if that is a terminal.

    Args:
        quiet: Whether there is none on a terminal, either.
        unit: What is counted, with a space before it.
    """
    shown = not quiet and sys.stderr.isatty()
    bar: Any = None
    with ExitStack() as stack:

        def update(done: int, total: int) -> None:
            nonlocal bar
            if not shown:
                return
            if bar is None:
                from tqdm import tqdm

                bar = tqdm(total=total, unit=unit, leave=False, file=sys.stderr)
                stack.enter_context(bar)
            bar.update(done - bar.n)
            if 0 < total <= done:  # another one may follow, on the same line
                bar.close()
                bar = None

        yield update
