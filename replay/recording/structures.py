"""Whether structures of an HDF5 file can be what they say, before HDF5 itself follows them.

HDF5 believes a header whose checksum is right, and the texts, which have none: where a size is
zero, a count wrong or a place outside, it reads beyond its memory or goes round for ever. What is
held against the rest here is read seldom, once for each group and dataset. Sections are those of
the HDF5 File Format Specification, version 3.
"""

from __future__ import annotations

from collections.abc import Callable

from replay.recording.chunk_indexes import (
    NOWHERE,
    array_of,
    is_array,
    is_growing_array,
    is_old_tree,
    is_power,
    number,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
STRUCTURES = {
    b"GCOL": "heap of texts",
    b"OHDR": "header of an object",
    b"FRHP": "heap of names",
    b"BTHD": "head of a tree",
    b"FAHD": "head of an array of chunks",
    b"EAHD": "head of a growing array of chunks",
    b"TREE": "tree",
    b"HEAP": "heap of names",
}
"""Signatures of what `StructureCheck` looks at, and what to call it in a message."""

SUPERBLOCK_BYTES = 48  # of version 2 or 3 with addresses of 8 bytes

_VERSION, _OFFSET_BYTES, _FLAGS = 8, 9, 11
_END = slice(28, 36)  # where the file ends, as its writer last said
_CHECKSUM = slice(44, 48)
_OPEN_FOR_WRITING = 0b101  # bit 0: for writing; bit 2: by one writer beside readers

_HEAP_RECORDS = {5: 11, 6: 15, 8: 17, 9: 13}  # of links and attributes by name, by order
_HUGE_RECORDS = {1: 24, 3: 16}  # of what is too large for a heap's blocks
_CHUNK_RECORDS = (10, 11)  # of chunks, without filters and with them
_ID_BYTES = {5: 7, 6: 7, 8: 8, 9: 8}  # of a place in their heap
_HEAP_IDS = {5: 4, 6: 8, 8: 0, 9: 0}  # where such a record has the place in its heap
_ATTRIBUTE_RECORDS = (8, 9)  # which have flags behind that place
_NODE_HEAD, _NODE_CHECKSUM = 6, 4
_MOST_NODE = 1 << 20  # bytes
_DEEPEST = 12  # levels of a tree
_LONGEST_HEADER = 1 << 22  # bytes of one part of an object header
_MOST_PARTS = 1000  # of one object header
# Messages on links and on attributes: bytes of the next number, trees by name and by order.
_OF_NAMES = {0x02: (8, (5, 6)), 0x15: (2, (8, 9))}
_SPACE = 0x01  # the message that says how many values there are
_LAYOUT = 0x08  # the message that says where the values are
_SHARED = 2  # the flag of a message that lies elsewhere
_CONTINUED = 0x10  # the message that says where an object header goes on
_LONGEST_HEAP = 1 << 26  # bytes of texts in one heap
_GAP_BYTES, _LAST_GAP = 16, 1  # in an old heap of names: of a gap at least; behind the last one

Read = Callable[[int, int], bytes]
"""Gives so many bytes from a place on, fewer at the file's end."""


def being_written(head: bytes) -> bool:
    """Returns whether a superblock says that the file is, or was at a crash, open for writing."""
    known = len(head) >= SUPERBLOCK_BYTES and head[_VERSION] == 3 and head[_OFFSET_BYTES] == 8
    return known and bool(head[_FLAGS] & _OPEN_FOR_WRITING)


def end_of_file(head: bytes) -> int:
    """Returns the file's length as its superblock has it; 0 where that is of another version."""
    if len(head) < SUPERBLOCK_BYTES or head[_VERSION] not in (2, 3) or head[_OFFSET_BYTES] != 8:
        return 0
    return int.from_bytes(head[_END], "little")


def is_sound(head: bytes) -> bool:
    """Returns whether a superblock's checksum is right."""
    return lookup3(head[: _CHECKSUM.start]) == int.from_bytes(head[_CHECKSUM], "little")


def closed_superblock(head: bytes, size: int) -> bytes:
    """Returns a superblock as its writer would have left it: closed, and with the file's length."""
    made = bytearray(head)
    made[_FLAGS] = 0
    made[_END] = size.to_bytes(8, "little")
    made[_CHECKSUM] = lookup3(bytes(made[: _CHECKSUM.start])).to_bytes(4, "little")
    return bytes(made)


class StructureCheck:
    """Looks at what HDF5 is about to read.

    Args:
        read: Reads from the file.
        size: Its bytes.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._size = read, size
        self._expected: dict[int, tuple[tuple[int, ...], int]] = {}  # kinds of a tree, its heap
        self._entries: dict[int, int] = {}  # of the array at an address; -1 for none that can be
        self._known = {
            b"GCOL": self._texts,
            b"OHDR": self._header,
            b"FRHP": self._heap,
            b"BTHD": self._tree,
            b"FAHD": self._array,
            b"EAHD": self._growing_array,
            b"TREE": self._old_tree,
            b"HEAP": self._old_heap,
        }

    def __call__(self, at: int, data: memoryview) -> None:
        """Makes sure of one of the structures that are known here.

        Raises:
            OSError: It cannot be what it says.
        """
        if not self._known[bytes(data[:4])](at, bytes(data)):
            raise OSError(f"the {STRUCTURES[bytes(data[:4])]} at byte {at:,} is damaged")

    def _texts(self, at: int, data: bytes) -> bool:
        """Global heap, section III.E: each object leads to the next; nothing vouches for them."""
        if data[:8] != b"GCOL\1\0\0\0":
            return True  # HDF5 refuses it, or these are values
        size = number(data, 8, 8)
        if not 16 <= size <= min(self._size, _LONGEST_HEAP):
            return False
        if len(data) < size:  # HDF5 reads the beginning first
            data += self._read(at + len(data), size - len(data))
        place, end = 16, min(size, len(data))
        while place + 16 <= end:
            taken = number(data, place + 8, 8)
            if number(data, place, 2):  # else it is free space, whose size holds for all of it
                taken = 16 + -(-taken // 8) * 8
            if not 0 < taken <= size - place:
                return False
            place += taken
        return True

    def _header(self, at: int, data: bytes) -> bool:
        """Object header, section IV.A: notes which heap the names in a tree lie in."""
        if len(data) < 16 or data[4] != 2:
            return True
        flags, place = data[5], 6
        place += (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        wide = 1 << (flags & 3)
        end = place + wide + number(data, place, wide)
        if end > min(self._size, _LONGEST_HEADER):
            return False
        if end > len(data):
            data += self._read(at + len(data), end - len(data))
        head = 6 if flags & 4 else 4
        parts, left = [(data, place + wide, end)], _MOST_PARTS
        space = layout = b""
        while parts and left:
            data, place, end = parts.pop()
            left -= 1
            while place + head <= end:
                kind, size = data[place], data[place + 1] | data[place + 2] << 8
                shared = data[place + 3] & _SHARED
                place += head
                if kind in _OF_NAMES:
                    self._note_names(data[place : place + size], *_OF_NAMES[kind])
                elif kind == _SPACE and not shared:
                    space = data[place : place + size]
                elif kind == _LAYOUT:
                    layout = data[place : place + size]
                    self._note_chunks(layout)
                elif kind == _CONTINUED and size >= 16:
                    start, length = number(data, place, 8), number(data, place + 8, 8)
                    if not start + length <= self._size or length > _LONGEST_HEADER:
                        return False
                    parts.append((self._read(start, length), 4, length - 4))
                place += size
        array = array_of(space, layout)
        if array is not None:
            both = self._entries.setdefault(array[0], array[1])
            self._entries[array[0]] = array[1] if both == array[1] else -1
        return left > 0

    def _note_names(self, message: bytes, counted: int, kinds: tuple[int, ...]) -> None:
        """Notes the heap and the trees of a message of section IV.A.2.c or IV.A.2.v."""
        if len(message) < 18:
            return
        place = 2 + (counted if message[1] & 1 else 0)
        heap = number(message, place, 8)
        for at, kind in zip((place + 8, place + 16), kinds, strict=True):
            if len(message) >= at + 8:
                self._expect(number(message, at, 8), (kind,), heap)

    def _note_chunks(self, message: bytes) -> None:
        """Notes the tree of a layout's chunks, section IV.A.2.i, version 4."""
        if len(message) > 5 and message[0] in (4, 5) and message[1] == 2:
            at = 5 + message[3] * message[4]
            if message[at : at + 1] == b"\5":  # a tree
                self._expect(number(message, at + 7, 8), _CHUNK_RECORDS, 0)

    def _expect(self, tree: int, kinds: tuple[int, ...], heap: int) -> None:
        """Notes which kinds a tree may have, and where its names lie: nothing for two at odds."""
        if tree != NOWHERE:
            both = self._expected.setdefault(tree, (kinds, heap))
            if both != (kinds, heap):
                self._expected[tree] = (), heap

    def _heap(self, at: int, data: bytes) -> bool:
        """Fractal heap header, section III.G: where links and attributes of many lie."""
        if len(data) < 146 or data[4]:
            return True
        width, start, largest = number(data, 110, 2), number(data, 112, 8), number(data, 120, 8)
        bits, first, rows = (number(data, place, 2) for place in (128, 130, 140))
        if not (is_power(width) and is_power(start) and is_power(largest)):
            return False
        usual = 1 <= number(data, 5, 2) <= 64 and not number(data, 7, 2)
        grows = width <= 64 and 64 <= start <= largest <= 1 << 24 and bits <= 64
        most = bits - (width * start).bit_length() + 2  # rows, each twice as large as the last
        managed = number(data, 46, 8)
        self._expect(number(data, 22, 8), tuple(_HUGE_RECORDS), 0)
        return (
            usual
            and grows
            and max(1, first, rows) <= most
            and number(data, 10, 4) <= largest
            and managed <= 1 << bits
            and all(self._is_place(number(data, place, 8)) for place in (22, 38, 132))
        )

    def _tree(self, at: int, data: bytes) -> bool:
        """Header of a B-tree of version 2, section III.A.2; of names, all of its nodes."""
        if len(data) < 38 or data[4]:
            return True
        kind, node, record = data[5], number(data, 6, 4), number(data, 10, 2)
        depth, root, count = number(data, 12, 2), number(data, 16, 8), number(data, 24, 2)
        total = number(data, 26, 8)
        kinds, heap_at = self._expected.get(at, (_CHUNK_RECORDS, 0))
        if kind not in kinds:
            return False
        fits = {**_HEAP_RECORDS, **_HUGE_RECORDS}.get(kind)
        if fits != record and not (kind in _CHUNK_RECORDS and 16 <= record <= 8 * 33 + 12):
            return False
        most = (node - _NODE_HEAD - _NODE_CHECKSUM) // record
        if not (64 <= node <= _MOST_NODE and most > 1 and depth <= _DEEPEST and count <= most):
            return False
        if not (self._is_place(root) and data[14] <= 100 and data[15] <= data[14] // 2):
            return False
        if root == NOWHERE:
            return not (count or total or depth)
        if root + node > self._size or total * record > self._size:
            return False
        if kind not in _HEAP_RECORDS:
            return total >= count and (depth > 0 or total == count)
        heap = self._read(heap_at, 146)
        if heap[:4] != b"FRHP" or not self._heap(0, heap) or heap[5] != _ID_BYTES[kind]:
            return False
        shape = _TreeShape(kind, record, node, depth, heap)
        return self._count(shape, root, count, depth, total) == total

    def _count(self, tree: _TreeShape, at: int, count: int, depth: int, most: int) -> int:
        """Returns how many records there are from a node down; -1 where one cannot be right."""
        data = self._read(at, tree.node)
        place = _NODE_HEAD + count * tree.record
        if len(data) < tree.node or data[:4] != (b"BTIN" if depth else b"BTLF") or count > most:
            return -1
        if data[5] != tree.kind:
            return -1
        where = range(_NODE_HEAD + _HEAP_IDS[tree.kind], place, tree.record)
        if not all(tree.is_in_heap(data, each) for each in where):
            return -1
        if tree.kind in _ATTRIBUTE_RECORDS:
            flags = (data[each + _ID_BYTES[tree.kind]] for each in where)
            if any(each & _SHARED for each in flags):  # which HDF5 follows to a table of them
                return -1
        if not depth:
            return count
        wide, of_all = tree.widths(depth)
        found, pointer = count, 8 + wide + of_all
        if place + (count + 1) * pointer + _NODE_CHECKSUM > tree.node:
            return -1
        for each in range(place, place + (count + 1) * pointer, pointer):
            child, inside = number(data, each, 8), number(data, each + 8, wide)
            below = self._count(tree, child, inside, depth - 1, most - found)
            said = number(data, each + 8 + wide, of_all) if of_all else inside
            if below != said:
                return -1
            found += below
        return found

    def _array(self, at: int, data: bytes) -> bool:
        """Fixed array header: as its dataset has it, whose header is read before it."""
        return len(data) < 28 or is_array(data, self._size, self._entries.get(at))

    def _growing_array(self, at: int, data: bytes) -> bool:
        return len(data) < 72 or is_growing_array(data, self._size)

    def _old_tree(self, at: int, data: bytes) -> bool:
        return is_old_tree(data, self._size)

    def _old_heap(self, at: int, data: bytes) -> bool:
        """Local heap, section III.D: its names are read at once, its gaps from one to the next."""
        if len(data) < 32 or data[4]:
            return True
        size, gap, names = (number(data, place, 8) for place in (8, 16, 24))
        if names + size > self._size:
            return False
        left = size // _GAP_BYTES
        while gap != _LAST_GAP and left:
            if gap + _GAP_BYTES > size:
                return False
            gap = number(self._read(names + gap, 8), 0, 8)
            left -= 1
        return gap == _LAST_GAP

    def _is_place(self, address: int) -> bool:
        return address == NOWHERE or address < self._size


class _TreeShape:
    """The sizes in a B-tree of version 2.

    Args:
        kind: Of its records.
        record: Bytes of one.
        node: Bytes of a node.
        depth: Levels above the leaves.
        heap: Header of the heap in which its names lie.
    """

    def __init__(self, kind: int, record: int, node: int, depth: int, heap: bytes) -> None:
        self.kind, self.record, self.node = kind, record, node
        self._reach = number(heap, 46, 8)
        self._offset = -(-number(heap, 128, 2) // 8)  # bytes of a place in the heap
        self._length = number(heap, 5, 2) - 1 - self._offset
        leaf = (node - _NODE_HEAD - _NODE_CHECKSUM) // record
        self._wide = -(-leaf.bit_length() // 8)  # bytes of a child's own count, on every level
        self._of_all = [0]  # bytes of the count of all below a child, by its level
        below = leaf
        for _ in range(depth):
            pointer = 8 + self._wide + self._of_all[-1]
            inner = (node - _NODE_HEAD - _NODE_CHECKSUM - pointer) // (record + pointer)
            below = (inner + 1) * below + inner
            self._of_all.append(-(-below.bit_length() // 8))

    def widths(self, depth: int) -> tuple[int, int]:
        """Returns the bytes of a child's own count, and of all below it, in a node of a level."""
        return self._wide, self._of_all[depth - 1] if depth > 1 else 0

    def is_in_heap(self, data: bytes, at: int) -> bool:
        """Returns whether a place in the heap is one: section III.G, managed or huge objects."""
        kind = data[at] & 0xF0
        if kind == 0x10:
            return True
        offset = number(data, at + 1, self._offset)
        length = number(data, at + 1 + self._offset, max(0, self._length))
        return not kind and self._length > 0 and offset + length <= self._reach


def lookup3(data: bytes) -> int:
    """Returns HDF5's metadata checksum: Bob Jenkins' `hashlittle` (lookup3.c, public domain)."""
    mask = 0xFFFFFFFF

    def turn(value: int, bits: int) -> int:
        return (value << bits | value >> (32 - bits)) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    whole = max(0, (len(data) - 1) // 12)
    numbers = [
        int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "little")
        for at in range(0, 12 * whole + 12, 4)
    ]
    for at in range(0, 3 * whole, 3):
        a, b, c = ((x + y) & mask for x, y in zip((a, b, c), numbers[at : at + 3], strict=True))
        for bits in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & mask) ^ turn(c, bits)
            c = (c + b) & mask
            a, b, c = b, c, a
    if not data:
        return c
    a, b, c = ((x + y) & mask for x, y in zip((a, b, c), numbers[-3:], strict=True))
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - turn(b, bits)) & mask
        a, b, c = b, c, a
    # After seven steps the three have turned by one place: the last one that was made is b.
    return b
