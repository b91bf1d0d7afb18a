"""Records what a Lightning `Trainer` trains: a thin callback around `Recorder`.

    from lightning.pytorch import Trainer
    from record.lightning import RecordFeatureMaps

    Trainer(callbacks=[RecordFeatureMaps("run.h5")]).fit(model, loader)

Imported only on request: nothing else of `record` needs Lightning.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from record.layers import Patterns
from record.recorder import Recorder
from record.vision import import_torchvision
from replay.schema import OptionError


def _find_callback() -> Any:
    """The class `Callback` of `lightning.pytorch` or, failing that, of `pytorch_lightning`."""
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


class RecordFeatureMaps(Callback):  # type: ignore[misc]
    """A Lightning callback that records the feature maps of the first image of every batch.

    Training batches are recorded with their loss and learning rate; the sanity check and
    validation leave no trace. Epochs and batches have Lightning's numbers.

    Args:
        path: The recording to write, `run.h5`, say.
        layers: As for `Recorder`; names count from `module` where one is named.
        every: Records the batches 0, every, 2 * every ... of each epoch.
        overwrite: Replaces an existing file instead of refusing it.
        on_error: `warn` or `raise`, as for `Recorder`.
        metadata: Kept in the file as JSON, as for `Recorder`.
        module: The name of the network in the LightningModule, `net` for a `training_step` that
            calls `self.net(x)`; None means the LightningModule itself.
        **options: Further arguments of `Recorder`, such as `budget`, or `ranks` of a distributed
            training.

    Raises:
        OptionError: When training starts: `module` is not there, or as for `Recorder`.
        OutputError: When training starts: the file exists, or cannot be created.

    Attributes:
        recorder: The `Recorder` while a training runs, else None. What
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
        self._path = path
        self._module = module
        self._options = {
            "layers": layers,
            "every": every,
            "overwrite": overwrite,
            "on_error": on_error,
            "metadata": metadata,
            **options,
        }

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Starts the recording: after the sanity check, the model being where it trains."""
        model = pl_module if self._module is None else _submodule(pl_module, self._module)
        self.recorder = Recorder(model, self._path, **self._options)

    def on_train_epoch_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Begins an epoch."""
        if self.recorder is not None:
            self.recorder.epoch(trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: Any, pl_module: nn.Module, batch: Any, batch_idx: int
    ) -> None:
        """Begins a batch, and keeps its learning rate: a scheduler may change it after the step."""
        if self.recorder is None:
            return
        # Batches may be left out, or an epoch be resumed.
        self.recorder._progress.begin_batch(batch_idx)
        if trainer.optimizers:
            self.recorder.log(lr=trainer.optimizers[0].param_groups[0]["lr"])

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

    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Ends the recording."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
        """Ends the recording: what was recorded before the exception stays."""
        self._close()

    def teardown(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
        """Ends the recording, if nothing else has."""
        self._close()

    def _close(self) -> None:
        if self.recorder is not None:
            recorder, self.recorder = self.recorder, None
            recorder.close()


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        found = ", ".join(child for child, _ in model.named_children()) or "none"
        raise OptionError(
            f"module: expected the name of a module in {type(model).__name__} ({found}), "
            f"found {name!r}"
        ) from None
