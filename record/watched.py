"""A model that somebody's script trains, and the recording of it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer
from torch.utils.data import DataLoader

from record.layers import Patterns, default_layers, find_layers
from record.progress import STEPS
from record.recorder import Recorder
from record.saying import say
from record.states import DONE, OPEN


@dataclass(frozen=True)
class WatchOptions:
    """What `record run` was asked for; see `launchwords.py` for what the values mean."""

    output: str = "run.h5"
    layers: tuple[str, ...] | None = None
    every: int = 1
    schedule: str | None = None
    budget: str | None = None
    max_map: int | None = None
    include_eval: bool = False
    ranks: str = "0"
    overwrite: bool = False
    command: tuple[str, ...] = ()


class Iteration:
    """One pass over a DataLoader."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = weakref.ref(loader)
        self.fetched = 0
        self.exhausted = False
        self.thread = threading.get_ident()  # that asks for batches
        try:
            self.length: int | None = len(loader)
        except (TypeError, NotImplementedError):
            self.length = None


class WatchedRecorder(Recorder):
    """A recorder whose batches begin and end as the watcher says."""

    def __init__(self, root: nn.Module, path: Path, watched: Watched, **options: Any) -> None:
        self._watched = watched
        super().__init__(root, path, **options)
        self._progress.mode = STEPS

    @property
    def has_fired(self) -> bool:
        """Whether a forward was seen in the current batch, recorded or not."""
        return self._taps.fired

    def begin(self, epoch: int, batches: int | None) -> None:
        """Begins a batch."""
        progress = self._progress
        if epoch != progress.epoch:
            progress.epoch, progress.batch = epoch, 0
        progress.expect(batches)
        progress.arm()
        self._taps.several = True

    def close_forwards(self) -> None:
        """Further forwards of the batch are not recorded."""
        self._taps.several = False
        if self._taps.state == OPEN:
            self._taps.state = DONE

    def end(self, values: dict[str, Any]) -> None:
        """Ends the batch; one that is not kept only counts."""
        self.log(**values)
        self._progress.end_batch()

    def _find_layers(self, root: nn.Module, patterns: Patterns) -> dict[str, nn.Module]:
        return default_layers(root) if patterns is None else find_layers(root, patterns)

    def _on_forward(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        self._watched.forward(training)

    def _say(self, text: str) -> None:
        say(text)


class Watched:
    """One model that is trained, and where it stands between its batches."""

    def __init__(self, root: nn.Module, path: Path, options: WatchOptions, overwrite: bool) -> None:
        self.root = root
        self.path = path
        self._include_eval = options.include_eval
        self._iteration: Iteration | None = None  # that the batches come from
        self._candidate: Iteration | None = None  # that they may come from next
        self._begun = 0  # batches of the iteration
        self._epoch = 0
        self._pending = True  # the next forward begins a batch
        self._open = False  # a batch has begun and not ended
        self._ran = False  # and its forward was seen to begin
        self._learns = False  # a forward with gradients was seen
        self._loss: Any = None
        self.optimizer: Callable[[], Optimizer | None] = lambda: None  # the last that stepped
        self._steps = 0  # since a batch began
        self.recorder = WatchedRecorder(
            root,
            path,
            self,
            layers=options.layers,
            every=options.every,
            schedule=options.schedule,
            budget=options.budget,
            max_map=options.max_map,
            ranks=options.ranks,
            overwrite=overwrite,
            metadata={"command": list(options.command)},
        )
        self.path = self.recorder.path
        self.recorder._taps.evaluation = options.include_eval
        self.recorder._taps.counts_on = True
        self._set_pending(True)

    def _set_pending(self, pending: bool) -> None:
        self._pending = self.recorder._taps.pending = pending

    def forward(self, training: bool) -> None:
        """A forward of the model, or of a part of it, begins."""
        # A look at samples in between, without gradients though in training mode, is no batch.
        with_gradients = torch.is_grad_enabled()
        self._learns = self._learns or with_gradients
        training = training and (with_gradients or not self._learns)
        if not training and not self._include_eval:
            return
        if not training or self._pending:
            self._end()
            self._begin(training)
            self._ran = True

    def _turn(self) -> None:
        """Turns to the next batch where a compiled forward would not say that it begins."""
        if self.recorder._taps.traced and self._pending:
            self._end()
            if not self._open:
                self._begin(True)
                self._set_pending(True)  # the loader may have been asked already

    def fetched(self, iteration: Iteration) -> None:
        """A DataLoader was asked for a batch."""
        self._take_note(iteration)
        self._turn()

    def _take_note(self, iteration: Iteration) -> None:
        current = self._iteration
        if current is None or iteration is not current:
            self._candidate = iteration
            loader = None if current is None else current.loader()
            if current is not None and not current.exhausted and loader is not None:
                if iteration.loader() is loader:  # left before its end, and begun again
                    self._set_pending(True)
                return
        self._set_pending(True)

    def backward(self, loss: Any) -> None:
        """A backward pass begins, of this loss if it is a single number."""
        if loss is not None:
            self._loss = loss
        self.recorder.close_forwards()
        if self._iteration is None and self._open:
            self._set_pending(True)

    def went_back(self) -> None:
        """A backward pass has ended."""
        if self._iteration is None:
            self._turn()

    def stepped(self, optimizer: Optimizer) -> None:
        """An optimizer that owns parameters of the model has stepped."""
        self.optimizer = weakref.ref(optimizer)
        self._steps += 1
        self._end()
        current = self._iteration
        # Another thread's fetches say nothing of when the training goes on to the next batch.
        ahead = current is not None and (
            current.exhausted or current.thread != threading.get_ident()
        )
        if current is None or (ahead and current.fetched > self._begun):
            self._set_pending(True)
        elif current.exhausted and self._steps > 2:
            # The loader has nothing to do with the batches: they come from somewhere else.
            self._iteration = None
            self._set_pending(True)
        self._turn()

    def close(self) -> None:
        """Ends the recording."""
        self._end()
        self.recorder.close()

    def _begin(self, training: bool) -> None:
        candidate, current = self._candidate, self._iteration
        if training and candidate is not None:
            self._candidate = None
            if candidate is not current:
                self._epoch += current is not None or self._begun > 0
                self._iteration, self._begun = candidate, 0
        self._begun += 1
        self._open, self._ran, self._steps = True, False, 0
        self._loss = None
        length = None if self._iteration is None else self._iteration.length
        self.recorder.begin(self._epoch, None if self._include_eval else length)
        if self._include_eval:
            self.recorder.log(training=float(training))
        self._set_pending(not training)

    def _end(self) -> None:
        if not self._open or not (self._ran or self.recorder.has_fired):
            return
        self._open = False
        optimizer = self.optimizer()
        lr = None if optimizer is None else optimizer.param_groups[0].get("lr")
        values = {"loss": self._loss, "lr": lr}
        self.recorder.end({name: value for name, value in values.items() if value is not None})
