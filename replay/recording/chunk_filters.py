"""What a chunk goes through on its way into a file and out of it: shuffled, compressed, and back.

Chunks are read and written past HDF5: it lets one thread at a time work, and expands whatever a
file says. Here a chunk may become as large as its shape says, and no larger.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import pack_options
from replay.recording import plugin_filters
from replay.recording.plugin_filters import PLUGINS, require_plugin
from replay.schema import FileError

GZIP, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
_CODES = {"gzip": GZIP, **{name: code for code, name in PLUGINS.items()}}
FILTERS = {name: _CODES.get(name) for name in pack_options.FILTERS}
"""What a recording can be compressed with, by name."""

_GZIP_LEVEL = 4
_WORTH = 0.97  # of its size: what a chunk must shrink to, or it is kept as it is
_SIZE_KEPT = {SHUFFLE, h5py.h5z.FILTER_FLETCHER32}  # what HDF5 itself may undo: no size changes


@dataclass(frozen=True)
class Pipeline:
    """The filters of a dataset, in the order in which they are applied when it is written.

    Attributes:
        filters: Number and options of each.
        itemsize: Bytes of a value.
    """

    filters: tuple[tuple[int, tuple[int, ...]], ...]
    itemsize: int

    @property
    def compresses(self) -> bool:
        """Whether a chunk in the file may be smaller than in memory."""
        return any(code not in _SIZE_KEPT for code, _ in self.filters)

    def encode(self, array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], int]:
        """Returns a chunk as it goes into the file.

        Args:
            array: The chunk, C-contiguous.

        Returns:
            Its bytes, and the mask of the filters that were left out: all, where they gain nothing.
        """
        raw = data = array.reshape(-1).view(np.uint8)
        for code, given in self.filters:
            if code == SHUFFLE:
                data = _shuffle(data, self.itemsize)
            elif code == GZIP:
                data = np.frombuffer(zlib.compress(data.data, given[0]), np.uint8)
            else:
                data = np.frombuffer(plugin_filters.compress(code, data, given), np.uint8)
        if data.size > _WORTH * raw.size:
            return raw, (1 << len(self.filters)) - 1
        return data, 0

    def decode(self, data: Any, left_out: int, size: int) -> npt.NDArray[np.uint8]:
        """Returns a chunk's bytes as they are in memory.

        Args:
            data: As they are in the file.
            left_out: The mask of the filters that were left out.
            size: Bytes that the chunk's shape means.

        Raises:
            ValueError: It has another size, or is damaged.
        """
        for place in reversed(range(len(self.filters))):
            code, given = self.filters[place]
            if left_out >> place & 1:
                continue
            if code == SHUFFLE:
                data = _unshuffle(data, self.itemsize)
            elif code == GZIP:
                data = _inflate(data, size)
            else:
                data = plugin_filters.expand(code, data, given, size)
        found = np.frombuffer(data, np.uint8)
        if found.size != size:
            raise ValueError(f"a chunk has {found.size:,} bytes; expected {size:,}")
        return found


def read_known_pipeline(dataset: h5py.Dataset, what: str) -> Pipeline | None:
    """Returns a dataset's pipeline, as `read_pipeline` does.

    Raises:
        FileError: A filter is not known.
    """
    pipeline, unknown = read_pipeline(dataset, what)
    if unknown:
        raise FileError(
            f"refused: {what} is compressed with {', '.join(unknown)}, and a recording is not; "
            "'h5repack -f NONE' makes a copy that can be read"
        )
    return pipeline


def read_pipeline(dataset: h5py.Dataset, what: str) -> tuple[Pipeline | None, list[str]]:
    """Returns the filters that have to be undone past HDF5, and the names of unknown ones.

    Args:
        dataset: The dataset.
        what: What to call it in a message.

    Returns:
        None where HDF5 may read the dataset itself.

    Raises:
        FileError: A package is missing.
    """
    properties = dataset.id.get_create_plist()
    found = [properties.get_filter(at) for at in range(properties.get_nfilters())]
    codes = [code for code, *_ in found]
    if set(codes) <= _SIZE_KEPT:
        return None, []
    unknown = [
        f"{name.decode(errors='replace')} ({code})"
        for code, _, _, name in found
        if code not in (GZIP, SHUFFLE, *PLUGINS)
    ]
    if not unknown:
        for code in set(codes) & set(PLUGINS):
            require_plugin(code, f"{what} is compressed with {PLUGINS[code]} and")
    filters = tuple((code, tuple(int(each) for each in given)) for code, _, given, _ in found)
    return Pipeline(filters, dataset.dtype.itemsize), unknown


def add_filters(properties: h5py.h5p.PropDCID, name: str, itemsize: int) -> None:
    """Adds filters to the properties of a dataset that is to be made.

    Args:
        properties: Those of the dataset.
        name: One of `FILTERS`.
        itemsize: Bytes of a value.

    Raises:
        FileError: A package is missing.
    """
    code = FILTERS[name]
    if code is None:
        return
    if itemsize > 1 and code != plugin_filters.BLOSC2:  # which shuffles by itself
        properties.set_shuffle()
    if code == GZIP:
        properties.set_deflate(_GZIP_LEVEL)
    else:
        require_plugin(code, f"the filter {name}")
        given = plugin_filters.plugin_options(code)
        properties.set_filter(code, h5py.h5z.FLAG_MANDATORY, given)


def _inflate(data: Any, size: int) -> bytes:
    inflating = zlib.decompressobj()
    try:
        found: bytes = inflating.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"a chunk cannot be expanded ({error})") from error
    if len(found) > size:
        raise ValueError(f"refused: a chunk expands to more than the {size:,} bytes of its shape")
    return found


def _shuffle(data: npt.NDArray[np.uint8], itemsize: int) -> npt.NDArray[np.uint8]:
    """Returns the first bytes of all values, then their second ones, and so on."""
    if itemsize != 2:
        return np.ascontiguousarray(data.reshape(-1, itemsize).T).reshape(-1)
    values = data.view("<u2")
    planes = np.empty((2, values.size), np.uint8)
    np.copyto(planes[0], values, casting="unsafe")  # which cuts off the upper byte
    np.right_shift(values, 8, out=planes[1], casting="unsafe")
    return planes.reshape(-1)


def _unshuffle(data: Any, itemsize: int) -> npt.NDArray[np.uint8]:
    planes = np.frombuffer(data, np.uint8)
    if planes.size % itemsize:
        raise ValueError(f"a chunk has {planes.size:,} bytes; expected a multiple of {itemsize}")
    planes = planes.reshape(itemsize, -1)
    if itemsize == 2:
        values = planes[1].astype("<u2")
        values <<= 8
        values |= planes[0]
        found: npt.NDArray[np.uint8] = values.view(np.uint8)
        return found
    return np.ascontiguousarray(planes.T).reshape(-1)
