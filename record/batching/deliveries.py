"""What loaders hand out: passes over a loader, their items, and which of them were consumed.

Nothing here knows torch: a loader, a tensor's memory and a thread are whatever tells them apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Hashable, Iterable
from dataclasses import dataclass, field

_MOST = 4096  # items that wait to be consumed; older ones are forgotten


@dataclass(eq=False)
class Pass:
    """One pass over a loader.

    Attributes:
        loader: What tells the loader from others.
        length: Items of one epoch, if that is known for sure.
        alive: Whether somebody can still ask for its next item.
        begun: When it began, in `Deliveries.clock`.
        fetched: Items that it has handed out.
        ended: When it was asked for one more and had none; -1 before.
        used: When one of its items was last trained on, in `Deliveries.clock`.
        listed: Whether all its items were there before the first was trained on.
    """

    loader: Hashable
    length: int | None = None
    alive: Callable[[], bool] = lambda: True
    begun: int = 0
    fetched: int = 0
    ended: int = -1
    used: int = -1
    listed: bool = False
    single: bool | None = None  # see `is_single`

    @property
    def exhausted(self) -> bool:
        """Whether it was asked for one more and had none."""
        return self.ended >= 0

    @property
    def goes_on(self) -> bool:
        """Whether it can hand out more."""
        return not self.exhausted and self.alive()

    def round_of(self, index: int) -> int:
        """How often the loader was through before this item: some begin again by themselves."""
        return index // self.length if self.length else 0

    def consume(self) -> None:
        """An item of it is consumed."""
        if self.single is None:
            self.listed = self.exhausted and self.fetched > 1
            # `next(iter(loader))`: nobody holds the iterator when its one item is trained on.
            self.single = (
                self.fetched == 1 and self.length != 1 and not self.exhausted and not self.alive()
            )

    @property
    def is_single(self) -> bool:
        """Whether it was begun for the sake of one item."""
        return bool(self.single) and self.fetched == 1


@dataclass(frozen=True, eq=False)
class Item:
    """What a pass handed out at once."""

    source: Pass
    index: int
    time: int  # in `Deliveries.clock`
    thread: Hashable


@dataclass
class Deliveries:
    """Which items were handed out, where their tensors lie, and which wait to be consumed.

    Attributes:
        clock: Grows with each item and each capture.
    """

    clock: int = 0
    _by_memory: dict[Hashable, Item | None] = field(default_factory=dict)

    def tick(self) -> int:
        """The next moment."""
        self.clock += 1
        return self.clock

    def begin(self, made: Pass) -> Pass:
        """A pass begins."""
        made.begun = self.tick()
        return made

    def end(self, ended: Pass) -> None:
        """A pass has no more."""
        ended.ended = self.tick()

    def hand_out(
        self,
        source: Pass,
        memory: Iterable[Hashable],
        thread: Hashable = None,
    ) -> Item:
        """A pass hands out an item.

        Args:
            source: The pass.
            memory: What tells the memory of its tensors from all other memory in use.
            thread: Who asked for it.
        """
        item = Item(source, source.fetched, self.tick(), thread or threading.get_ident())
        source.fetched += 1
        for place in memory:
            # Memory that is handed out twice (views of one tensor) tells no items apart.
            self._by_memory[place] = None if place in self._by_memory else item
        return item

    def forget(self, memory: Iterable[Hashable]) -> None:
        """That memory is free and may be another tensor's next."""
        for place in memory:
            self._by_memory.pop(place, None)

    def find(self, memory: Iterable[Hashable]) -> list[Item]:
        """The items that lie there."""
        found = []
        for place in memory:
            item = self._by_memory.get(place)
            if item is not None and item not in found:
                found.append(item)
        return found


class Unconsumed:
    """The items that one model may still consume, in the order in which they were handed out."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._evaluated: set[Hashable] = set()  # loaders

    def add(self, item: Item) -> None:
        """One more was handed out."""
        self._items.append(item)
        if len(self._items) > _MOST:
            del self._items[0]

    def next_for(self, passes: Iterable[Pass], thread: Hashable) -> Item | None:
        """The item that comes next where these passes were consumed before, or none."""
        items = list(self._items)
        passes = list(passes)
        for item in items:
            if item.source in passes and (item.source.goes_on or item.thread != thread):
                return item
        loaders = {source.loader for source in passes}
        mine = [item for item in items if item.source.loader in loaders]
        if not mine:
            others = [
                item
                for item in items
                if item.source.loader not in self._evaluated or (item.source.goes_on and not passes)
            ]
            mine = [item for item in others if item.source.loader == others[-1].source.loader]
        newest = max((item.source.begun for item in mine), default=0)
        for item in mine:
            # What the same thread left of a pass before it began the next was given up.
            if item.thread != thread or item.source.goes_on or item.source.begun == newest:
                return item
        return None

    def beside(self, item: Item, since: int, thread: Hashable) -> list[Item]:
        """Those of other loaders that the same thread asked for at the same time, to go on."""
        found: dict[Hashable, Item] = {item.source.loader: item}
        for one in self._items:
            if one.time > since and one.thread == thread and one.source.goes_on:
                found.setdefault(one.source.loader, one)
        return list(found.values())[1:]

    def consume(self, items: Iterable[Item], thread: Hashable) -> None:
        """These are consumed: of their passes also what came before them.

        What the same thread was given of other loaders was for something else, and has been
        consumed as well; another thread runs ahead.
        """
        upto = {item.source: item.index for item in items}
        loaders = {source.loader for source in upto}
        self._items = [
            item
            for item in self._items
            if (
                item.index > upto[item.source]
                if item.source in upto
                else item.thread != thread and item.source.loader in loaders
            )
        ]

    def remove(self, items: Iterable[Item]) -> None:
        """These were consumed for something else."""
        upto = {item.source: item.index for item in items}
        self._items = [i for i in self._items if i.index > upto.get(i.source, -1)]

    def pass_over(self, keep: Container[Pass], thread: Hashable) -> None:
        """An evaluation whose inputs do not tell goes through the newest pass, unless kept.

        The last item stays: a teacher may look at it before the model is trained on it.
        """
        last = self._items[-1] if self._items else None
        if last is not None and last.thread == thread and last.source not in keep:
            self._items = [i for i in self._items if i.source is not last.source or i is last]
            self._evaluated.add(last.source.loader)
