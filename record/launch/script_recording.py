"""Records what a script trains, from the moment at which it imports torch."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import Any

from record.import_hooks import AfterImport
from record.launch.arguments import RunOptions
from record.launch.closing_lines import RecordingCount
from record.reporting import listed, say
from record.short_path import short_path


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
        self._late_steps: Any = None  # the hook behind the end

    def start(self) -> None:
        """Begins to watch torch now, or once the script has imported it."""
        if "torch" in sys.modules:
            self._watch()
        else:
            sys.meta_path.insert(0, AfterImport("torch", self._watch))

    def _watch(self) -> None:
        """Begins to watch torch; what goes wrong is said, and the script goes on."""
        if self._finished:  # what the end of the script calls imports torch
            self._await_late_steps()
            return
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
            if untold := self._count.untold():
                names = listed([short_path(path) for path in untold])
                say(f"recorded by processes that were ended before they could say so: {names}")
            self._count.remove()
        if "torch" in sys.modules:
            self._await_late_steps()

    def _await_late_steps(self) -> None:
        """Has it said when there is training behind the end of the script."""
        with contextlib.suppress(Exception):  # then nothing is said of it
            from torch.optim.optimizer import register_optimizer_step_post_hook

            self._late_steps = register_optimizer_step_post_hook(self._tell_of_late_step)

    def _tell_of_late_step(self, *_: object) -> None:
        """Says once that what is trained now is not recorded, in an atexit function, say."""
        steps, self._late_steps = self._late_steps, None
        if steps is not None and os.getpid() == self._process:
            steps.remove()
            say(
                "what is trained behind the end of the script is not recorded (in a function of "
                "atexit, an excepthook or a daemon thread): train before it ends"
            )
