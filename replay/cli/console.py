"""What a command says: messages and a bar on stderr while it works, what it made on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.formatting import clean_line, format_bytes, format_count

if TYPE_CHECKING:
    from replay.recording import Recording


def say(kind: str, message: str) -> None:
    """Writes one line to stderr, such as `error: no such file: run.h5`."""
    print(f"{kind}: {clean_line(message)}", file=sys.stderr)


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


def tell_made(path: Path, size: int, seconds: float, frames: int | None = None) -> None:
    """Says on stdout what a command has made.

    Args:
        path: Where it is.
        size: Its bytes.
        seconds: That it took.
        frames: In it, where it has several.
    """
    many = "" if frames is None else f", {format_count(frames, 'frame')}"
    print(f"{path}  {format_bytes(size)}{many}, {seconds:.1f} s")


class Progress:
    """A bar on stderr, if that is a terminal; called with (done, total).

    Args:
        quiet: Shows none there, either.
        unit: What is counted, with a space before it.
    """

    def __init__(self, quiet: bool, unit: str = " frames") -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, done: int, total: int) -> None:
        if not self._shown:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=self._unit, leave=False, file=sys.stderr)
        self._bar.update(done - self._bar.n)
