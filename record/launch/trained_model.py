"""A model that a script trains, and the recording of it."""

from __future__ import annotations

import weakref
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from record.batch_detection.backward_marks import BackwardMarks
from record.batch_detection.candidate import BatchCandidate
from record.batch_detection.deliveries import LoaderItem
from record.batch_detection.detector import BatchDetector, ForwardRole
from record.batch_detection.epochs import BatchPosition
from record.batch_detection.loaders import LoaderTracker
from record.capture.phase import BROKEN
from record.capture.tensors import Span, common_spans, spans_of, storages_of
from record.formatting import format_count
from record.launch.arguments import RunOptions
from record.launch.closing_lines import ClosedRecording
from record.launch.script_recorder import ScriptRecorder
from record.session.loop import as_number
from record.watching.ownership import is_made_of_leaves, may_train, parameter_ids


class TrainedModel:
    """One model that is trained: tells a `BatchDetector` what happens to it, and holds its frames.

    Args:
        root: The model, which is not kept alive.
        path: The recording.
        number: Which recording of this process it is, from 0.
        options: What was asked for on the command line.
        overwrite: Whether an existing file is replaced.
        loaders: The script's loaders.
        on_dropped: Called once the script has dropped the model.
        is_only_model: Returns whether no other model is trained, which could be given this one's
            output.

    Attributes:
        name: The model's class.
        number: As the argument.
        parameters: The ids of its parameters.
        lock: Held while the model is told of something.
        recorder: Records it.
        path: The recording, with the rank in its name where each rank has a file.
        frames: Holds its frames until it is known which batch they are of.
        detector: Decides which of its forwards are batches.
        steps_in_evaluation: How often it was stepped by forwards in evaluation mode.
    """

    def __init__(
        self,
        root: nn.Module,
        path: Path,
        number: int,
        options: RunOptions,
        overwrite: bool,
        loaders: LoaderTracker,
        on_dropped: Callable[[Any], None],
        is_only_model: Callable[[], bool],
    ) -> None:
        self.name = type(root).__name__
        self.number = number
        self.parameters = parameter_ids(root)
        self.lock = loaders.lock
        self._root = weakref.ref(root, on_dropped)
        self._loaders = loaders
        self._is_only_model = is_only_model
        self._include_eval = options.include_eval
        # A parameter that is trained, by a weak reference.
        self._trained_parameter: Callable[[], nn.Parameter | None] = lambda: None
        self._learns = False  # whether a forward with gradients was seen
        self._forwards = 0  # in training mode
        self._backwards = 0
        # A forward in evaluation mode that could be trained on; then whether a backward pass came.
        self._evaluated = self._evaluated_backward = False
        self.steps_in_evaluation = 0
        self._ended_badly = False
        self._losses: dict[int, Any] = {}  # of the backward passes that run, by thread
        self._thread = 0  # of the last forward
        self._marks = BackwardMarks()
        self._dropped: set[int] = set()  # parameters whose gradients were, since the last pass
        self._current: BatchCandidate | None = None  # that the running forward is recorded in
        self._without_gradients: BatchCandidate | None = None  # of forwards without gradients
        self._evaluation: BatchCandidate | None = None  # the last one in evaluation mode
        self._consumed: Mapping[Any, int] = {}
        # Where the inputs of the latest candidate lie, and what keeps the addresses its own.
        self._inputs: tuple[list[Span], list[Any]] = [], []
        self.recorder = ScriptRecorder(root, path, self, options, overwrite)
        self.path = self.recorder.path
        if not self.recorder.is_recording:  # another rank does
            return
        self._capture = self.recorder.state
        self.frames = self.recorder.hold_frames(options)
        self.detector = BatchDetector(loaders.deliveries, self._on_decided)
        self.frames.detector = self.detector
        self._capture.pending = True

    @property
    def root(self) -> nn.Module | None:
        """The model; None once the script has dropped it."""
        return self._root()

    @property
    def is_traced(self) -> bool:
        """Whether it was compiled, so that nobody sees its forwards begin."""
        return self._capture.traced

    # What happens

    def fetched(self, item: LoaderItem) -> None:
        """Notes that a loader handed out an item."""
        self.detector.fetched(item)
        self._capture.pending = True

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """Notes that a forward begins, of the model or of a part that is called directly."""
        self._current, self._thread = None, get_ident()
        memory, spans = storages_of(inputs), spans_of(inputs)
        items = self._loaders.items_in(memory)
        if not training:
            self._capture.pending = True
            self._evaluated = self._evaluated or torch.is_grad_enabled()
            if self._include_eval:
                self._begin_evaluation(items)
            else:
                self.detector.evaluated(items, get_ident())
            return
        self._forwards += 1
        # A look at samples in between, without gradients though in training mode, is no batch.
        with_gradients, frozen = torch.is_grad_enabled(), not self._has_trained_parameters()
        self._learns = self._learns or (with_gradients and not frozen)
        if (frozen or (not with_gradients and self._learns)) and not self._include_eval:
            self._consumed = {}
            self.frames.skip()
            return
        self._end_evaluation()
        last = self.detector.latest
        if last is not None and (
            self._marks.are_freed(last) or (with_gradients and last is self._without_gradients)
        ):
            self.detector.graph_freed(last)
        again = last is not None and any(
            self._loaders.deliveries.handed_out_again(storage) < last.begun
            for storage, _, _ in common_spans(spans, self._inputs[0])
        )
        origin = self._loaders.origin_of(memory)
        role = self.detector.forward(items, get_ident(), again, origin)
        candidate = self.detector.latest
        assert candidate is not None
        self._consumed = candidate.items
        self._capture.pending = False
        if role is ForwardRole.SKIP:
            self.frames.skip()
            return
        self._current = candidate
        self._without_gradients = None if with_gradients else candidate
        if role is ForwardRole.NEW:
            self._inputs = spans, [*memory.values()]
            candidate.attacks = is_made_of_leaves(inputs)
            self._begin_candidate(candidate)
        else:
            self._inputs = self._inputs[0] + spans, [*self._inputs[1], *memory.values()]
            self.frames.join(candidate)

    def forward_ended(self, output: Any) -> None:
        """Notes that the model's own forward has ended."""
        self._capture.pending = True
        if self._evaluation is not None:
            self._end_evaluation()
            return
        if self.root is None or not self._forwards:
            return
        if not self._is_only_model():
            self._loaders.note_output(output, self._consumed, self._loaders.deliveries.clock)
        if self._current is not None:
            self._marks.mark(output, self._current)

    def backward_begins(self, loss: Any, is_others: bool = False) -> None:
        """Notes that a backward pass begins.

        Args:
            loss: The loss, if it is a single number, else None.
            is_others: Whether it is known to go through none of the model's parameters.
        """
        is_traced = self._capture.traced and not is_others
        if is_traced:
            self._adopt_traced()
        self._marks.begin_backward()
        number = None if loss is None or not self.detector.waiting else as_number(loss)
        self._losses[get_ident()] = number
        if is_traced:  # the next forward writes into the same place, reported or not
            self.frames.put_aside()
            self._capture.reset()

    def backward_ended(self) -> None:
        """Notes that the backward pass has ended, or that an optimizer steps within it."""
        waiting = self.detector.waiting
        through = self._marks.passed_through(waiting)
        loss = self._losses.get(get_ident())
        if torch._C._current_graph_task_id() == -1:
            self._marks.end_backward()
            self._losses.pop(get_ident(), None)
        if not waiting:
            self._evaluated_backward = self._evaluated
            return
        if through is None and self._thread != get_ident():
            return  # of another training, beside this one
        self._dropped.clear()
        self.detector.backward(loss, through)
        self._backwards += 1
        for candidate in waiting:
            if candidate.trained and candidate.loss is loss and loss is not None:
                self.frames.log(candidate, loss=loss)
        self._capture.pending = True

    def gradient_taken(self, keeps_graph: bool) -> None:
        """Notes that a gradient by something else than the parameters was asked for.

        Args:
            keeps_graph: Whether a backward pass can still go through the same graph.
        """
        if not keeps_graph:
            for candidate in self._marks.passed_through(self.detector.waiting) or ():
                self.detector.graph_freed(candidate)
        self._marks.end_backward()
        self._capture.pending = True

    def gradients_dropped(self, parameters: set[int]) -> None:
        """Notes that the gradients of some parameters were thrown away."""
        root = self.root
        if root is not None and any(candidate.trained for candidate in self.detector.waiting):
            self._dropped |= parameters
            if all(p.grad is None or id(p) in self._dropped for p in root.parameters()):
                self.detector.gradients_dropped(get_ident())

    def other_stepped(self) -> None:
        """Notes that an optimizer has stepped that has no parameters of the model."""
        self.detector.other_stepped(get_ident())

    def step_begins(self, optimizer: Optimizer) -> None:
        """Notes that an optimizer that owns parameters of the model begins to step."""
        self.detector.step_begins(id(optimizer), get_ident())

    def stepped(self, optimizer: Optimizer) -> None:
        """Notes that an optimizer that owns parameters of the model has stepped."""
        self.frames.learning_rate = optimizer.param_groups[0].get("lr")
        if torch._C._current_graph_task_id() != -1:
            self.backward_ended()
        self.steps_in_evaluation += self._evaluated_backward and not self.detector.waiting
        self._evaluated = self._evaluated_backward = False
        trains = self.detector.sees_backward or may_train(optimizer, False)
        for candidate in self.detector.waiting:
            if self._marks.are_freed(candidate):
                self.detector.graph_freed(candidate)
        self.detector.stepped(id(optimizer), trains, get_ident())
        self._capture.pending = True

    def forward_missed(self, optimizer: Optimizer) -> None:
        """Counts the batch of a step by which the model was found: nobody saw its forward."""
        self.detector.forward((), get_ident())
        candidate = self.detector.latest
        assert candidate is not None
        self.frames.miss(candidate)
        candidate.trained = True
        self.detector.stepped(id(optimizer), thread=get_ident())

    def close(self) -> None:
        """Ends the recording."""
        self._ended_badly = self._capture.phase == BROKEN
        self._end_evaluation()
        self.detector.close()
        if self._forwards and self.steps_in_evaluation and not self._include_eval:
            self._capture.say(
                "not recorded, since the model was in evaluation mode in them: "
                f"{format_count(self.steps_in_evaluation, 'step')} (is model.train() missing? "
                "--include-eval records all forwards)"
            )
        self.recorder.close()

    def closed_recording(self) -> ClosedRecording:
        """Returns what was recorded; to be called after `close`."""
        recorder = self.recorder
        return ClosedRecording(
            self.number,
            self.name,
            self.path,
            recorder.committed,
            recorder.layout,
            recorder.dropped + recorder.lost,
            recorder.why_no_probe,
            list(self.detector.epochs.doubts),
        )

    def why_nothing(self) -> str:
        """Returns why no batch was recorded, in words."""
        if self._ended_badly and not self._backwards:
            return "its forward ended in an exception"
        if not self._forwards:
            return "the model itself was never called in training mode (model.train())"
        if not self._backwards:
            return "no backward pass went through its forwards"
        if self.frames.lost:
            return "no forward that was trained on could be told from the others"
        return "no optimizer stepped behind its backward passes"

    # Candidates

    def _begin_candidate(self, candidate: BatchCandidate) -> None:
        """Has the frame of a new candidate captured."""
        leader = next(iter(candidate.items), None)
        length = None if leader is None or self._include_eval else leader.length
        self.frames.begin(candidate, self._loaders.loaded(candidate.items), length)
        if self._include_eval:
            self.frames.log(candidate, training=1.0)

    def _on_decided(self, candidate: BatchCandidate, position: BatchPosition | None) -> None:
        """Sends or discards the frame of a candidate that the detector has decided."""
        self._marks.forget(candidate)
        self.frames.decide(candidate, position)

    def _has_trained_parameters(self) -> bool:
        """Returns whether any parameter of the model requires a gradient."""
        known = self._trained_parameter()
        if known is not None and known.requires_grad:
            return True
        root = self.root
        found = [] if root is None else [p for p in root.parameters() if p.requires_grad]
        if found:
            self._trained_parameter = weakref.ref(found[0])
        return bool(found)

    def _begin_evaluation(self, items: Sequence[LoaderItem]) -> None:
        """Begins a forward in evaluation mode, which is recorded as a batch like any other."""
        self._end_evaluation()
        self.detector.close()
        self.detector.forward(items, get_ident())
        candidate = self.detector.latest
        assert candidate is not None
        if candidate in self.detector.waiting:
            candidate.trained = True
            self.frames.begin(candidate, None, None)
            self.frames.log(candidate, training=0.0)
            self._evaluation = candidate

    def _end_evaluation(self) -> None:
        """Ends the forward in evaluation mode, if one runs."""
        if self._evaluation is not None:
            self._evaluation = None
            self.detector.close()
            self.detector.latest = None

    def _adopt_traced(self) -> None:
        """Begins a candidate for a compiled forward that nobody saw begin."""
        pending = [candidate for candidate in self.detector.waiting if not candidate.trained]
        if not pending and self._capture.fired:
            self.detector.forward((), get_ident())
            candidate = self.detector.latest
            if (
                candidate is not None
                and candidate in self.detector.waiting
                and not candidate.trained
            ):
                self.frames.adopt(candidate)
                self._inputs, self._thread = ([], []), get_ident()
