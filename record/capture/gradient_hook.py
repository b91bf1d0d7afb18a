"""The hook of a layer whose gradients are recorded beside its maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from record.capture.gradients import Gradients
from record.capture.layer_hook import LayerHook
from record.capture.model_hook import ModelHook
from record.capture.phase import PROBING, CaptureState
from record.capture.slots import OutputSlots


class GradientHook(LayerHook):
    """The forward hook of one layer, which waits for the gradient of each map that it has copied.

    Args:
        state: What all hooks of the recording share.
        model_hook: The hook of the model that the layer belongs to.
        name: The layer's name.
        module: The layer.
        gradients: The gradients of the recording.

    Attributes:
        gradients: Those of this layer.
    """

    def __init__(
        self,
        state: CaptureState,
        model_hook: ModelHook,
        name: str,
        module: nn.Module,
        gradients: Gradients,
    ) -> None:
        super().__init__(state, model_hook, name, module)
        self.gradients = gradients.add(self)
        self._axis = 0  # that counted the images in the output that was looked at last

    def _look_for_rerun(self, output: Any) -> None:
        if torch._C._current_graph_task_id() != -1:
            for item, tensor in self._parts(output):  # of checkpointing, which had no graph before
                self.gradients.await_from_rerun(item, tensor)

    def _copy_like_the_last(self, module: nn.Module, output: Any) -> bool:
        if not super()._copy_like_the_last(module, output):
            return False
        main = self.main
        self.gradients.await_from("", main.calls - 1, output, main.axis, 1)
        return True

    def _image(
        self, slots: OutputSlots, module: nn.Module, item: str, tensor: torch.Tensor, whole: bool
    ) -> tuple[torch.Tensor | None, int]:
        image, pooled = super()._image(slots, module, item, tensor, whole)
        if image is not None and slots.probe is None and self._state.phase != PROBING:
            self.gradients.await_from(item, slots.calls, tensor, self._axis, pooled)
        return image, pooled

    def _axis_of(self, module: nn.Module, item: str, tensor: torch.Tensor, whole: bool) -> int:
        self._axis = super()._axis_of(module, item, tensor, whole)
        return self._axis
