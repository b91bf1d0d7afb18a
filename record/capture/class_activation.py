"""Class activation: how a layer's maps of the fixed images speak for a class of each.

For each image there is a score: that of its label, or of the class that the network gave it. Its
gradient by the maps of one layer is kept, and the mean of that over the positions: the weights of
Grad-CAM. One forward serves the maps and this, and only what is behind the layer is differentiated,
by these maps alone: no parameter learns of it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from record.capture.activation_layer import ActivationLayer, LayerCall
from record.capture.capture import Capture
from record.capture.class_scores import CannotActivateError, ClassScores
from record.capture.fixed_images import keep_together
from record.capture.gradient_scaling import scale_to_half
from record.capture.phase import is_transformed
from record.capture.slots import OutputSlots
from record.capture.tensors import pool_means
from record.capture.token_order import TokenOrder
from record.capture.undisturbed_backward import anomalies_unseen, undisturbed_backward
from record.modules.names import named_modules
from record.modules.selection import describe_module
from replay.schema import CAM, GRADIENTS
from replay.schema.token_grid import find_grid

OF_LABEL, OF_PREDICTION = "score of the label", "score of the prediction"
_PLAIN_WEIGHTS = (nn.Parameter, torch.Tensor)
_LIFT = 8  # powers of two by which half-precision gradients are kept from vanishing
_PATIENCE = 8  # showings in which a default layer may be looked for


class ActivationFrames:
    """One kind of frames of the layer that class activation is of.

    Args:
        kind: As `schema.Layer.kind`.
        description: The module in one line.
        axes: What the axes of one image's part of the maps are.

    Attributes:
        slots: Where each tensor goes, by the number of the image and by what it is called.
        description: As given.
    """

    def __init__(self, kind: str, description: str, axes: str) -> None:
        self.kind, self.description, self._axes = kind, description, axes
        self.slots: dict[tuple[int | None, str], OutputSlots] = {}

    def axes_of(self, shape: Sequence[int]) -> str:
        """Returns what the axes of maps, or of a weight for each channel, are."""
        return self._axes if len(shape) == len(self._axes) else "C" if len(shape) == 1 else ""


class ClassActivation:
    """Keeps weights and gradients of a layer's maps for each fixed image.

    Args:
        capture: The hooks of the recording, beside whose frames these come.
        layer: The layer's name; None for the last one with positions.

    Attributes:
        reason: Why there is none any more, in words; empty where there is.
        absence: Why there was none at some showing, in words; empty where there always was.
    """

    def __init__(self, capture: Capture, layer: str | None = None) -> None:
        self.reason = self.absence = ""
        self._capture = capture
        self._state = capture.state
        self._layer = ActivationLayer(capture.state, layer)
        self._frames: dict[str, ActivationFrames] = {}
        self._tokens = TokenOrder()
        self._looked = 0  # showings in which no default layer was found

    @property
    def layer(self) -> str | None:
        """The layer's name; None until the default one is known."""
        return self._layer.name

    @contextlib.contextmanager
    def watching(self, root: nn.Module) -> Iterator[None]:
        """Has the layer's maps kept from a forward, and nothing of the script's take part.

        Args:
            root: The model.
        """
        odd = next((p for p in root.parameters() if type(p) not in _PLAIN_WEIGHTS), None)
        if odd is not None:
            self.reason = self.reason or f"its weights are of their own kind ({type(odd).__name__})"
        if self.reason or is_transformed():
            yield
            return
        try:
            with undisturbed_backward(root, self._tokens):
                self._layer.begin(root)
                yield
        finally:
            self._layer.end()

    def take(
        self,
        scores: ClassScores,
        classes: torch.Tensor,
        labels: Sequence[int | None],
        size: Sequence[int],
    ) -> None:
        """Keeps what the scores' gradient by the layer's maps is; after `watching`.

        Args:
            scores: What the model says of the images.
            classes: The class of each whose score counts, whole numbers, (N,).
            labels: Its label, None where that is not what counts.
            size: The images' height and width.
        """
        if self.reason or is_transformed():
            return
        try:
            self._take(scores, classes, labels, size)
        except Exception as error:
            self.give_up(error)
        finally:
            self._layer.forget()

    def give_up(self, error: Exception) -> None:
        """Notes that there is none any more, and why."""
        self._layer.forget()
        text = " ".join(str(error).split())[:160]
        is_said = isinstance(error, CannotActivateError)
        self.reason = text if is_said else f"{type(error).__name__}: {text}"

    def _take(
        self,
        scores: ClassScores,
        classes: torch.Tensor,
        labels: Sequence[int | None],
        size: Sequence[int],
    ) -> None:
        layer = self._layer
        if not layer.calls:
            if layer.name in layer.completed:
                raise CannotActivateError(f"{layer.name} puts out no maps in evaluation mode")
            if layer.name is not None:  # a later exit, a branch: it may run at the next showing
                self.absence = f"{layer.name} did not run in evaluation mode"
            elif not layer.look_further():
                raise CannotActivateError("no layer puts out maps with positions")
            return
        with torch.enable_grad():
            total = scores.scores.gather(1, classes[:, None]).sum()
        if not total.requires_grad:
            if layer.from_start:
                raise CannotActivateError(
                    f"its scores have no gradient by what {layer.calls[-1].name} puts out"
                )
            layer.from_start = True  # from the next time on
            return
        is_half = any(call.tensor.dtype == torch.float16 for call in layer.calls)
        gradients = _gradients(total, layer.calls, _LIFT if is_half else 0)
        if not layer.settle(gradients, scores.classes, scores.of_pixels):
            self._looked += 1
            if not any(call.has_positions(self._state.probes) for call in layer.calls):
                layer.look_further()
            if self._looked >= _PATIENCE:  # weights that are zero at first are not any more
                raise CannotActivateError("its scores have no gradient by any layer's maps")
            return
        for number, call in enumerate(c for c in layer.calls if c.name == layer.name):
            gradient = gradients[layer.calls.index(call)]
            if not call.has_positions(self._state.probes):
                shape = tuple(call.tensor.shape)
                raise CannotActivateError(f"{call.name} puts out no maps, but {shape}")
            if gradient is None:  # it has no part in them, or none that can be followed
                raise CannotActivateError(
                    f"its scores have no gradient by what {call.name} puts out"
                )
            self._keep(call, number, gradient, labels, size, _LIFT if is_half else 0)

    def _keep(
        self,
        call: LayerCall,
        number: int,
        gradient: torch.Tensor,
        labels: Sequence[int | None],
        size: Sequence[int],
        lift: int,
    ) -> None:
        """Keeps the frames of one call of the layer.

        Args:
            call: The call.
            number: Its number in the forward.
            gradient: The gradient by what was put out.
            labels: The label of each image, None where its prediction counts.
            size: The images' height and width.
            lift: The gradient is multiplied by two to the power of this.
        """
        flat = call.by_position(gradient.float())
        grid = None
        if call.axes == "TC" and len(size) == 2:
            places = find_grid(flat.shape[2], None, (size[0], size[1]))
            behind = 0 if places is None else self._tokens.behind.get(flat.shape[2], 0)
            if behind:
                raise CannotActivateError(
                    f"{call.name} puts out tokens whose last {behind} are none of the image's "
                    "(registers, say)"
                )
            if places is not None:  # the class token is nowhere in the image
                flat, grid = flat[:, :, places.prefix :], (places.rows, places.columns)
        pooled, factor = self._pooled(gradient.movedim(call.axis, 0).float(), call.axes)
        for kind, values in ((CAM, flat.mean(2)), (GRADIENTS, pooled)):
            scaled, exponents = scale_to_half(values)
            exponents = exponents - lift
            several = [self._slots(call, kind, image, number) for image in range(len(labels))]
            for slots, label in zip(several, labels, strict=True):
                slots.of, slots.grid = OF_PREDICTION if label is None else OF_LABEL, grid
            if keep_together(several, number, scaled, exponents):
                continue
            for image, slots in enumerate(several):
                slots.keep_scaled(number, scaled[image], exponents[image])
                if kind == GRADIENTS and number in slots.found:
                    slots.pooled[number] = factor
        if call.name in self._capture.layer_names:
            return
        maps, factor = self._pooled(call.tensor.detach().movedim(call.axis, 0), call.axes)
        for image in range(len(labels)):
            self._slots(call, "", image, number).keep(number, maps[image], factor)

    def _slots(self, call: LayerCall, kind: str, image: int, number: int) -> OutputSlots:
        """Returns the slots of one kind of frames of one image, which are made when they come."""
        frames = self._frames.get(kind)
        if frames is None:
            root = self._state.root
            module = None if root is None else named_modules(root).get(call.name)
            description = "" if module is None else describe_module(module)
            frames = self._frames[kind] = ActivationFrames(kind, description, call.axes)
            self._capture.frames.further.append(frames)
        slots = frames.slots.get((image, call.item))
        if slots is None:
            slots = OutputSlots(image, call.name, call.item, kind, bool(kind))
            frames.slots[image, call.item] = slots
            self._state.slots.append(slots)
        slots.calls = number + 1
        return slots

    def _pooled(self, images: torch.Tensor, axes: str) -> tuple[torch.Tensor, int]:
        """Returns all images' parts, pooled like the layer's maps, and by which factor."""
        most = self._state.max_map
        spatial = [place for place, axis in enumerate(axes) if axis in "DHWL"]
        if most is None or not spatial:
            return images, 1
        factor = max(-(-images.shape[1 + place] // most) for place in spatial)
        if factor == 1:
            return images, 1
        return torch.stack([pool_means(image, spatial, factor) for image in images]), factor


def _gradients(
    total: torch.Tensor, calls: Sequence[LayerCall], lift: int
) -> list[torch.Tensor | None]:
    """Returns the gradient of a sum of scores, times a power of two, by what layers have put out.

    Not by a way that anybody watches: for the script there is no gradient here.
    """
    grad = inspect.unwrap(torch.autograd.grad)
    with anomalies_unseen():
        with torch.enable_grad():
            scaled = total * 2.0**lift if lift else total
        found = grad(scaled, [call.tensor for call in calls], allow_unused=True)
    return [None if gradient is None else gradient.detach() for gradient in found]
