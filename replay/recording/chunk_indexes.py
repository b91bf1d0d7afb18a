"""What says where the chunks of a dataset are, looked at before HDF5 follows it.

It makes space for as much as an index declares, and reads beyond its memory where an index has not
as many entries as its dataset has chunks. Sections are those of the HDF5 File Format Specification,
version 3; see `structures`.
"""

from __future__ import annotations

import math

NOWHERE = (1 << 64) - 1  # the address of what is not there

_CHUNKED, _FIXED_ARRAY = 2, 3
_ENTRIES = range(8, 25)  # bytes of a chunk's address, size and filters
_MOST_BITS = 32  # of a number of chunks
_CHILDREN = 64  # of a node of an old tree of chunks


def number(data: bytes, at: int, size: int) -> int:
    """Returns the number in so many bytes from a place on."""
    return int.from_bytes(data[at : at + size], "little")


def is_power(number: int) -> bool:
    """Returns whether a number is a power of two."""
    return number > 0 and not number & (number - 1)


def array_of(space: bytes, layout: bytes) -> tuple[int, int] | None:
    """Returns where the fixed array of a dataset is, and how many entries it is to have.

    Args:
        space: The message on its shape, section IV.A.2.b; empty where it is not known.
        layout: The message on its chunks, section IV.A.2.i, version 4.

    Returns:
        -1 entries where the two messages cannot both be right; None without such an array.
    """
    if len(layout) < 6 or layout[0] not in (4, 5) or layout[1] != _CHUNKED:
        return None
    rank, wide = layout[3] - 1, layout[4]
    at = 5 + layout[3] * wide
    if layout[at : at + 1] != bytes([_FIXED_ARRAY]):
        return None
    address = number(layout, at + 2, 8)
    begin = 4 if space[:1] == b"\2" else 8
    if len(space) < begin + 8 * rank or space[1] != rank:
        return address, -1
    sizes = [number(space, begin + 8 * axis, 8) for axis in range(rank)]
    most = sizes
    if space[2] & 1:
        most = [number(space, begin + 8 * axis, 8) for axis in range(rank, 2 * rank)]
    chunks = [number(layout, 5 + wide * axis, wide) for axis in range(rank)]
    if not all(chunks) or any(size > end for size, end in zip(sizes, most, strict=True)):
        return address, -1
    return address, math.prod(-(-end // step) for end, step in zip(most, chunks, strict=True))


def is_array(data: bytes, size: int, entries: int | None) -> bool:
    """Returns whether the header of a fixed array, section VII.C, may be one.

    Args:
        data: The header.
        size: Bytes of the file, which HDF5 reads all entries from at once.
        entries: How many its dataset needs; None where no dataset has it.
    """
    if data[4]:
        return True  # HDF5 refuses it
    found, place = number(data, 8, 8), number(data, 16, 8)
    fits = place == NOWHERE or place + found * data[6] <= size
    return found == entries and data[6] in _ENTRIES and data[7] <= _MOST_BITS and fits


def is_growing_array(data: bytes, size: int) -> bool:
    """Returns whether the header of an extensible array, section VII.D, may be one.

    Args:
        data: The header, whose numbers say how large the blocks are.
        size: Bytes of the file.
    """
    entry, bits, _, least, pointers, page = data[6:12]
    usual = entry in _ENTRIES and max(bits, page) <= _MOST_BITS
    place = number(data, 60, 8)
    grows = is_power(least) and is_power(pointers) and (place == NOWHERE or place < size)
    return bool(data[4]) or (usual and grows)


def is_old_tree(data: bytes, size: int) -> bool:
    """Returns whether a node of a B-tree of version 1, section III.A.1, may be one.

    A chunk without filters has the size that its key says. A node is read as a whole, with space
    for 64 children, so that its length says how long a key is.

    Args:
        data: The node.
        size: Bytes of the file.
    """
    key, over = divmod(len(data) - 24 - _CHILDREN * 8, _CHILDREN + 1)
    if data[4:6] != b"\1\0" or over or key < 16:  # no leaf of chunks
        return True
    places = range(24, len(data) - key, key + 8)[: number(data, 6, 2)]
    return all(number(data, at, 4) + number(data, at + key, 8) <= size for at in places)
