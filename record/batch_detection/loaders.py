"""Tracks a script's DataLoaders: their passes and items, and where the items' tensors lie."""

from __future__ import annotations

import collections
import functools
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.utils.data import dataloader

from record.batch_detection.deliveries import Deliveries, LoaderItem, LoaderPass
from record.capture.tensors import storages_of

_PRUNE = 256  # addresses, at least, after which those that are free are forgotten
_MAX_OUTPUTS = 256  # outputs of models that are remembered


class LoaderTracker:
    """What the loaders of a script handed out, and what its models made of it.

    Attributes:
        deliveries: The same without torch.
        lock: Held while anything of it changes: a thread may fetch while another one trains.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.deliveries = Deliveries()
        self._keys: weakref.WeakKeyDictionary[Any, object] = weakref.WeakKeyDictionary()
        self._last: tuple[LoaderItem, Any] | None = None
        self._prune_above = _PRUNE
        # By address; the weak values keep an address from being given out again meanwhile.
        self._storages: dict[int, Any] = {}
        self._outputs: collections.OrderedDict[int, tuple[Any, list[LoaderItem]]]
        self._outputs = collections.OrderedDict()

    def begin(self, loader: Any, iterator: Any) -> None:
        """Notes that an iterator begins a pass over a loader."""
        try:
            key = self._keys.setdefault(loader, object())
        except TypeError:  # one that cannot be told from its equals
            key = id(loader)
        token = object()
        alive = functools.partial(_still_iterates, weakref.ref(iterator), token)
        source = self.deliveries.begin(LoaderPass(key, _epoch_length(loader), alive))
        iterator._mapreel = source, token

    def fetched(self, iterator: Any, batch: Any) -> LoaderItem | None:
        """Notes that an iterator handed out a batch.

        Returns:
            The item; None where nobody saw the iterator begin.
        """
        source = _pass_of(iterator)
        if source is None:
            return None
        memory = storages_of(batch)
        self._storages.update(memory)
        item = self.deliveries.hand_out(source, memory)
        self._last = item, batch
        if len(self._storages) > self._prune_above:
            self._prune()
        return item

    def ended(self, iterator: Any) -> None:
        """Notes that an iterator was asked for a batch and had none."""
        self._last = None
        source = _pass_of(iterator)
        if source is not None and not source.exhausted:
            self.deliveries.end(source)

    def loaded(self, items: Mapping[LoaderPass, int]) -> Any:
        """Returns the batch that was handed out last if it is among these items, else None.

        Args:
            items: The index of each item, by pass.
        """
        if self._last is None:
            return None
        item, batch = self._last
        return batch if items.get(item.source) == item.index else None

    def items_in(self, memory: Mapping[int, Any]) -> list[LoaderItem]:
        """Returns the items whose tensors lie in this memory."""
        return self.deliveries.find(memory)

    def note_output(self, output: Any, consumed: Mapping[LoaderPass, int], time: int) -> None:
        """Notes the output of a model.

        Args:
            output: What the model returned.
            consumed: The index of the item that it consumed for that, by pass.
            time: When that was, in `Deliveries.clock`.
        """
        items = [LoaderItem(source, index, time, None) for source, index in consumed.items()]
        for address, reference in storages_of(output).items():
            self._outputs[address] = reference, items
            self._outputs.move_to_end(address)
        while len(self._outputs) > _MAX_OUTPUTS:
            self._outputs.popitem(last=False)

    def origin_of(self, memory: Iterable[int]) -> Sequence[LoaderItem] | None:
        """Returns the items that a model consumed to make what lies in this memory.

        Returns:
            The items, maybe none; None where no model has put it out.
        """
        found = [self._outputs[address] for address in memory if address in self._outputs]
        return found[0][1] if found else None

    def _prune(self) -> None:
        """Forgets addresses whose memory is free again."""
        freed = [address for address, storage in self._storages.items() if storage.expired()]
        self.deliveries.forget(freed)
        for address in freed:
            del self._storages[address]
        self._prune_above = max(_PRUNE, 2 * len(self._storages))


def _pass_of(iterator: Any) -> LoaderPass | None:
    """Returns the pass that an iterator makes, or None."""
    found: tuple[LoaderPass, object] | None = getattr(iterator, "_mapreel", None)
    return None if found is None else found[0]


def _still_iterates(iterator: weakref.ref[Any], token: object) -> bool:
    """Returns whether an iterator is alive, and still makes the same pass."""
    alive = iterator()
    return alive is not None and alive._mapreel[1] is token


def _epoch_length(loader: Any) -> int | None:
    """Returns the number of items in an epoch; None where it is not known for sure."""
    if getattr(loader, "_dataset_kind", None) == dataloader._DatasetKind.Iterable:
        return None
    try:
        return len(loader) or None
    except Exception:  # the loader has its own idea of a length, or none
        return None
