"""Pushes a recording to the run of a tracker that is active in this process, once it is closed.

The pictures are made by `replay` in a process of its own, so that the training's has nothing of it:
no matplotlib, no other random numbers, no thread. What that process left in a folder is logged by
the run's own process, this one; `replay.trackers.handing_over`, which does so, is looked up when it
is needed, and nothing else of `replay` comes along.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from record.reporting import say
from record.short_path import short_path
from replay.schema import RecordingError
from replay.schema.destinations import Destination, read_destination
from replay.schema.faces import command
from replay.schema.unfinished import temporary_folder

_MOST_SECONDS = 1800.0  # for the pictures, and to be taken
_START = "import sys; sys.path[0] = sys.argv.pop(1); from replay.__main__ import entry; entry()"


class Push:
    """Where a recording is pushed to when it is closed.

    Args:
        to: As for `Recorder`.
        warn: Called with a line about what went wrong; must not raise.

    Raises:
        OptionError: There is no such tracker.
    """

    def __init__(self, to: Any, warn: Callable[[str], None]) -> None:
        self._to, self._warn = read_destination(to, whole=False), warn
        if self._to.missing:
            warn(f"push: {self._to.missing}")

    def push(self, path: Path, quiet: bool) -> None:
        """Pushes a recording that is closed; whatever goes wrong is a warning.

        Args:
            path: The recording.
            quiet: Whether nothing is said of what went well.
        """
        if self._to.missing:
            return
        name = short_path(path)
        if not quiet:
            say(f"pushing {name} to {self._to}")
        try:
            where = self._push(path)
        except Exception as error:  # a tracker's package may raise anything
            words = (str(error).strip().splitlines() or [type(error).__name__])[0]
            typed = command("replay", "push", name, "--to", self._to)
            self._warn(f"{name} was not pushed: {words}; '{typed}' does so in a run of its own")
            return
        if not quiet:
            say(f"pushed {name}: {where}")

    def _push(self, path: Path) -> str:
        """Pushes a recording, and returns where it is, in words."""
        if self._to.value:
            return _replay(path, self._to)
        handing_over: Any = import_module("replay.trackers.handing_over")
        run = handing_over.find_run(self._to)
        with temporary_folder() as folder:
            form = ["--gif"] if run.film_suffix == ".gif" else []
            _replay(path, Destination("folder", str(folder)), *form)
            return str(handing_over.hand_over(folder, run))


def _replay(path: Path, to: Destination, *options: str) -> str:
    """Has another process push a recording; returns where it is, in words.

    Args:
        path: The recording.
        to: Where to.
        *options: Further words of the command line.

    Raises:
        RecordingError: It could not.
        OSError: The process could not be started.
        subprocess.TimeoutExpired: It took too long, and was ended.
    """
    root = Path(__file__).resolve().parents[2]
    words = ["push", str(path), "--to", str(to), "--quiet", *options]
    done = subprocess.run(
        [sys.executable, "-c", _START, str(root), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_MOST_SECONDS,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        found = said[-1].removeprefix("error: ") if said else f"exit code {done.returncode}"
        raise RecordingError(found)
    return done.stdout.splitlines()[0]
