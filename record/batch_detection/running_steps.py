"""The optimizer steps that run: the forwards within one are of a closure, and belong together."""

from __future__ import annotations

from collections.abc import Hashable


class RunningSteps:
    """The steps that have begun and not ended, of the optimizers of one model."""

    def __init__(self) -> None:
        self._calls = 0  # steps that have begun
        # Optimizers that step, each with its call and its thread.
        self._running: list[tuple[Hashable, int, Hashable]] = []

    def begin(self, optimizer: Hashable, thread: Hashable) -> None:
        """Notes that an optimizer begins to step in a thread."""
        self.end(optimizer, thread)  # its last step may have ended in an exception
        self._calls += 1
        self._running.append((optimizer, self._calls, thread))

    def end(self, optimizer: Hashable, thread: Hashable) -> None:
        """Ends an optimizer's step in a thread, and those that began within it."""
        for place, (running, _, running_in) in enumerate(self._running):
            if running == optimizer and running_in == thread:
                later = self._running[place:]
                self._running[place:] = [step for step in later if step[2] != thread]
                return

    def call_in(self, thread: Hashable) -> int:
        """Returns the number of the step that runs in a thread; 0 for none."""
        calls = [call for _, call, running_in in self._running if running_in == thread]
        return calls[-1] if calls else 0
