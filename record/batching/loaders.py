"""The loaders of a script, as `deliveries` knows them: passes, items, where their tensors lie."""

from __future__ import annotations

import collections
import functools
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.utils.data import dataloader

from record.batching.deliveries import Deliveries, Item, Pass
from record.capture.tensors import storages_of

_PRUNE = 256  # places in memory, at least, after which those that are free are forgotten
_MADE = 256  # outputs of models that are remembered


class Loaders:
    """What the loaders of a script handed out, and what its models made of it.

    Attributes:
        deliveries: The same without torch.
        lock: Held while anything of it changes: a thread may fetch while another one trains.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.deliveries = Deliveries()
        self._keys: weakref.WeakKeyDictionary[Any, object] = weakref.WeakKeyDictionary()
        self._last: tuple[Item, Any] | None = None
        self._most = _PRUNE
        self._memory: dict[int, Any] = {}  # weak: an address is not given out again meanwhile
        self._made: collections.OrderedDict[int, tuple[Any, list[Item]]] = collections.OrderedDict()

    def begin(self, loader: Any, iterator: Any) -> None:
        """An iterator begins a pass over a loader."""
        try:
            key = self._keys.setdefault(loader, object())
        except TypeError:  # one that cannot be told from its equals
            key = id(loader)
        token = object()
        alive = functools.partial(_asks, weakref.ref(iterator), token)
        made = self.deliveries.begin(Pass(key, _length(loader), alive))
        iterator._mapreel = made, token

    def fetched(self, iterator: Any, batch: Any) -> Item | None:
        """It gave out a batch."""
        source = _pass_of(iterator)
        if source is None:
            return None
        memory = storages_of(batch)
        self._memory.update(memory)
        item = self.deliveries.hand_out(source, memory)
        self._last = item, batch
        if len(self._memory) > self._most:
            self._prune()
        return item

    def ended(self, iterator: Any) -> None:
        """It was asked for a batch and had none."""
        self._last = None
        source = _pass_of(iterator)
        if source is not None and not source.exhausted:
            self.deliveries.end(source)

    def loaded(self, items: Mapping[Pass, int]) -> Any:
        """The batch that was handed out last, if it is among these; None for any other."""
        if self._last is None:
            return None
        item, batch = self._last
        return batch if items.get(item.source) == item.index else None

    def items_in(self, memory: Mapping[int, Any]) -> list[Item]:
        """The items whose tensors lie there."""
        return self.deliveries.find(memory)

    def put_out(self, output: Any, consumed: Mapping[Pass, int], time: int) -> None:
        """A model has made something of what it consumed."""
        thread = None
        items = [Item(source, index, time, thread) for source, index in consumed.items()]
        for place, reference in storages_of(output).items():
            self._made[place] = reference, items
            self._made.move_to_end(place)
        while len(self._made) > _MADE:
            self._made.popitem(last=False)

    def made_of(self, memory: Iterable[int]) -> Sequence[Item] | None:
        """What was consumed for what lies there; None where no model has put it out."""
        found = [self._made[place] for place in memory if place in self._made]
        return found[0][1] if found else None

    def _prune(self) -> None:
        freed = [place for place, reference in self._memory.items() if reference.expired()]
        self.deliveries.forget(freed)
        for place in freed:
            del self._memory[place]
        self._most = max(_PRUNE, 2 * len(self._memory))


def _pass_of(iterator: Any) -> Pass | None:
    found: tuple[Pass, object] | None = getattr(iterator, "_mapreel", None)
    return None if found is None else found[0]


def _asks(iterator: weakref.ref[Any], token: object) -> bool:
    """Whether an iterator is there, and still at the same pass."""
    alive = iterator()
    return alive is not None and alive._mapreel[1] is token


def _length(loader: Any) -> int | None:
    """Items of an epoch; None where they are not known for sure."""
    if getattr(loader, "_dataset_kind", None) == dataloader._DatasetKind.Iterable:
        return None
    try:
        return len(loader) or None
    except Exception:  # the loader has its own idea of a length, or none
        return None
