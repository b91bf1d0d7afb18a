"""Takes what a folder holds to a run that is active in this process.

`record.Recorder(push="wandb")` comes here once its recording is closed: what is pushed was made in
another process, into a folder (`replay.trackers.folder`), and a run takes it from its own process.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

from replay.schema import OptionError
from replay.schema.destinations import Destination
from replay.trackers import folder
from replay.trackers.interface import Tracker
from replay.trackers.registry import find_tracker


def find_run(destination: Destination) -> Tracker:
    """Returns a run that goes on: the one that was given, or is active in this process.

    Raises:
        OptionError: There is none, or the tracker is not installed.
    """
    found = find_tracker(destination).attach(destination.run)
    if found is None:
        raise OptionError(f"no run of {destination.tracker} is active in this process")
    return found


def hand_over(made: Path, run: Tracker) -> str:
    """Logs what a folder holds to a run, which goes on; returns where it is, in words.

    Args:
        made: The folder, which must stay until the run has ended.
        run: From `find_run`.

    Raises:
        FileError: The folder holds nothing.
    """
    points, files = folder.read(made)
    with redirect_stdout(sys.stderr):
        run.log(points, files)
        return run.close()
