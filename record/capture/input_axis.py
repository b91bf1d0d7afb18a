"""Which axis of a model's input counts the images, told from one forward to the next."""

from __future__ import annotations

import torch

from record.capture.batch_axis import WHOLE, BatchSize, choose_axis
from record.capture.phase import CaptureState


class InputAxis:
    """Finds the axis of a model's input that counts the images, from one forward to the next.

    Args:
        state: What all hooks of the recording share.
    """

    def __init__(self, state: CaptureState) -> None:
        self._state = state
        self._axes = state.axes
        self._possible: frozenset[int] | None = None  # axes that all inputs so far allow
        self._usual: torch.Size | None = None  # of all inputs so far; None where they vary
        self._varies = False

    def find(self, tensor: torch.Tensor | None, listed: int, is_inner: bool) -> int:
        """Finds out how many images a forward sees, and notes it in the state.

        Args:
            tensor: The input; None where the model is given nothing that could be one.
            listed: How many images there are in a list, of which the tensor is the first; else 0.
            is_inner: Whether the forward is one within a forward of the model.

        Returns:
            The axis of the input that counts the images, or WHOLE.
        """
        state, seen = self._state, self._state.input
        shape = None if tensor is None or tensor.is_nested else tensor.shape
        if shape is not None and shape == seen.shape and not listed and not is_inner:
            return WHOLE if state.batch.whole else state.batch.axis  # as in the last forward
        seen.shape = shape
        state.unsettle()
        if listed:
            state.batch = BatchSize((listed,))
            return WHOLE
        if shape is None:
            size = state.loaded_size()
            state.batch = BatchSize(() if size is None else (size,))
            return 0
        state.batch, axis = self._find_in(shape, is_inner)
        if 0 in state.batch.sizes[:1] and not is_inner:
            state.say(
                f"a batch without images came, an input of {tuple(shape)}: its frames are missing, "
                "and counted",
                "no images",
            )
        return axis

    def _find_in(self, shape: torch.Size, is_inner: bool) -> tuple[BatchSize, int]:
        """Finds out how many images an input of this shape holds, and which axis counts them."""
        axes = self._axes
        said = axes.said("input")
        if said is not None and said < len(shape):
            return BatchSize((shape[said],), axis=said), said
        is_images = len(shape) >= 4 or axes.batch_first is not False
        if axes.suits_convolution(shape) and is_images:
            return BatchSize((shape[0],)), 0
        size = None if is_inner else self._state.loaded_size()  # an inner one has its own size
        if size is not None and size not in shape[:2]:
            size = None  # of what was loaded, but not of what the model is given
        if size is not None:
            return self._find_by_size(shape, size) or self._find_by_flags(shape)
        if axes.is_one_image(shape):
            return BatchSize(whole=True), WHOLE
        axis = self._smaller_at_the_end(shape)
        if axis is not None:
            self._possible = frozenset((axis,))
        if self._possible is not None and len(self._possible) == 1:
            axis = min(self._possible)
            if 0 <= axis < len(shape):
                return BatchSize((shape[axis],), axis=axis), axis
        return self._find_by_flags(shape)

    def _find_by_size(self, shape: torch.Size, size: int) -> tuple[BatchSize, int] | None:
        """Looks for the axis that is as long as the loader's batch; None where there is none."""
        if len(shape) == 2:  # of numbers, (T, N) as likely as (N, T)
            axis = 0 if shape[0] == size else 1
            if shape[0] != shape[1]:
                self._possible = frozenset((axis,))
            return BatchSize((size,), axis=axis), axis
        choice = choose_axis(shape, BatchSize((size,)), self._axes.batch_first, self._possible)
        self._possible = choice.possible
        if choice.note:
            self._state.say(f"input: {choice.note}; say which with batch_axis", "axis of the input")
        if choice.axis == WHOLE:
            return None
        return BatchSize((size,), axis=choice.axis), choice.axis

    def _find_by_flags(self, shape: torch.Size) -> tuple[BatchSize, int]:
        """Goes by what `batch_first` says in the model, else takes the first axis."""
        axes = self._axes
        if axes.batch_first is False and not axes.suits_convolution(shape):
            note = ""
            if shape[0] != shape[1] and not axes.knows_its_axes:
                note = (
                    "batch axis uncertain: axis 1 of the input was taken, since batch_first is "
                    "False in the model"
                )
                self._state.say(f"input: {note}; say which with batch_axis", "axis of the input")
            return BatchSize((shape[1], shape[0]), axis=1, note=note), 1
        if axes.has_second:
            return BatchSize((shape[0], shape[1])), 0
        return BatchSize((shape[0],)), 0

    def _smaller_at_the_end(self, shape: torch.Size) -> int | None:
        """Returns the axis along which an epoch's last input is smaller: the batch's, or None."""
        usual = self._usual
        if usual is None and not self._varies:
            self._usual = shape
        if usual is None or shape == usual:
            return None
        if not self._state.ends_epoch or len(shape) != len(usual):
            self._usual, self._varies = None, True
            return None
        smaller = [axis for axis, (a, b) in enumerate(zip(shape, usual, strict=True)) if a != b]
        if smaller not in ([0], [1]) or shape[smaller[0]] > usual[smaller[0]]:
            return None
        axis = smaller[0]
        suits_convolution = self._axes.suits_convolution(shape)
        if axis == 1 and not suits_convolution:
            self._state.say(
                "input: the last batch shows that axis 1 counts the images, not axis 0, as was "
                "taken before: the frames recorded so far are not those of the first image",
                "axis of the input",
            )
        return axis if axis == 0 or not suits_convolution else None
