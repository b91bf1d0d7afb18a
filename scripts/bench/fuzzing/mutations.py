"""The structures of a small HDF5 file, and changes of them that leave their checksums right.

A random change of a file is found by HDF5's checksums, and goes no deeper. Here the superblock,
object headers, B-trees, heaps and chunk indexes are found, their fields changed, and what has a
checksum gets it anew (lookup3, as section III of HDF5's format has it).
"""

from __future__ import annotations

import io
import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from replay.recording import structures
from replay.recording.structures import lookup3

CHECKED = (b"\x89HDF", b"OHDR", b"OCHK", b"BTHD", b"BTIN", b"BTLF", b"FRHP", b"FHIB", b"FHDB")
CHECKED += (
    b"FSHD",
    b"FSSE",
    b"EAHD",
    b"EAIB",
    b"EASB",
    b"EADB",
    b"FAHD",
    b"FADB",
    b"SMTB",
    b"SMLI",
)
UNCHECKED = (b"GCOL", b"TREE", b"SNOD", b"HEAP")  # texts, and what older versions write
_HEAP_BLOCK = b"FHDB"  # whose checksum stands within it, counted as zeros
_HEAP_SUM = 4 + 1 + 8  # where, after the size of its offset
_SIZES = {b"BTHD": 34, b"FRHP": 142, b"FAHD": 24, b"EAHD": 68}  # of one size, to its checksum
_LONGEST = 2500  # bytes of a structure whose checksum is looked for; there are few longer ones
_FLIPPED = (b"\x89HDF", b"GCOL", b"GCOL", b"FRHP", b"FHDB", b"HEAP")
_MESSAGES = range(0x19)  # kinds of messages in an object header
_LONGEST_ROW = 4096  # bytes of values that are changed
_REACH = 600  # bytes behind the signature of what has no checksum and no known end


@dataclass(frozen=True)
class Region:
    """One structure.

    Attributes:
        kind: Its signature.
        start: Its first byte.
        end: The byte behind it.
        checksum: Where its checksum stands; -1 where it has none.
    """

    kind: bytes
    start: int
    end: int
    checksum: int = -1

    def sum(self, data: bytes | bytearray) -> bytes:
        """Returns the checksum that it ought to have."""
        covered = bytearray(data[self.start : self.end])
        at = self.checksum - self.start
        if self.kind == _HEAP_BLOCK:
            covered[at : at + 4] = bytes(4)
        else:
            del covered[at:]
        return lookup3(bytes(covered)).to_bytes(4, "little")


@dataclass
class Seed:
    """A file that is changed.

    Attributes:
        name: Its name.
        data: Its bytes.
        regions: Its structures.
        addresses: Where they begin.
        messages: Where the messages of object headers begin.
        rows: Where values of datasets stand, and of what type they are.
        documents: Where texts in JSON stand, and how long they are.
    """

    name: str
    data: bytes
    regions: list[Region] = field(default_factory=list)
    addresses: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    rows: list[tuple[range, np.dtype[Any]]] = field(default_factory=list)
    documents: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.regions = find_regions(self.data)
        self.addresses = sorted({region.start for region in self.regions})
        self.messages = [at for region in self.regions for at in find_messages(self.data, region)]
        self.rows = list(find_rows(self.data))
        found = re.finditer(rb"\{[\x20-\x7e]*\}", self.data)
        self.documents = [(match.start(), len(match.group())) for match in found]
        self._pointers = [
            at
            for region in self.regions
            for at in range(region.start, min(region.end, len(self.data)) - 8)
            if int.from_bytes(self.data[at : at + 8], "little") in self.addresses[1:]
        ]
        self._by_kind: dict[bytes, list[Region]] = {}
        for region in self.regions:
            self._by_kind.setdefault(region.kind, []).append(region)

    def change(self, rng: random.Random) -> dict[int, bytes]:
        """Returns a change: bytes by the place at which they are to stand."""
        data = bytearray(self.data)
        for _ in range(1 + min(5, int(rng.expovariate(0.9)))):
            rng.choices(_CHANGES, _WEIGHTS)[0](self, data, rng)
        if rng.random() < 0.95:
            self.seal(data)
        return difference(self.data, data)

    def flip(self, rng: random.Random) -> dict[int, bytes]:
        """Returns one flipped bit of the superblock, or of the heaps of texts or names."""
        kinds = [kind for kind in _FLIPPED if kind in self._by_kind]
        region = rng.choice(self._by_kind[rng.choice(kinds)])
        at = rng.randrange(region.start, min(len(self.data), region.end))
        return {at: bytes([self.data[at] ^ 1 << rng.randrange(8)])}

    def seal(self, data: bytearray) -> None:
        """Writes the checksums of all structures that were changed."""
        for region in self.regions:
            where = slice(region.start, region.end)
            if region.checksum >= 0 and data[where] != self.data[where]:
                data[region.checksum : region.checksum + 4] = region.sum(data)

    def pick(self, rng: random.Random) -> Region:
        """Returns a structure: each kind is as likely as any other."""
        return rng.choice(self._by_kind[rng.choice(list(self._by_kind))])

    def pointer(self, rng: random.Random) -> int | None:
        """Returns where an address stands that leads to a structure."""
        return rng.choice(self._pointers) if self._pointers else None


def apply(data: bytes, change: dict[int, bytes]) -> bytes:
    """Returns a file with a change."""
    made = bytearray(data)
    for at, found in change.items():
        made[at : at + len(found)] = found
    return bytes(made)


def difference(before: bytes, after: bytes | bytearray) -> dict[int, bytes]:
    """Returns what has to be written over one file to make another of the same length."""
    found: dict[int, bytes] = {}
    block = 64
    for start in range(0, len(before), block):
        old, new = before[start : start + block], bytes(after[start : start + block])
        if old != new:
            places = [at for at in range(len(old)) if old[at] != new[at]]
            found[start + places[0]] = new[places[0] : places[-1] + 1]
    return found


def find_regions(data: bytes) -> list[Region]:
    """Returns the structures of a file: those with a checksum end where it is right."""
    found = []
    for signature in CHECKED:
        for match in re.finditer(re.escape(signature), data):
            region = _checked(data, signature, match.start())
            if region is not None:
                found.append(region)
    for signature in UNCHECKED:
        for match in re.finditer(re.escape(signature), data):
            start, size = match.start(), _REACH
            if signature == b"GCOL":
                size = int.from_bytes(data[start + 8 : start + 16], "little")
            found.append(Region(signature, start, min(len(data), start + size)))
    return sorted(found, key=lambda region: region.start)


def _checked(data: bytes, signature: bytes, start: int) -> Region | None:
    if signature == _HEAP_BLOCK:
        for wide in (3, 4, 2, 5):
            for size in (512, 1024, 2048, 4096):
                region = Region(signature, start, start + size, start + _HEAP_SUM + wide)
                kept = data[region.checksum : region.checksum + 4]
                if len(data) >= region.end and region.sum(data) == kept:
                    return region
        return None
    for end in _ends(data, signature, start):
        region = Region(signature, start, end + 4, end)
        if region.sum(data) == data[end : end + 4]:
            return region
    return None


def _ends(data: bytes, signature: bytes, start: int) -> list[int]:
    """Returns where the checksum of a structure may stand."""
    if signature == b"\x89HDF":
        return [start + 44]
    if signature == b"OHDR":
        flags = data[start + 5]
        at = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        wide = 1 << (flags & 3)
        return [at + wide + int.from_bytes(data[at : at + wide], "little")]
    if signature in _SIZES:
        return [start + _SIZES[signature]]
    address = struct.pack("<Q", start)
    if signature == b"OCHK":  # the message that leads to it has its length behind the address
        lengths = (
            data[match.end() : match.end() + 8] for match in re.finditer(re.escape(address), data)
        )
        ends = (start + int.from_bytes(length, "little") - 4 for length in lengths)
        return [end for end in ends if start < end <= len(data) - 4]
    if signature == b"EAIB":  # which the head of the array says the numbers of
        head = int.from_bytes(data[start + 6 : start + 14], "little")
        entry, bits, entries, least, pointers = data[head + 6 : head + 11]
        twice = 2 * (pointers.bit_length() - 1)
        places = 2 * (pointers - 1) + 1 + bits - (least.bit_length() - 1) - twice
        return [start + 14 + entries * entry + places * 8]
    if signature == b"BTLF":  # the one leaf of a small tree, or one of many
        for match in re.finditer(rb"BTHD.{12}" + re.escape(address), data, re.DOTALL):
            head = data[match.start() : match.start() + 38]
            size, count = struct.unpack("<H", head[10:12])[0], struct.unpack("<H", head[24:26])[0]
            return [start + 6 + size * count]
    return list(range(start + 8, min(start + _LONGEST, len(data) - 3)))


def find_messages(data: bytes, region: Region) -> list[int]:
    """Returns where the messages of an object header or its continuation begin."""
    if region.kind not in (b"OHDR", b"OCHK"):
        return []
    at, flags = region.start + 4, 0
    if region.kind == b"OHDR":
        flags = data[region.start + 5]
        at += 2 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0) + (1 << (flags & 3))
    found = []
    head = 6 if flags & 4 else 4
    while at + head <= region.checksum:
        found.append(at)
        at += head + int.from_bytes(data[at + 1 : at + 3], "little")
    return found


def find_rows(data: bytes) -> Iterator[tuple[range, np.dtype[Any]]]:
    """Yields where the values of small chunks and of what has none stand, and their type."""
    head = data[: structures.SUPERBLOCK_BYTES]
    if structures.being_written(head):
        head = structures.closed_superblock(head, len(data))
    found: list[h5py.Dataset] = []
    with h5py.File(io.BytesIO(head + data[len(head) :]), "r") as file:
        file.visititems(
            lambda _, node: found.append(node) if isinstance(node, h5py.Dataset) else None
        )
        for dataset in found:
            places = [(dataset.id.get_offset(), dataset.id.get_storage_size())]
            if dataset.chunks:
                chunks = map(dataset.id.get_chunk_info, range(dataset.id.get_num_chunks()))
                places = [(chunk.byte_offset, chunk.size) for chunk in chunks]
            for start, size in places:
                if start is not None and 0 < size <= _LONGEST_ROW:
                    yield range(start, start + size), dataset.dtype


# Changes, each of a file's bytes in place


def _number(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """Another number in a field: small, large, negative, or near what it was."""
    region = seed.pick(rng)
    at = rng.randrange(region.start + 4, max(region.start + 5, region.end - 4))
    _write_number(data, at, rng)


def _write_number(data: bytearray, at: int, rng: random.Random) -> None:
    wide = rng.choice((1, 1, 2, 4, 8))
    old = int.from_bytes(data[at : at + wide], "little")
    top = 1 << 8 * wide
    numbers = (0, 1, 2, 3, 7, 8, 16, 32, 33, 255, top - 1, top - 2, top // 2, top // 2 - 1)
    numbers += (old + 1, old - 1, old * 2, old // 2, old ^ top // 2, rng.randrange(top))
    numbers += (len(data), len(data) - 1, 1 << 20, 1 << 31, 1 << 40, rng.randrange(64))
    _write(data, at, (rng.choice(numbers) % top).to_bytes(wide, "little"))


def _flip(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """One bit of a structure."""
    region = seed.pick(rng)
    data[rng.randrange(region.start, min(len(data), region.end))] ^= 1 << rng.randrange(8)


def _flip_anywhere(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """One bit of the file."""
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _lead_elsewhere(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """An address that leads to another structure, to itself, or nowhere."""
    at = seed.pointer(rng)
    if at is None:
        return
    here = [region.start for region in seed.regions if region.start <= at < region.end]
    elsewhere = (len(data), len(data) - 8, (1 << 64) - 1, 0, 1 << 62, rng.randrange(len(data)))
    target = rng.choice([*rng.choices(seed.addresses, k=6), *here, rng.choice(elsewhere)])
    _write(data, at, struct.pack("<Q", target))


def _message(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """Another kind, size or beginning of a message in an object header."""
    if not seed.messages:
        return
    at = rng.choice(seed.messages)
    where = rng.randrange(4)
    if where == 0:
        data[at] = rng.choice(_MESSAGES)
    elif where == 1:
        size = int.from_bytes(data[at + 1 : at + 3], "little")
        size = rng.choice((0, size + 1, size - 1, size + 8, 65_535, rng.randrange(256))) % 65_536
        _write(data, at + 1, struct.pack("<H", size))
    elif where == 2:
        data[at + 3] = rng.randrange(256)
    else:
        _write_number(data, at + rng.randrange(4, 40), rng)


def _copy(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """A part of one structure over a part of another of its kind, or of any."""
    into = seed.pick(rng)
    same = [region for region in seed.regions if region.kind == into.kind]
    of = rng.choice(same) if rng.random() < 0.7 else seed.pick(rng)
    size = min(rng.choice((2, 4, 8, 16, 32, 64)), into.end - into.start, of.end - of.start)
    start = rng.randrange(of.end - of.start - size + 1)
    at = start if rng.random() < 0.5 else rng.randrange(into.end - into.start - size + 1)
    at = min(at, into.end - into.start - size)
    _write(data, into.start + at, bytes(data[of.start + start : of.start + start + size]))


def _swap_messages(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """A message over another one, in whatever object header."""
    if not seed.messages:
        return
    of, into = rng.choice(seed.messages), rng.choice(seed.messages)
    size = 4 + int.from_bytes(seed.data[of + 1 : of + 3], "little")
    _write(data, into, bytes(data[of : of + size]))


def _text(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """Bytes of a text that no text has."""
    region = seed.pick(rng)
    at = rng.randrange(region.start, min(len(data), region.end))
    _write(data, at, rng.choice((b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[31m", b"/../", b".")))


def _row(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """Another value in a dataset, such as a loss, a frame's number, or a checksum."""
    if not seed.rows:
        return
    places, dtype = rng.choice(seed.rows)
    at = rng.choice(places[:: dtype.itemsize])
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            _write(data, at, np.array(rng.choice(_VALUES)).astype(dtype).tobytes())
    elif rng.random() < 0.3:
        _write(data, at, bytes(dtype.itemsize))
    else:
        _write_number(data, at, rng)


def _document(seed: Seed, data: bytearray, rng: random.Random) -> None:
    """Another JSON document where one stands, as long as that."""
    if seed.documents:
        at, size = rng.choice(seed.documents)
        _write(data, at, rng.choice(_DOCUMENTS)[:size].ljust(size))


def _write(data: bytearray, at: int, value: bytes) -> None:
    value = value[: max(0, len(data) - at)]
    data[at : at + len(value)] = value


_Change = Callable[[Seed, bytearray, random.Random], None]
_CHANGES: tuple[_Change, ...] = (_number, _flip, _flip_anywhere, _lead_elsewhere, _message, _copy)
_CHANGES += (_swap_messages, _text, _row, _document)
_WEIGHTS = (30, 8, 3, 20, 22, 10, 5, 2, 12, 3)
_VALUES = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -1.0, 1e-7, 3e38, 6e4, 1e300)
_DOCUMENTS = (
    *(
        b"",
        b"[]",
        b"null",
        b"1e999",
        b"NaN",
        b'"text"',
        b"[" * 999,
        b'{"a":' * 99,
        b"{",
        b'{"": 0}',
    ),
    *(
        b'{"model": [1]}',
        b'{"classes": 3}',
        b'{"classes": {"0": "a"}}',
        b'{"classes": [1, null, []]}',
    ),
    *(b'{"bits": "8"}', b'{"bits": [8], "filter": {}}', b'{"seed": 1' + b"0" * 400 + b"}"),
    *(b'{"command": {"a": NaN}}', b'{"model": "\\ud800"}', b'{"classes": ["\\u001b[31m"]}'),
)
