"""Records what a script trains, from the moment at which it imports torch."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Any

from record.import_hooks import AfterImport
from record.launch.arguments import RunOptions
from record.launch.closing_lines import RecordingCount
from record.reporting import say


class ScriptRecording:
    """Records what a script trains, from its import of torch to its end.

    Args:
        options: Values of the fields of `RunOptions`, by name.
        debug: Whether an error when watching begins is raised.
        spawned: Whether this process was started by the script (multiprocessing's spawn).
        count: Counts the recordings of all processes, and is removed at the end; None in a child.
    """

    def __init__(
        self,
        options: dict[str, Any],
        debug: bool = False,
        spawned: bool = False,
        count: RecordingCount | None = None,
    ) -> None:
        self._options = options
        self._debug = debug
        self._spawned = spawned
        self._count = count
        self._watcher: Any = None  # whose module needs torch
        self._process = os.getpid()
        self._finished = False

    def start(self) -> None:
        """Begins to watch torch now, or once the script has imported it."""
        if "torch" in sys.modules:
            self._watch()
        else:
            sys.meta_path.insert(0, AfterImport("torch", self._watch))

    def _watch(self) -> None:
        """Begins to watch torch; what goes wrong is said, and the script goes on."""
        try:
            from record.launch.watcher import Watcher

            watcher = Watcher(RunOptions.from_json(self._options), self._spawned)
            watcher.install()
            self._watcher = watcher
        except Exception as error:
            if self._debug:
                raise
            say(f"cannot watch this torch: {type(error).__name__}: {error}; the script goes on")

    def finish_when_done(self) -> None:
        """Ends the recordings now, or with the interpreter where other threads go on training."""
        others = [
            thread
            for thread in threading.enumerate()
            if thread is not threading.current_thread() and not thread.daemon
        ]
        if others:
            atexit.register(self.finish)
        else:
            self.finish()

    def finish(self) -> None:
        """Ends the recordings and says what was recorded."""
        if self._finished or os.getpid() != self._process:
            return
        self._finished = True
        if self._watcher is not None:
            self._watcher.close()
            self._watcher.report()
        elif "torch" not in sys.modules and not (self._spawned or RecordingCount().total()):
            say("nothing was recorded: the script did not import torch")
        if self._count is not None:
            self._count.remove()
