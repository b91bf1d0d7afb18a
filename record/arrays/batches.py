"""Batches of a training's data, whatever they come from, and the first image of each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from replay.schema import OptionError


class BatchSource(Protocol):
    """Batches, epoch by epoch.

    Attributes:
        length: How many an epoch has.
    """

    length: int

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches of an epoch."""


class ArrayBatches:
    """Batches of arrays.

    Args:
        arrays: Images, and targets where there are any, of as many rows.
        size: Images of a batch.
        shuffle: Whether their order changes from epoch to epoch, by numpy's own random state.
    """

    def __init__(self, arrays: tuple[Any, ...], size: int, shuffle: bool) -> None:
        self._arrays, self._size, self._shuffle = arrays, size, shuffle
        self.length = -(-len(arrays[0]) // size)

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches of an epoch."""
        count = len(self._arrays[0])
        order = np.random.permutation(count) if self._shuffle else np.arange(count)
        for start in range(0, count, self._size):
            rows = order[start : start + self._size]
            yield tuple(array[rows] for array in self._arrays)


class IndexedBatches:
    """Batches of something that has them by number, a `keras.utils.PyDataset` say.

    Args:
        batches: It.
        length: How many it has.
        shuffle: Whether their order changes from epoch to epoch, by numpy's own random state.
    """

    def __init__(self, batches: Any, length: int, shuffle: bool) -> None:
        self._batches, self.length, self._shuffle = batches, length, shuffle

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches of an epoch."""
        getattr(self._batches, "on_epoch_begin", lambda: None)()
        numbers = np.arange(self.length)
        for number in np.random.permutation(numbers) if self._shuffle else numbers:
            yield self._batches[int(number)]
        getattr(self._batches, "on_epoch_end", lambda: None)()


class IteratedBatches:
    """Batches of something that is gone through anew in each epoch, a DataLoader say.

    Args:
        batches: It.
        length: How many it has.
    """

    def __init__(self, batches: Any, length: int) -> None:
        self._batches, self.length = batches, length

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches of an epoch."""
        return iter(self._batches)


def find_batches(x: Any, y: Any, size: int, shuffle: bool) -> BatchSource:
    """Returns the batches of what a training is given.

    Args:
        x: Images as an array, something with batches by number, or an iterable of batches.
        y: The targets, where `x` is an array; else None.
        size: Images of a batch, where `x` is an array.
        shuffle: Whether images of an array, or batches by number, change their order.

    Raises:
        OptionError: `x` is none of these, or its length is not known.
    """
    if hasattr(x, "shape"):
        if not isinstance(size, int) or size < 1:
            raise OptionError(f"batch_size: expected a whole number from 1, found {size!r}")
        if y is not None and len(y) != len(x):
            raise OptionError(f"y: expected {len(x)} targets, one for each image, found {len(y)}")
        return ArrayBatches((x,) if y is None else (x, y), size, shuffle)
    length = getattr(x, "num_batches", None)
    if not isinstance(length, int):
        try:
            length = len(x)
        except TypeError:
            length = None
    if not length or y is not None:
        raise OptionError(
            "track: expected arrays x and y, or batches whose number is known, found "
            f"{type(x).__name__}{'' if y is None else ' with targets beside it'}"
        )
    if hasattr(x, "__getitem__"):
        return IndexedBatches(x, length, shuffle)
    return IteratedBatches(x, length)


class FirstImages:
    """Hands batches out in its own order, and knows the first image of each in advance.

    A framework may read a batch to build its model, and read it once more; it may read ahead, or
    just when it trains. So batches that were handed out and not trained with are known, and a
    batch is looked at before it is asked for.

    Args:
        source: The batches.
        to_numpy: Returns an array of numpy for one of the framework's.

    Attributes:
        length: How many batches an epoch has.
    """

    def __init__(self, source: BatchSource, to_numpy: Callable[[Any], npt.NDArray[Any]]) -> None:
        self._source, self._to_numpy = source, to_numpy
        self._stream = self._endless()
        self._ahead = deque[Any]()  # batches that were read, and not handed out
        self._untrained = deque[Any]()  # those that were handed out, and not trained with
        self._has_trained = True  # since the last epoch began
        self._lock = threading.Lock()
        self.length = source.length

    def _endless(self) -> Iterator[Any]:
        while True:
            found = False
            for batch in self._source:
                found = True
                yield tuple(batch) if isinstance(batch, list) else batch
            if not found:
                raise OptionError("track: expected batches, found none")

    def begin(self) -> None:
        """Begins an epoch: what was handed out for one without a step was only looked at."""
        with self._lock:
            if not self._has_trained:
                self._ahead.extendleft(reversed(self._untrained))
                self._untrained.clear()
            self._has_trained = False

    def hand_out(self) -> Any:
        """Returns the next batch."""
        with self._lock:
            batch = self._ahead.popleft() if self._ahead else next(self._stream)
            self._untrained.append(batch)
            return batch

    def look(self) -> npt.NDArray[Any]:
        """Returns the first image of the batch that is trained with next."""
        with self._lock:
            if not (self._untrained or self._ahead):
                self._ahead.append(next(self._stream))
            batch = (self._untrained or self._ahead)[0]
        images = batch[0] if isinstance(batch, tuple) else batch
        if isinstance(images, dict):
            images = next(iter(images.values()))
        return np.array(self._to_numpy(images)[0])

    def note_trained(self, count: int) -> None:
        """Notes that so many batches have been trained with."""
        with self._lock:
            self._has_trained = True
            for _ in range(min(count, len(self._untrained))):
                self._untrained.popleft()

    def forget(self) -> None:
        """Begins from the start: with a new epoch of the source."""
        with self._lock:
            self._ahead.clear()
            self._untrained.clear()
            self._stream, self._has_trained = self._endless(), True
