"""Tells the inner models of a meta-learning from other trainings of a script.

These are copies of a model, made for each task, trained for a few batches, and dropped: a recording
of each would be thousands of files that nobody looks at, and a writer process for each.
"""

from __future__ import annotations

import collections
import gc
import weakref
from typing import Any

import torch
from torch import nn

from record.launch.closing_lines import ClosedRecording
from record.reporting import say
from record.watching.ownership import optimized_parameters, parameter_ids

_MOST = 12  # copies in a row that are recorded, however short
_SHORT = 10  # batches that such a copy is trained on, at most


class _Withheld:
    """A model that is not recorded yet, and the steps that it was trained by."""

    def __init__(self, root: nn.Module) -> None:
        self.root, self.parameters, self.steps = weakref.ref(root), parameter_ids(root), 0


class InnerModels:
    """Withholds copies of a model, once many were trained for a few batches each.

    One that is trained for longer is no inner model, and is recorded from then on.
    """

    def __init__(self) -> None:
        self._in_a_row: collections.Counter[str] = collections.Counter()  # short ones, by class
        self._originals: dict[str, weakref.ref[nn.Module]] = {}  # of which there are copies
        self._withheld: list[_Withheld] = []
        self._said: set[str] = set()

    def note_closed(self, recording: ClosedRecording) -> None:
        """Notes for how long a model was trained, whose recording has ended."""
        is_short = 0 < recording.batches <= _SHORT
        self._in_a_row[recording.name] += 1 if is_short else -self._in_a_row[recording.name]

    def withholds(self, root: nn.Module) -> bool:
        """Returns whether a model that is about to be trained is likely an inner one."""
        name = type(root).__name__
        are_known = name in self._said or self._in_a_row[name] >= _MOST
        if not (are_known and self._is_copy(root)):
            return False
        self._withheld = [one for one in self._withheld if one.root() is not None]
        self._withheld.append(_Withheld(root))
        if name not in self._said:
            self._said.add(name)
            say(
                f"{name}: {_MOST} copies of a model were trained, each on {_SHORT} batches or "
                "fewer, like the inner models of meta-learning; from here on those are left out"
            )
        return True

    def grown(self, optimizer: Any) -> tuple[nn.Module, int] | None:
        """Counts a step; returns a model that is no inner one after it, with all its steps."""
        own = optimized_parameters(optimizer) if self._withheld else set()
        for one in self._withheld:
            root = one.root()
            if root is not None and own & one.parameters:
                one.steps += 1
                if one.steps > _SHORT:
                    self._withheld.remove(one)
                    return root, one.steps
        return None

    def _is_copy(self, root: nn.Module) -> bool:
        """Whether another model is alive that is built alike and has the same weights."""
        reference = self._originals.get(type(root).__name__)
        known = None if reference is None else reference()
        others = [] if known is None else [known]
        for other in (*others, *gc.get_objects()):
            if type(other) is type(root) and other is not root and _are_alike(other, root):
                self._originals[type(root).__name__] = weakref.ref(other)
                return True
        return False


def _are_alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have equal weights; vectors tell nothing: they begin as zeros or ones."""
    try:
        ours, theirs = (
            {name: p.detach() for name, p in module.named_parameters() if p.ndim > 1}
            for module in (one, other)
        )
        return ours.keys() == theirs.keys() and all(
            weights.device == theirs[name].device and torch.equal(weights, theirs[name])
            for name, weights in ours.items()
        )
    except Exception:  # weights that have no values yet, or are spread over devices
        return False
