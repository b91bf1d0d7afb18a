"""The items that loaders handed out and a model has not consumed yet."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable

from record.batch_detection.deliveries import LoaderItem, LoaderPass

_MAX_ITEMS = 4096  # that wait to be consumed; older ones are forgotten


class UnconsumedItems:
    """The items that one model may still consume, in the order in which they were handed out.

    Args:
        training_threads: The threads that train something, to which others may be added.
    """

    def __init__(self, training_threads: Container[Hashable] = ()) -> None:
        self._training_threads = training_threads
        self._items: list[LoaderItem] = []
        self._evaluated: set[Hashable] = set()  # loaders whose passes were for an evaluation

    def add(self, item: LoaderItem) -> None:
        """Adds an item that was just handed out."""
        self._items.append(item)
        if len(self._items) > _MAX_ITEMS:
            del self._items[0]

    def next_for(self, passes: Iterable[LoaderPass], thread: Hashable) -> LoaderItem | None:
        """Returns the item that a forward most likely consumes, or None.

        Args:
            passes: The passes whose items were consumed before.
            thread: The thread of the forward.
        """
        # What another thread asked for that trains itself is for what it trains.
        theirs = self._training_threads
        mine = [one for one in self._items if one.thread == thread or one.thread not in theirs]
        items = mine or list(self._items)
        passes = list(passes)
        for item in items:
            if item.source in passes and (item.source.goes_on or item.thread != thread):
                return item
        loaders = {source.loader for source in passes}
        same_loaders = [item for item in items if item.source.loader in loaders]
        if not same_loaders:
            others = [
                item
                for item in items
                if item.source.loader not in self._evaluated or (item.source.goes_on and not passes)
            ]
            loader = _first_beside(others[-1], others).source.loader if others else None
            same_loaders = [item for item in others if item.source.loader == loader]
        newest = max((item.source.begun for item in same_loaders), default=0)
        for item in same_loaders:
            # What the same thread left of a pass before it began the next was given up.
            if item.thread != thread or item.source.goes_on or item.source.begun == newest:
                return item
        return None

    def companions(self, item: LoaderItem, since: int, thread: Hashable) -> list[LoaderItem]:
        """Returns the items of other loaders that belong to the same batch as an item.

        Args:
            item: The item.
            since: Only items that were handed out after this moment count.
            thread: Only items that this thread asked for count.
        """
        found: dict[Hashable, LoaderItem] = {item.source.loader: item}
        for other in self._items:
            if other.time > since and other.thread == thread and other.source.goes_on:
                found.setdefault(other.source.loader, other)
        return list(found.values())[1:]

    def consume(self, items: Iterable[LoaderItem], thread: Hashable) -> None:
        """Removes items that are consumed, and what came before them in their passes.

        What the same thread was given of other loaders was for something else, and has been
        consumed as well; another thread runs ahead.
        """
        consumed = {item.source: item.index for item in items}
        loaders = {source.loader for source in consumed}
        self._items = [
            item
            for item in self._items
            if (
                item.index > consumed[item.source]
                if item.source in consumed
                else item.thread != thread and item.source.loader in loaders
            )
        ]

    def remove(self, items: Iterable[LoaderItem]) -> None:
        """Removes items that were consumed for something else than this model's training."""
        consumed = {item.source: item.index for item in items}
        self._items = [item for item in self._items if item.index > consumed.get(item.source, -1)]

    def pass_over(self, keep: Container[LoaderPass], thread: Hashable) -> None:
        """Removes the newest pass, which an evaluation goes through whose inputs do not tell.

        The last item stays: a teacher may look at it before the model is trained on it.

        Args:
            keep: Passes that are not removed.
            thread: The thread of the evaluation.
        """
        last = self._items[-1] if self._items else None
        if last is not None and last.thread == thread and last.source not in keep:
            self._items = [
                item for item in self._items if item.source is not last.source or item is last
            ]
            self._evaluated.add(last.source.loader)


def _first_beside(newest: LoaderItem, items: Iterable[LoaderItem]) -> LoaderItem:
    """Returns the first of the items that were handed out side by side with the newest one.

    These are of passes that go on, since its own pass began: of `zip(a, b)`, or of a loop over
    one loader that asks another one for more, it is the first loader's. What was handed out before
    was for something else, a look at some images, say.
    """
    for item in items:
        beside = item.time > newest.source.begun and item.thread == newest.thread
        if beside and item.source.goes_on:
            return item
    return newest
