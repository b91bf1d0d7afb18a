"""The recorder of a model in a script that nobody changed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from record.batch_detection.held_frames import HeldFrames
from record.capture.capture import Capture
from record.launch.arguments import RunOptions
from record.modules.selection import Patterns, default_layers, find_layers
from record.recorder import Recorder
from record.reporting import say
from record.schedule.budget import Budget, parse_bytes
from record.schedule.schedule import Schedule
from record.session.progress import STEPS


class ForwardListener(Protocol):
    """What a `ScriptRecorder` tells of its model's forwards."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while the listener is told of something."""

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """A forward of the model begins."""

    def forward_ended(self, output: Any) -> None:
        """A forward of the model has ended."""

    def why_nothing(self) -> str:
        """Returns why no batch was recorded, in words."""


class ScriptRecorder(Recorder):
    """A recorder whose batches begin and end as its listener says.

    Args:
        root: The model, which is not kept alive.
        path: The recording.
        listener: Told of the model's forwards.
        options: What was asked for on the command line.
        overwrite: Whether an existing file is replaced.
    """

    def __init__(
        self,
        root: nn.Module,
        path: Path,
        listener: ForwardListener,
        options: RunOptions,
        overwrite: bool,
    ) -> None:
        self._listener = listener
        self._process = os.getpid()
        super().__init__(
            root,
            path,
            layers=options.layers,
            every=options.every,
            schedule=options.schedule,
            budget=options.budget,
            max_map=options.max_map,
            batch_axis=options.batch_axis,
            ranks=options.ranks,
            overwrite=overwrite,
            metadata={"command": list(options.command)},
        )
        self._model = None  # the script drops its model when it likes
        self._progress.mode = STEPS

    @property
    def is_recording(self) -> bool:
        """Whether it records: not where another rank does, and not once it is closed."""
        return not self._closed

    @property
    def capture(self) -> Capture:
        """The hooks on the model."""
        return self._taps

    def hold_frames(self, options: RunOptions) -> HeldFrames:
        """Has frames held until it is known which batch they are of, and returns their holder."""
        schedule = Schedule.parse(options.schedule, options.every)
        size = options.budget
        budget = None if size is None else Budget(parse_bytes(size), schedule)
        self._shipping._budget = budget
        self.capture.evaluation, self.capture.counts_on = options.include_eval, True
        return HeldFrames(
            self.capture, self._shipping, self._progress, schedule, budget, self._trouble
        )

    def _why_nothing(self, opened: bool) -> str:
        if self._failed or self._broken or any(self.capture.silent.values()):
            return super()._why_nothing(opened)
        return self._listener.why_nothing()

    def _find_layers(self, root: nn.Module, patterns: Patterns) -> dict[str, nn.Module]:
        return default_layers(root) if patterns is None else find_layers(root, patterns)

    def _on_forward(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        if os.getpid() == self._process:  # else it is a forked child's, and the lock may be held
            with self._listener.lock:
                self._listener.forward_begins(training, inputs)

    def _on_forward_end(self, output: Any) -> None:
        if os.getpid() == self._process:
            with self._listener.lock:
                self._listener.forward_ended(output)

    def _say(self, text: str) -> None:
        say(text)
