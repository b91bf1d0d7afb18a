"""The recorder of a model in a script that nobody changed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from torch import nn

from record.batch_detection.held_frames import HeldFrames
from record.capture.phase import CaptureListener, CaptureState
from record.launch.arguments import RunOptions
from record.modules.defaults import default_layers
from record.modules.selection import Patterns, find_layers
from record.recorder import Recorder
from record.reporting import say
from record.schedule.budget import Budget, parse_bytes
from record.schedule.choice import BatchChoice
from record.schedule.schedule import Schedule
from record.session.progress import STEPS, Progress

_PROBES: dict[int | str, str | None] = {0: None, 1: "first", "classes": "classes"}


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
        super().__init__(
            root,
            path,
            layers=options.layers,
            gradients=options.gradients,
            every=options.every,
            schedule=options.schedule,
            budget=options.budget,
            max_map=options.max_map,
            batch_axis=options.batch_axis,
            ranks=options.ranks,
            overwrite=overwrite,
            pack=options.pack,
            metadata={"command": list(options.command)},
            probe=_PROBES[options.probe],
            cam=options.cam,
            attention=options.attention or False,
            quiet=True,  # of all recordings the launcher says what became of them
        )
        self._model = None  # the script drops its model when it likes
        self._progress.mode = STEPS

    @property
    def is_recording(self) -> bool:
        """Whether it records: not where another rank does, and not once it is closed."""
        return not self._closed

    @property
    def why_no_probe(self) -> str:
        """Why the first image was not shown again, in words; empty where it was."""
        return self._checks.why_no_probe

    @property
    def state(self) -> CaptureState:
        """The state of the hooks on the model."""
        return self._capture.state

    def begin_forward(self, args: Any, kwargs: dict[str, Any], frame: FrameType | None) -> None:
        """Records a forward of the model whose own hook has come too late for it.

        Args:
            args: The positional arguments of the forward.
            kwargs: The keyword arguments of the forward.
            frame: The frame of the forward's call, if it is not that of the caller's caller.
        """
        self._capture.begin_forward(args, kwargs, frame)

    def hold_frames(self, options: RunOptions) -> HeldFrames:
        """Has frames held until it is known which batch they are of, and returns their holder."""
        schedule = Schedule.parse(options.schedule, options.every)
        size = options.budget
        budget = None if size is None else Budget(parse_bytes(size), schedule)
        self._sender.choice = BatchChoice(schedule, budget)
        self.state.evaluation, self.state.counts_on = options.include_eval, True
        return HeldFrames(self.state, self._sender, self._checks, self._problems)

    def _say_end(self) -> None:
        pass  # the launcher says it, of all recordings at once

    def _why_nothing(self, broken: bool) -> str:
        silent = self._capture.frames.silent_layers
        if self._progress.copy_failed or broken or any(silent.values()):
            return super()._why_nothing(broken)
        return self._listener.why_nothing()

    def _find_layers(self, root: nn.Module, patterns: Patterns) -> dict[str, nn.Module]:
        return default_layers(root) if patterns is None else find_layers(root, patterns)

    def _forward_listener(self) -> CaptureListener:
        return _Forwards(self._progress, self._listener)

    def _say(self, text: str) -> None:
        say(text)


class _Forwards:
    """Tells a listener of forwards, and the recorder of what goes wrong.

    Args:
        progress: The recorder's progress.
        listener: Told of the model's forwards.
    """

    def __init__(self, progress: Progress, listener: ForwardListener) -> None:
        self.collided = progress.collided
        self.hook_failed = progress.hook_failed
        self.say = progress.say
        self._listener = listener
        self._process = os.getpid()  # a forked child tells nothing: the lock may be held there

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """Tells the listener that a forward begins."""
        if os.getpid() == self._process:
            with self._listener.lock:
                self._listener.forward_begins(training, inputs)

    def forward_ended(self, output: Any) -> None:
        """Tells the listener that a forward has ended."""
        if os.getpid() == self._process:
            with self._listener.lock:
                self._listener.forward_ended(output)
