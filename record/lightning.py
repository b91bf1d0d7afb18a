"""Records what a Lightning `Trainer` trains: a thin callback around `Recorder`.

    from lightning.pytorch import Trainer
    from record.lightning import RecordFeatureMaps

    Trainer(callbacks=[RecordFeatureMaps("run.h5")]).fit(model, loader)

Imported only on request: nothing else of `record` needs Lightning.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import weakref
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec

import torch
from torch import nn

from record.modules.selection import Patterns
from record.paths import recording_path
from record.recorder import Recorder
from record.reporting import warn
from record.session.metadata import rank_and_world
from record.torchvision_import import import_torchvision
from replay.schema import OptionError, RecordingError

__all__ = ["RecordFeatureMaps"]


def _find_callback() -> Any:
    """Returns the class `Callback` of `lightning.pytorch`, or else of `pytorch_lightning`.

    Raises:
        OptionError: Neither can be imported.
    """
    with contextlib.suppress(OptionError):
        import_torchvision()  # Lightning imports it where it is installed, and fails if it does
    reasons = []
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return import_module(name).Callback
        except (ImportError, RuntimeError) as error:
            reasons.append(str(error))
    raise OptionError(
        f"record.lightning needs Lightning ({'; '.join(reasons)}); "
        "install it with pip install 'mapreel[lightning]'"
    )


Callback: Any = _find_callback()


P = ParamSpec("P")


def _guarded(
    method: Callable[Concatenate[RecordFeatureMaps, P], None],
) -> Callable[Concatenate[RecordFeatureMaps, P], None]:
    """Makes what goes wrong in a method end the recording, and not the training.

    Under `on_error="raise"` it ends the training, too.
    """

    @functools.wraps(method)
    def call(callback: RecordFeatureMaps, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(callback, *args, **kwargs)
        except Exception as error:
            if callback._raises:
                raise
            callback._give_up(error)

    return call


class _EndedFit(NamedTuple):
    """A fit that has ended, and its recording.

    Attributes:
        model: The model, by a weak reference.
        path: The recording.
        at: The epoch and the number of the next batch, had there been one.
        step: The number of batches that were trained on.
    """

    model: weakref.ref[nn.Module]
    path: Path
    at: tuple[int, int]
    step: int


class RecordFeatureMaps(Callback):  # type: ignore[misc]
    """A Lightning callback that records the feature maps of the first image of every batch.

    Training batches are recorded with their loss and learning rate; the sanity check and
    validation leave no trace. Epochs and batches have Lightning's numbers.

    Where `fit` is called again and goes on with the same model, so does the file. A training that
    begins anew, with another model, say, gets a file of its own name: `run.2.h5`, `run.3.h5`.

    Args:
        path: The recording to write, `run.h5`, say.
        layers: As for `Recorder`; names count from `module` where one is named.
        every: Records the batches 0, every, 2 * every ... of each epoch.
        overwrite: Replaces a file that was there before instead of taking the next free name.
        on_error: `warn`: what cannot be recorded costs frames and a `RecordingWarning`, never the
            training. `raise`: it raises, also where the file exists.
        metadata: Kept in the file as JSON, as for `Recorder`.
        module: The name of the network in the LightningModule, `net` for a `training_step` that
            calls `self.net(x)`; None means the LightningModule itself.
        **options: Further arguments of `Recorder`, such as `budget`, or `ranks` of a distributed
            training. `resume=True` goes on with the file of a process that has ended.

    Raises:
        OptionError: Before the first batch, under `on_error="raise"`: `module` is not there, or
            as for `Recorder`.
        OutputError: Likewise: the file exists, or cannot be created.

    Attributes:
        recorder: The `Recorder` from the first batch of a training to its end, else None. What
            `recorder.log` is given in a `training_step` is kept with its batch.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layers: Patterns = None,
        every: int = 1,
        overwrite: bool = False,
        on_error: str = "warn",
        metadata: dict[str, Any] | None = None,
        *,
        module: str | None = None,
        **options: Any,
    ) -> None:
        self.recorder: Recorder | None = None
        self._path: Any = path  # looked at where a training begins, which nothing here ends
        self._module = module
        self._raises = on_error != "warn"
        self._options = {
            "layers": layers,
            "every": every,
            "overwrite": overwrite,
            "on_error": on_error,
            "metadata": metadata,
            **options,
        }
        self._fits: list[_EndedFit] = []
        self._current: tuple[nn.Module, Path] | None = None  # what is recorded, and where
        self._ended = False  # nothing more is recorded of this fit

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state of a copy, in another process, say: it has recorded nothing yet."""
        return {**vars(self), "recorder": None, "_fits": [], "_current": None, "_ended": False}

    @_guarded
    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Prepares for a training that begins, or goes on; its first batch begins the recording."""
        self._close()
        self._ended = False

    @_guarded
    def on_train_epoch_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Begins an epoch."""
        if self.recorder is not None:
            self.recorder.epoch(trainer.current_epoch)

    @_guarded
    def on_train_batch_start(
        self, trainer: Any, pl_module: nn.Module, batch: Any, batch_idx: int
    ) -> None:
        """Begins a batch, and keeps its learning rate: a scheduler may change it after the step."""
        if self._ended:
            return
        recorder = self.recorder
        if recorder is None:
            # Not before: only now is it known with which batch an interrupted epoch goes on.
            recorder = self.recorder = self._start(trainer, pl_module, batch_idx)
        # Batches may be left out, or an epoch be resumed.
        recorder._progress.begin_batch(batch_idx)
        if trainer.optimizers:
            rate = trainer.optimizers[0].param_groups[0].get("lr")
            if rate is not None:
                recorder.log(lr=rate)

    @_guarded
    def on_train_batch_end(
        self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the loss and ends the batch."""
        if self.recorder is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor):
            parts = trainer.accumulate_grad_batches  # Lightning has divided the loss by it
            self.recorder.log(loss=loss if parts == 1 else loss * parts)
        self.recorder.step()

    @_guarded
    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Ends the recording."""
        self._close()

    @_guarded
    def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
        """Ends the recording: what was recorded before the exception stays."""
        self._close()

    @_guarded
    def teardown(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
        """Ends the recording, if nothing else has."""
        self._close()

    def _start(self, trainer: Any, pl_module: nn.Module, batch: int) -> Recorder:
        """Begins the recording of a training that begins, or goes on, with this batch."""
        model = pl_module if self._module is None else _submodule(pl_module, self._module)
        epoch = trainer.current_epoch
        self._path = recording_path(self._path)
        ended = self._find_fit(model, trainer, (epoch, batch))
        options, path = {**self._options}, self._path
        if ended is not None:
            path = ended.path
            options["overwrite"] = False
            # Where a checkpoint leads back, the file does, too: to the beginning of the epoch.
            options["resume"] = True if (epoch, batch) >= ended.at else epoch
        elif self._fits or not options.get("resume", False):
            options["resume"] = False
            path = self._free_path(bool(options["overwrite"]))
        elif options["resume"] is True and (epoch, batch) > (0, 0) and batch == 0:
            options["resume"] = epoch
        recorder = Recorder(model, path, **options)
        recorder._notices_more = False  # where a fit ends is Lightning's to say
        self._current = model, path
        recorder.epoch(epoch)
        if ended is not None and (epoch, batch) >= ended.at:
            recorder._progress.step = ended.step
        return recorder

    def _find_fit(self, model: nn.Module, trainer: Any, at: tuple[int, int]) -> _EndedFit | None:
        """Returns the fit with whose recording to go on; None where a training begins anew."""
        if at == (0, 0):
            return None
        same = [fit for fit in self._fits if fit.model() is model]
        if not same and getattr(trainer, "ckpt_path", None) is not None:
            same = self._fits  # a model that was built again, of which a checkpoint was loaded
        return same[-1] if same else None

    def _free_path(self, overwrite: bool) -> Path:
        """Returns where to record a training that begins: the file named, or a free name."""
        taken = {fit.path for fit in self._fits}
        rank, world = rank_and_world()
        every_rank = world > 1 and self._options.get("ranks", "0") == "all"
        if not taken and (self._raises or overwrite or (world > 1 and rank and not every_rank)):
            return Path(self._path)
        for number in itertools.count(1):
            path = Path(self._path) if number == 1 else _numbered(self._path, str(number))
            written = _numbered(path, f"rank{rank}") if every_rank else path
            if path not in taken and (overwrite or not written.is_file()):
                break
        if path != self._path and not (rank and not every_rank):
            warn(
                f"{self._path} holds another training, so that this one is recorded in {path}"
                + ("" if taken else ": choose another name, or overwrite=True, or resume=True")
            )
        return path

    def _give_up(self, error: Exception) -> None:
        """Says that nothing more is recorded of this fit, and ends the recording."""
        self._ended = True
        reason = (
            str(error) if isinstance(error, RecordingError) else f"{type(error).__name__}: {error}"
        )
        warn(f"the feature maps of this training are not recorded any further: {reason}")
        with contextlib.suppress(Exception):
            self._close()

    def _close(self) -> None:
        """Ends the recording, if there is one, and remembers where it stood."""
        if self.recorder is None:
            return
        recorder, self.recorder = self.recorder, None
        current, self._current = self._current, None
        if current is not None:
            model, path = current
            progress = recorder._progress
            at = progress.epoch, progress.batch
            self._fits.append(_EndedFit(weakref.ref(model), path, at, progress.step))
        recorder.close()


def _numbered(path: Path, number: str) -> Path:
    """Returns `run.2.h5` for `run.h5` and `2`."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def _submodule(model: nn.Module, name: str) -> nn.Module:
    """Returns a module of a model by its name.

    Raises:
        OptionError: There is none of that name.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        found = ", ".join(child for child, _ in model.named_children()) or "none"
        raise OptionError(
            f"module: expected the name of a module in {type(model).__name__} ({found}), "
            f"found {name!r}"
        ) from None
