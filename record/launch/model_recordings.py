"""The recordings of the models that a script trains: from the first forward of each to its end."""

from __future__ import annotations

import weakref
from _thread import get_ident
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from record.batch_detection.deliveries import LoaderItem
from record.batch_detection.loaders import LoaderTracker
from record.launch.arguments import RunOptions
from record.launch.closing_lines import ClosedRecording, RecordingCount
from record.launch.inner_models import InnerModels
from record.launch.recording_paths import RecordingPaths
from record.launch.trained_model import TrainedModel
from record.reporting import say
from record.session.metadata import rank_and_world
from record.watching.callbacks import describe_error
from record.watching.finder import ModelFinder
from record.watching.ownership import optimized_parameters, parameter_ids
from replay.schema import OutputError, RecordingError


class ModelRecordings:
    """Records each model into a file of its own.

    Args:
        options: What was asked for on the command line.
        spawned: Whether this process was started by the script (multiprocessing's spawn).
        loaders: The script's loaders.
        finder: Finds the models.

    Attributes:
        models: The models that are recorded now.
        closed: The recordings that are closed, in the order in which they ended.
        reasons: Why models are not recorded, in words.
        inner: Models that are not recorded, as copies that are trained for a few batches each.
        starting: The thread in which a recording is just beginning; None where none is.
    """

    def __init__(
        self, options: RunOptions, spawned: bool, loaders: LoaderTracker, finder: ModelFinder
    ) -> None:
        self.models: list[TrainedModel] = []
        self.closed: list[ClosedRecording] = []
        self.reasons: list[str] = []
        self.starting: int | None = None
        self._options = options
        self._spawned = spawned
        self._loaders = loaders
        self._finder = finder
        self.inner = InnerModels()
        self._paths = RecordingPaths(Path(options.output))
        self._started = 0
        self._has_dropped_model = False  # whether the script has dropped one of the models
        # The models of an optimizer, by its id; emptied whenever a model comes or goes.
        self._models_by_optimizer: dict[int, list[TrainedModel]] = {}

    def start(
        self, root: nn.Module, items: Iterable[LoaderItem], is_grown: bool = False
    ) -> TrainedModel | None:
        """Begins to record a model; one that is recorded goes on, with what parameters it has now.

        Args:
            root: The model.
            items: What loaders handed out before, that it may have been given.
            is_grown: Whether it was trained for too long to be an inner model.

        Returns:
            The model; None where it is not recorded, which is said, or was recorded before.
        """
        kind = type(root).__name__
        self._finder.known.add(root.parameters())
        recorded = self.model_of(root)
        if recorded is not None:  # some of its layers are new: a head, say, or an adapter
            recorded.parameters = parameter_ids(root)
            self._models_by_optimizer.clear()
            return None
        if not (is_grown or self._options.include_eval) and self.inner.withholds(root):
            return None
        self.starting = get_ident()
        try:
            model = self._open(root)
            if not model.recorder.is_recording:  # another rank does
                return None
            model.steps_in_evaluation = self._finder.steps_before(root)
            self.models.append(model)
            self._models_by_optimizer.clear()
            for item in items:
                model.fetched(item)
            return model
        except RecordingError as error:
            self.reasons.append(f"{kind}: {error}")
            say(f"{kind} is not recorded: {error}")
        except Exception as error:
            self.reasons.append(f"{kind}: {describe_error(error, 200)}")
            say(f"{kind} is not recorded: {self.reasons[-1]}")
        finally:
            self.starting = None
        return None

    def model_of(self, root: nn.Module) -> TrainedModel | None:
        """Returns what records a module, or None."""
        return next((model for model in self.models if model.root is root), None)

    def models_of(self, optimizer: Any) -> list[TrainedModel]:
        """Returns the models whose parameters an optimizer has."""
        models = self._models_by_optimizer.get(id(optimizer))
        if models is None:
            own = optimized_parameters(optimizer)
            models = [model for model in self.models if own & model.parameters]
            self._models_by_optimizer[id(optimizer)] = models
        return models

    def forget_optimizer(self, optimizer: Any) -> None:
        """Forgets the models of an optimizer that had the same id as this new one."""
        self._models_by_optimizer.pop(id(optimizer), None)

    def close(self, model: TrainedModel) -> None:
        """Closes a model's recording, and keeps what the closing lines say of it."""
        try:
            model.close()
        finally:
            self.closed.append(model.closed_recording())
            self.inner.note_closed(self.closed[-1])

    def close_dropped(self) -> None:
        """Closes the recordings of models that the script has dropped."""
        if not self._has_dropped_model:
            return
        self._has_dropped_model = False
        dropped = [model for model in self.models if model.root is None]
        self.models = [model for model in self.models if model.root is not None]
        self._models_by_optimizer.clear()
        for model in dropped:
            self.close(model)

    def _open(self, root: nn.Module) -> TrainedModel:
        """Opens the recording of a model, beside those of other models and processes.

        Raises:
            OutputError: The file exists or cannot be created, or no name is free.
        """
        kind = type(root).__name__
        # Another process of the script may have taken the same name: then the next one is tried.
        has_siblings = self._spawned and rank_and_world()[1] == 1
        for path in self._paths.choices(kind):
            try:
                model = TrainedModel(
                    root,
                    path,
                    self._started,
                    self._options,
                    self._options.overwrite and not has_siblings,
                    self._loaders,
                    self._on_dropped,
                    self._is_only_model,
                )
            except OutputError:
                if not (has_siblings and path.exists()):
                    raise
            else:
                self._started += 1
                if self._spawned and model.recorder.is_recording:
                    RecordingCount().begin_one(model.path)
                return model
        raise OutputError(f"no free name beside {self._paths.base(kind)}")

    def _is_only_model(self) -> bool:
        """Returns whether one model is trained, and no other looked for."""
        return len(self.models) == 1 and not self._finder.is_searching

    def _on_dropped(self, reference: weakref.ref[Any]) -> None:
        """Notes that the script has dropped a model: its recording is closed at the next event."""
        self._has_dropped_model = True
