"""The training that a loop in words stands for."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from generated.builder import CONVOLUTIONS, Builder
from generated.loops import STRANGE, Loop, Step
from generated.modules import BrokenError, Control, Outer
from generated.plans import Part, Plan

NEIGHBOUR = Plan(parts=(Part("norm"), Part("activation"), Part("conv", 3)))


class Observer(Protocol):
    """What a training tells of itself: as a Recorder has it, and when a forward begins and ends."""

    def track(self, batches: Iterable[Any]) -> Iterable[Any]: ...
    def epoch(self, number: int) -> None: ...
    def step(self) -> None: ...
    def log(self, **values: Any) -> None: ...
    def forward_begins(self, training: bool, image: torch.Tensor) -> None: ...
    def forward_ends(self, whole: bool) -> None: ...
    def backward(self, runs: bool) -> None: ...
    def copied(self, model: nn.Module) -> None: ...
    def replaced(self, old: nn.Module, new: nn.Module) -> None: ...


class AbortError(Exception):
    """Ends an epoch from within its loop."""


class Training:
    """Runs a loop.

    Args:
        plan: The model.
        loop: The loop.
        seed: Of weights, images and dropout.

    Attributes:
        builder: Made the model.
        model: The model.
    """

    def __init__(self, plan: Plan, loop: Loop, seed: int) -> None:
        torch.manual_seed(seed)
        self.plan, self.loop, self.seed = plan, loop, seed
        self.builder = Builder(plan, loop.sizes | {1, 2})  # as many as a probe may have
        self.model = self.builder.model
        self._optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.5)
        self._called = Outer(self.model) if loop.outer else self.model
        self._kept: list[nn.Module] = []
        self._watcher: Any = None
        self.neighbour: Training | None = None
        if loop.neighbour:
            self.neighbour = Training(NEIGHBOUR, Loop(loop.epochs, "neither"), seed)

    def run(self, watcher: Observer, beside: Observer | None = None) -> None:
        """Trains.

        Args:
            watcher: Is told.
            beside: Is told of the neighbour.
        """
        self._watcher = watcher
        if self.neighbour is not None:
            self.neighbour._watcher = beside
        marked = False
        for number, steps in enumerate(self.loop.epochs):
            batches: Any = [
                (self.images(number, place, step.size), self.labels(step.size))
                for place, step in enumerate(steps)
            ]
            if self.loop.marks == "track":
                batches = watcher.track(batches)
            elif self.loop.marks == "epoch":
                watcher.epoch(number)
                marked = True
            try:
                for place, (images, _) in enumerate(batches):
                    step = steps[place]
                    if self.loop.marks == "step" and not marked:
                        # Before the first mark, each training forward counts as a batch.
                        step = Step(step.size, "train", (), (), step.steps)
                        marked = True
                    if self.batch(step, images):
                        break
            except AbortError:
                pass
            self.extra("eval", self.images(number, 99, 2))

    def images(self, epoch: int, batch: int, size: int) -> torch.Tensor:
        """The images of a batch; one alone where the model takes no batches."""
        seed = 7919 * self.seed + 101 * epoch + batch
        generator = torch.Generator().manual_seed(seed)
        shape = (size, *self.plan.shape) if self.plan.batched else self.plan.shape
        if self.plan.style == "bytes":
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        images = torch.randn(shape, generator=generator)
        images = images.to(getattr(torch, self.plan.precision))
        if self.plan.style == "strided":
            images = images.repeat_interleave(2, -1)[..., ::2].mT.contiguous().mT
        return images.requires_grad_() if self.plan.style == "learning" else images

    def labels(self, size: int) -> torch.Tensor:
        """What a loader gives beside the images."""
        return torch.arange(size) if self.plan.batched else torch.tensor(0)

    def batch(self, step: Step, images: torch.Tensor) -> bool:
        """Does what is to be done with one batch; whether the epoch ends with it."""
        kind, marks = step.kind, self.loop.marks in ("step", "epoch")
        if kind == "break":
            return True
        if self.neighbour is not None:
            self.neighbour.batch(Step(), self.neighbour.images(0, len(images), 2))
        for name in step.before:
            # A strange one may be the batch's first forward, so the next has to give the same.
            if name not in STRANGE or (
                kind in ("train", "break_after", "late") and gives_the_same(self.model)
            ):
                self.extra(name, images)
        if kind in ("skip", "skip_marked"):
            if marks and kind == "skip_marked":
                self._watcher.step()
            return False
        Control.trip = kind in ("trip", "trip_marked", "retry")
        output = self.forward(images)
        if output is None and kind == "retry":
            output = self.forward(images)
        if kind == "abort":
            raise AbortError
        if output is None or kind == "late":
            if marks and kind == "trip_marked":
                self._watcher.step()
            return False
        self.learn(output, step.steps)
        for name in step.after:
            self.extra(name, images)
        if marks and kind != "break_after":
            self._watcher.step()
        return kind == "break_after"

    def forward(self, images: torch.Tensor) -> torch.Tensor | None:
        """A forward of the model; None where it broke off."""
        image = (images[0] if self.plan.batched else images).detach().clone()
        if self.plan.style in ("tensor", "keyword"):
            images = images.clone()  # which the model may overwrite
        self._watcher.forward_begins(self.model.training, image)
        try:
            output = self.call(self._called, images)
        except BrokenError:
            self._watcher.forward_ends(False)
            return None
        self._watcher.forward_ends(True)
        return output

    def call(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Gives images to a model, as its plan has it."""
        style = self.plan.style
        with torch.autocast("cpu", torch.bfloat16, enabled=self.loop.autocast):
            if style == "keyword":
                return model(images=images)
            if style == "list":
                return model(list(images.unbind(0)))
            if style == "dict":
                return model({"images": images, "number": len(images)})
            return model(images)

    def learn(self, output: torch.Tensor, steps: bool) -> None:
        """The backward pass, and a step of the optimizer."""
        loss = output.float().square().mean()
        self._watcher.log(loss=loss)
        if loss.requires_grad:
            self.backward(loss)
        if steps:
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()

    def backward(self, loss: torch.Tensor) -> None:
        """The backward pass."""
        self._watcher.backward(True)
        try:
            loss.backward()
        except RuntimeError as error:  # torch's own, of a checkpoint around what does not learn
            if "none of output has requires_grad" not in str(error):
                raise
        finally:
            self._watcher.backward(False)

    def extra(self, name: str, images: torch.Tensor) -> None:
        """Something beside the training.

        Args:
            name: eval, eval_grad, inference: a forward in evaluation mode. dry: one in training
                mode that is not trained on. copy_call, copy_train, copy_eval, copy_keep: what is done with a
                copy. kept: the kept copies are called. pickle: the model is pickled and called.
                switch: evaluation mode and back. trace, func, fx: the model is looked at by torch
                in ways in which its tensors are none; not where each forward counts as a batch.
                parametrize: a weight is computed anew at each access from now on, and remembers
                it. replace: a layer is exchanged for its copy.
            images: A batch.
        """
        model = self.model
        if name == "switch":
            model.eval()
            model.train()
        elif name in ("eval", "eval_grad", "inference"):
            model.eval()
            modes = {"eval": torch.no_grad, "inference": torch.inference_mode}
            with modes.get(name, torch.enable_grad)():
                self.forward(images)
            model.train()
        elif name in STRANGE:
            if self.loop.marks != "neither" and self.plan.style == "tensor":
                look_strangely(name, model, images.clone())
        elif name == "parametrize":
            self.parametrize()
        elif name == "replace":
            self.replace()
        elif name == "dry":
            with torch.no_grad():
                self.forward(images)
        elif name == "pickle":
            if not parametrized(model):  # which torch refuses to pickle
                twin = pickle.loads(pickle.dumps(model))
                self._watcher.copied(twin)
                self.call(twin, images)
        elif name == "kept":
            for twin in self._kept:
                self.call(twin, images)
        else:
            twin = copy.deepcopy(model)
            self._watcher.copied(twin)
            if name == "copy_keep":
                self._kept.append(twin)
            if name == "copy_eval":
                twin.eval()
            output = self.call(twin, images.clone())
            if name == "copy_train" and output.requires_grad:
                self.backward(output.float().square().mean())
                torch.optim.SGD(twin.parameters(), 0.1).step()

    def parametrize(self) -> None:
        """Gives one layer a weight with a state."""
        for module in self.model.modules():
            if type(module) in (*CONVOLUTIONS, nn.Linear) and module.weight.ndim > 1:
                spectral_norm(module)
                return

    def replace(self) -> None:
        """Puts a copy in the place of the first layer, where that is its only place."""
        body = self.model.body
        old = body[0]
        places = [m for _, m in self.model.named_modules(remove_duplicate=False) if m is old]
        if len(places) == 1:
            body[0] = copy.deepcopy(old)
            self._watcher.copied(body[0])
            self._watcher.replaced(old, body[0])


def look_strangely(name: str, model: nn.Module, images: torch.Tensor) -> None:
    """Runs the model with tensors that have no values of their own, or are seen by a tracer."""

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(model, weights, (images,)).float().square().mean()

    # What these cannot do with a model is the same with and without a recorder.
    with contextlib.suppress(RuntimeError, TypeError, ValueError, BrokenError):
        if name == "trace":
            torch.jit.trace(model, images, check_trace=False)(images)
        elif name == "func":
            torch.func.grad(loss)({n: p.detach() for n, p in model.named_parameters()})
        else:
            make_fx(model)(images)


def gives_the_same(model: nn.Module) -> bool:
    """Whether two training forwards of the same images put out the same."""
    chances = [getattr(m, "p", 0.0) or getattr(m, "dropout", 0.0) for m in model.modules()]
    by_chance = any(isinstance(chance, float) and chance > 0 for chance in chances)
    return not by_chance and not parametrized(model)


def parametrized(model: nn.Module) -> bool:
    """Whether any weight is computed anew at each access."""
    return any(is_parametrized(module) for module in model.modules())


def to_bytes(model: nn.Module) -> dict[str, bytes]:
    """Every weight and buffer, to the bit; NaN is equal to NaN."""
    return {
        name: value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        for name, value in model.state_dict().items()
    }
