"""What loaders hand out: passes over a loader, their items, and the memory that these lie in.

Nothing here knows torch: a loader, a tensor's memory and a thread are represented by any hashable
value that tells them apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field


@dataclass(eq=False)
class LoaderPass:
    """One pass over a loader.

    Attributes:
        loader: A value that tells the loader from all others.
        length: The number of items in an epoch, if it is known for sure.
        alive: Returns whether the pass can still be asked for its next item.
        begun: When the pass began, in `Deliveries.clock`.
        fetched: The number of items that it has handed out.
        ended: When it was asked for one more item and had none, in `Deliveries.clock`; -1 before.
        used: When one of its items was last trained on, in `Deliveries.clock`; -1 before.
        listed: Whether all its items were handed out before the first was trained on.
        single: Whether it was begun for the sake of one item, judged when that item was consumed;
            None before.
    """

    loader: Hashable
    length: int | None = None
    alive: Callable[[], bool] = lambda: True
    begun: int = 0
    fetched: int = 0
    ended: int = -1
    used: int = -1
    listed: bool = False
    single: bool | None = None

    @property
    def exhausted(self) -> bool:
        """Whether it was asked for one more item and had none."""
        return self.ended >= 0

    @property
    def goes_on(self) -> bool:
        """Whether it can hand out more items."""
        return not self.exhausted and self.alive()

    def round_of(self, index: int) -> int:
        """Returns how often the loader had started over before this item.

        Some loaders begin again by themselves, within one pass.
        """
        return index // self.length if self.length else 0

    def consume(self) -> None:
        """Notes that one of its items is consumed; the first one tells what kind of pass it is."""
        if self.single is None:
            self.listed = self.exhausted and self.fetched > 1
            # `next(iter(loader))`: nobody holds the iterator when its one item is trained on.
            self.single = (
                self.fetched == 1 and self.length != 1 and not self.exhausted and not self.alive()
            )

    @property
    def is_single(self) -> bool:
        """Whether it was begun for the sake of one item, and has handed out only that one."""
        return bool(self.single) and self.fetched == 1


@dataclass(frozen=True, eq=False)
class LoaderItem:
    """What a pass hands out at once, mostly a batch of images and labels.

    Attributes:
        source: The pass that handed it out.
        index: Its number within the pass, from 0.
        time: When it was handed out, in `Deliveries.clock`.
        thread: The thread that asked for it.
    """

    source: LoaderPass
    index: int
    time: int
    thread: Hashable


@dataclass
class Deliveries:
    """Which items were handed out, and in which memory their tensors lie.

    Attributes:
        clock: The present moment; it grows with each item and each candidate.
        training_threads: The threads that made optimizers, or called backward passes.
    """

    clock: int = 0
    training_threads: set[Hashable] = field(default_factory=set)
    _by_memory: dict[Hashable, LoaderItem | None] = field(default_factory=dict)
    _again: dict[Hashable, int] = field(default_factory=dict)  # when it was handed out last

    def tick(self) -> int:
        """Advances the clock and returns the new moment."""
        self.clock += 1
        return self.clock

    def begin(self, source: LoaderPass) -> LoaderPass:
        """Notes that a pass begins, and returns it."""
        source.begun = self.tick()
        return source

    def end(self, source: LoaderPass) -> None:
        """Notes that a pass has no more items."""
        source.ended = self.tick()

    def hand_out(
        self,
        source: LoaderPass,
        memory: Iterable[Hashable],
        thread: Hashable = None,
    ) -> LoaderItem:
        """Notes that a pass hands out an item.

        Args:
            source: The pass.
            memory: The memory of the item's tensors: values that tell it from other memory in use.
            thread: The thread that asked for the item; None means the present one.

        Returns:
            The item.
        """
        item = LoaderItem(source, source.fetched, self.tick(), thread or threading.get_ident())
        source.fetched += 1
        for address in memory:
            # Memory that is handed out twice (views of one tensor) tells no items apart.
            if address in self._by_memory:
                self._by_memory[address], self._again[address] = None, item.time
            else:
                self._by_memory[address] = item
        return item

    def handed_out_again(self, address: Hashable) -> int:
        """Returns when memory was handed out that had been before, in `clock`; -1 for never."""
        return self._again.get(address, -1)

    def forget(self, memory: Iterable[Hashable]) -> None:
        """Forgets memory that is free again and may be another tensor's next."""
        for address in memory:
            self._by_memory.pop(address, None)
            self._again.pop(address, None)

    def find(self, memory: Iterable[Hashable]) -> list[LoaderItem]:
        """Returns the items whose tensors lie in this memory, each once."""
        found: list[LoaderItem] = []
        for address in memory:
            item = self._by_memory.get(address)
            if item is not None and item not in found:
                found.append(item)
        return found
