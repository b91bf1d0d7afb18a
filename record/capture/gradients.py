"""The gradients of a recording: which layers wait for them, and what becomes of them.

While a batch is trained on, each recorded map waits for its gradient (`map_gradient`). When it
ends, what has come is scaled (`gradient_scaling`) and goes into the slots of a source beside the
layer's maps; what has not come is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from record.capture.backward_pass import BackwardPass, BackwardPasses
from record.capture.gradient_scaling import DeviceGradients
from record.capture.map_gradient import MapGradient
from record.capture.phase import CaptureState
from record.capture.slots import MAX_CALLS, OutputSlots
from record.reporting import listed
from replay import schema


class DescribedLayer(Protocol):
    """A layer that can describe itself, as a `LayerHook` does."""

    @property
    def name(self) -> str:
        """The layer's name."""

    @property
    def description(self) -> str:
        """The module in one line."""

    def axes_of(self, shape: Sequence[int]) -> str:
        """Returns what the axes of one image's part are."""


class LayerGradients:
    """The gradients with respect to what one layer puts out: a `FrameSource`.

    Args:
        gradients: Those of the whole recording.
        layer: The layer.

    Attributes:
        slots: Where they go, by what the map is called among those of the layer.
        passes: What is known of the backward pass that was looked at last.
    """

    def __init__(self, gradients: Gradients, layer: DescribedLayer) -> None:
        self._gradients, self._layer = gradients, layer
        self.passes = gradients.passes
        self.slots: dict[tuple[int | None, str], OutputSlots] = {}
        self._maps: dict[tuple[str, int], MapGradient] = {}

    @property
    def description(self) -> str:
        """The module in one line."""
        return self._layer.description

    def axes_of(self, shape: Sequence[int]) -> str:
        """Returns what the axes of one image's part are."""
        return self._layer.axes_of(shape)

    def current_pass(self) -> BackwardPass:
        """Returns what the backward pass is that runs."""
        return self._gradients.current_pass()

    def failed(self, error: Exception) -> None:
        """Says once that a gradient could not be taken; it is missing."""
        self._gradients.failed(self._layer.name, error)

    def await_from(
        self, item: str, call: int, output: torch.Tensor, axis: int, pooled: int
    ) -> None:
        """Waits for the gradient with respect to a map that was just recorded.

        Args:
            item: What the map is called among those that the layer puts out.
            call: The number of the call in this batch.
            output: What was put out, for the whole batch.
            axis: The axis that counts the images, or WHOLE.
            pooled: How many values along each spatial axis became one of the map.
        """
        if call >= MAX_CALLS:
            return
        try:
            gradient = self._maps.get((item, call))
            if gradient is None:
                gradient = self._add_map(item, call)
            gradient.slots.calls = call + 1
            self._gradients.open[gradient] = None
            gradient.await_from(output, axis, pooled)
        except Exception as error:  # never into the training
            self.failed(error)

    def await_from_rerun(self, item: str, output: torch.Tensor) -> None:
        """Takes a map that checkpointing computes anew within the backward pass.

        Which of several calls that is nobody can say.
        """
        slots = self.slots.get((None, item))
        if slots is not None and slots.calls == 1:
            try:
                self._maps[item, 0].await_from_rerun(output)
            except Exception as error:  # never into the training
                self.failed(error)

    def _add_map(self, item: str, call: int) -> MapGradient:
        slots = self.slots.get((None, item))
        if slots is None:
            slots = OutputSlots(None, self._layer.name, item, kind=schema.GRADIENTS, scaled=True)
            slots.of = "loss"
            self.slots[None, item] = slots
            self._gradients.add_slots(slots)
        made = self._maps[item, call] = MapGradient(self, slots, call)
        return made

    def free(self) -> None:
        """Gives back the memory in which gradients are summed."""
        for gradient in self._maps.values():
            gradient.end()
            gradient.total = None


class Gradients:
    """The gradients of a recording.

    Args:
        state: What all hooks of the recording share.

    Attributes:
        open: The maps of the current batch, whose gradients may come.
        passes: What is known of the backward pass that was looked at last.
    """

    def __init__(self, state: CaptureState) -> None:
        self.open: dict[MapGradient, None] = {}
        self._state = state
        self.passes = BackwardPasses()
        self._layers: list[LayerGradients] = []
        self._on_devices: dict[torch.device, _OnDevice] = {}
        state.on_sealing = self.settle

    def add(self, layer: DescribedLayer) -> LayerGradients:
        """Adds a layer whose gradients are recorded."""
        added = LayerGradients(self, layer)
        self._layers.append(added)
        return added

    def begin(self) -> None:
        """Has it noted from now on what GradScalers multiply losses by."""
        self.passes.scaling.begin()

    def free(self) -> None:
        """Gives back all memory: nothing more is recorded."""
        self.passes.scaling.end()
        self.open.clear()
        self._on_devices.clear()
        for layer in self._layers:
            layer.free()

    def add_slots(self, slots: OutputSlots) -> None:
        """Adds slots to those of the recording."""
        self._state.slots.append(slots)

    def current_pass(self) -> BackwardPass:
        """Returns what the backward pass is that runs."""
        return self.passes.current(self._state.thread)

    def failed(self, layer: str, error: Exception) -> None:
        """Says once for each layer that a gradient could not be taken; it is missing."""
        reason = " ".join(str(error).split())[:200]
        self._state.say(
            f"the gradients of {layer} are not recorded: {type(error).__name__}: {reason}",
            f"gradients of {layer}",
        )

    def settle(self) -> None:
        """Ends a batch: puts what has come into its slots; what comes later belongs to none."""
        if self._settle_as_usual():
            return
        # A batch that was given up has left maps here, whose calls are forgotten.
        awaited = [one for one in self.open if one.call < one.slots.calls]
        whole = [one for one in awaited if one.is_whole]
        if any(one.has_come and not one.is_by_grad for one in awaited):
            whole = [one for one in whole if not one.is_by_grad]
        self._say_what_is_missing(awaited, whole)
        try:
            self._keep(whole)
        except Exception as error:  # never into the training
            for one in whole:
                one.slots.in_slots, whole = 0, []
                one.slots.found.clear()
            self.failed("this batch", error)
        for one in awaited:
            if one not in whole:
                one.slots.give_up(one.call)
        for one in self.open:
            one.end()
        self.open.clear()

    def _settle_as_usual(self) -> bool:
        """Ends a batch of a usual training, whose gradients have all come, in few steps.

        Returns:
            Whether it is such a one: where not, the batch has not ended.
        """
        awaited = list(self.open)
        for one in awaited:
            if not one.is_taken or one.call >= one.slots.calls:
                return False
        try:
            for one in awaited:
                one.put()
        except Exception:  # which is said where it happens again
            return False
        for one in awaited:
            one.end()
        self.open.clear()
        return bool(awaited)

    def _keep(self, whole: Sequence[MapGradient]) -> None:
        """Scales what has come and copies it into its slots."""
        by_device: dict[torch.device, list[MapGradient]] = {}
        for one in whole:
            assert one.total is not None
            if one.total.device.type != "cpu":
                by_device.setdefault(one.total.device, []).append(one)
                continue
            _keep(one, one.total, torch.tensor(one.scale(), device="cpu"))
        for device, ones in by_device.items():
            together = self._on_devices.setdefault(device, _OnDevice(device))
            for one, scaled, number in together.scaled(ones):
                _keep(one, scaled, number)

    def _say_what_is_missing(
        self, awaited: Sequence[MapGradient], whole: Sequence[MapGradient]
    ) -> None:
        """Says, once for each reason, which gradients are missing and why."""
        state = self._state
        for one in awaited if state.training else ():
            if one.never:
                layer = one.slots.layer
                state.say(
                    f"gradients of {layer} are not recorded, its maps are: it puts out {one.never}",
                    f"gradients of {layer}",
                )
        awaited = [one for one in awaited if not (one.has_failed or one.never)]
        if state.traced and not awaited:
            state.say(
                "gradients are not recorded, maps are: the model is compiled, and nothing can be "
                "asked of the backward pass of a compiled graph",
                "gradients: compiled",
            )
        if len(whole) == len(awaited) or not state.training:
            return
        if not any(one.is_awaited for one in awaited):
            state.say(
                "a forward has no gradients: nothing that is recorded of it requires any (frozen, "
                "or under no_grad)",
                "gradients: none required",
            )
        elif not any(one.has_come for one in awaited):
            state.say(
                "a batch has no gradients: no backward pass came through its forward before it "
                "ended",
                "gradients: no backward",
            )
        else:
            names = listed(list(dict.fromkeys(o.slots.layer for o in awaited if o not in whole)))
            state.say(
                f"some batches have no gradients of {names}: what they put out"
                " requires none, was changed in place as a view or computed twice by "
                "checkpointing, or the loss does not depend on it",
                "gradients: some",
            )


class _OnDevice:
    """The gradients that are on one GPU, side by side in its memory.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._all: dict[MapGradient, int] = {}
        self._memory = DeviceGradients((), device)

    def scaled(
        self, ones: Sequence[MapGradient]
    ) -> Iterator[tuple[MapGradient, torch.Tensor, torch.Tensor]]:
        """Yields gradients with what they have come to, scaled, and its exponent."""
        if any(self._place(one) is None for one in ones):
            self._gather(ones)
        frames, exponents = self._memory.scaled()
        for one in ones:
            place = self._all[one]
            yield one, frames[place], exponents[place]

    def _place(self, one: MapGradient) -> int | None:
        """Returns the place of a gradient that is summed in this memory; None of another."""
        place = self._all.get(one)
        return place if place is not None and self._memory.frames[place] is one.total else None

    def _gather(self, ones: Sequence[MapGradient]) -> None:
        """Takes memory in which all gradients have room, those that have come now among them."""
        known = [one for one in dict.fromkeys((*self._all, *ones)) if one.total is not None]
        totals = [one.total for one in known if one.total is not None]
        self._memory = DeviceGradients([tuple(total.shape) for total in totals], self._device)
        self._all = {one: place for place, one in enumerate(known)}
        for one, frame, total in zip(known, self._memory.frames, totals, strict=True):
            frame.copy_(total)
            one.total = frame


def _keep(one: MapGradient, scaled: torch.Tensor, exponent: torch.Tensor) -> None:
    """Copies a scaled gradient and its exponent into their slots."""
    one.slots.keep_scaled(one.call, scaled, exponent)
    if one.call in one.slots.found:
        one.slots.pooled[one.call] = one.pooled
