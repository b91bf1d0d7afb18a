"""Which axis of a layer's outputs counts the images, told from one forward to the next."""

from __future__ import annotations

import torch

from record.capture.batch_axis import WHOLE, choose_axis
from record.capture.phase import PROBING, CaptureState
from record.modules.output_axes import OutputAxes


class OutputAxis:
    """Finds the axis that counts the images in what one layer puts out, by sizes.

    Args:
        state: What all hooks of the recording share.
        name: The layer's name.
        batch_first: What the modules around it say; None where none says anything.
    """

    def __init__(self, state: CaptureState, name: str, batch_first: bool | None) -> None:
        self._state, self._name, self._batch_first = state, name, batch_first
        # By what a tensor is called among those that the layer puts out, and its number of axes.
        self._possible: dict[tuple[str, int], frozenset[int]] = {}
        self._taken: dict[tuple[str, int], int] = {}
        self._sizes: dict[tuple[str, int], int] = {}  # of the first batch
        self._folded: set[tuple[str, int]] = set()  # with several rows of each image in axis 0

    def find(
        self, item: str, tensor: torch.Tensor, axes: OutputAxes, is_embedding: bool
    ) -> tuple[int, str]:
        """Returns the axis that is as long as the batch has images, as far as that tells.

        Args:
            item: What the tensor is called among those that the layer puts out.
            tensor: What was put out.
            axes: What the axes of the layer's outputs are.
            is_embedding: Whether the layer is one, whose rows may be positions.

        Returns:
            The axis, or WHOLE, and what a reader has to know of that.
        """
        state, key = self._state, (item, tensor.ndim)
        batch, note = state.batch, ""
        if key in self._folded:
            return 0, ""
        size = batch.sizes[0] if batch.sizes else 0
        varied = self._sizes.get(key, size) != size
        tokens = tensor.ndim == 3 and axes.of_rank(2) == "TC"
        choice = choose_axis(
            tensor.shape, batch, self._batch_first, self._possible.get(key), tokens, varied
        )
        positions = is_embedding and tensor.ndim == 2 and bool(batch.sizes)
        if positions and tensor.shape[0] not in batch.sizes:  # of positions, not of images
            return WHOLE, ""
        if positions and state.input.rank == 2 and size > 1:
            # Of tokens, one number for each image or for each position: as many as images.
            note = "batch axis uncertain: rows may be positions or images, the first was taken"
            state.say(f"{self._name}: {note}; say which with batch_axis", note)
        if state.phase == PROBING:  # which says nothing of the training's batches
            return choice.axis, note
        self._sizes.setdefault(key, size)
        if varied and choice.axis == 0 and tensor.shape[0] != size:
            self._folded.add(key)
        before = self._taken.get(key, choice.axis)
        self._taken[key] = choice.axis
        if len(batch.sizes) == 1 and not batch.whole and choice.axis != WHOLE:
            self._possible[key] = choice.possible
        if choice.unsure:
            state.say(f"{self._name}: {choice.note}; say which with batch_axis", choice.note)
        if before != choice.axis and WHOLE not in (before, choice.axis):
            state.say(
                f"{self._name}: a batch of another size shows that axis {choice.axis} counts its "
                f"images, not axis {before}, as was taken before: the frames recorded so far are "
                "not those of the first image",
                f"axis of {self._name}",
            )
        return choice.axis, choice.note or note
