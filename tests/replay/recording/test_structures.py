"""Structures of a file that cannot be what they say, with the checksums that they ought to have.

HDF5 would believe them. What they say is held against the rest before it reads them, so that each
is one line, and names the structure.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.recording.structures import STRUCTURES, lookup3
from replay.schema import DamagedError, FileError, RecordingError, SelectionError

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts" / "bench" / "fuzzing"))

from mutations import Seed

NOWHERE = (1 << 64) - 1
OF_LINKS, OF_ATTRIBUTES, OF_CHUNKS = 5, 8, 10  # kinds of trees
LEAF_RECORDS = 45  # of names, which fill a node


class Image:
    """The bytes of a recording, in which structures are found and changed.

    Its group `maps` has 62 names, which is a tree of two levels, and attributes in a tree, too. Chunks
    are listed in trees; those of `maps/fixed` in a fixed array, of `maps/grows` in a growing one.
    """

    def __init__(self, seed: Seed) -> None:
        self._seed, self.data = seed, bytearray(seed.data)

    def tree(self, kind: int) -> int:
        """Where the head of the first tree of a kind begins."""
        return next(
            match.start()
            for match in re.finditer(b"BTHD", self.data)
            if self.data[match.start() + 5] == kind
        )

    def put(self, at: int, form: str, *values: int) -> None:
        """Writes numbers, of as many bytes as `struct` says."""
        struct.pack_into(f"<{form}", self.data, at, *values)

    def number(self, at: int) -> int:
        """Reads a number of eight bytes."""
        return int(struct.unpack_from("<Q", self.data, at)[0])

    def seal(self) -> bytes:
        """Returns the file with the checksums of what was changed."""
        self._seed.seal(self.data)
        return bytes(self.data)


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Seed:
    path = write_recording(
        tmp_path_factory.mktemp("seed") / "run.h5",
        {"conv1": drifting_maps(2, 4, 4)},
        epochs=1,
        batches=2,
        image=None,
    )
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        maps = file["maps"]
        for name, most in (("fixed", None), ("grows", (None, 2, 2, 4, 4))):
            values = maps["conv1"][...]
            maps.create_dataset(name, data=values, chunks=(1, 1, 2, 4, 4), maxshape=most)
        for number in range(60):
            h5py.h5o.link(maps["conv1"].id, maps.id, b"l%d" % number)
        for number in range(12):
            maps.attrs[f"note{number}"] = number
    return Seed("small", path.read_bytes())


def read(path: Path) -> None:
    with replay.open(path) as run:
        for name in ("conv1", "fixed", "grows"):
            assert run[name][0, 1].tobytes() == drifting_maps(2, 4, 4)(0, 1).tobytes()


def test_the_file_itself_is_sound(seed: Seed, tmp_path: Path) -> None:
    (tmp_path / "run.h5").write_bytes(Image(seed).seal())
    read(tmp_path / "run.h5")


def texts_of_no_size(image: Image) -> None:
    image.put(image.data.index(b"GCOL") + 8, "Q", 8)


def texts_longer_than_the_file(image: Image) -> None:
    image.put(image.data.index(b"GCOL") + 8, "Q", 1 << 40)


def header_longer_than_the_file(image: Image) -> None:
    at = image.data.index(b"OHDR", 100)
    image.data[at + 5] |= 3  # its length has eight bytes
    image.put(at + 6, "Q", 1 << 40)


def one_tree_of_links_and_attributes(image: Image) -> None:
    links, attributes = (struct.pack("<Q", image.tree(k)) for k in (OF_LINKS, OF_ATTRIBUTES))
    at = image.data.index(attributes)
    image.data[at : at + 8] = links


def tree(kind: int, at: int, form: str, *values: int) -> Callable[[Image], None]:
    """A change of the head of a tree."""

    def change(image: Image) -> None:
        image.put(image.tree(kind) + at, form, *values)

    return change


def node_of_another_kind(image: Image) -> None:
    root = image.number(image.tree(OF_LINKS) + 16)
    image.data[root + 5] = OF_ATTRIBUTES


def leaf_of_another_kind(image: Image) -> None:
    root = image.number(image.tree(OF_LINKS) + 16)
    leaf = image.number(root + 6 + 11)  # behind the one name of the root
    assert image.data[leaf : leaf + 4] == b"BTLF"
    image.data[leaf + 5] = OF_ATTRIBUTES


def more_children_than_a_node_holds(image: Image) -> None:
    head = image.tree(OF_LINKS)
    root = image.number(head + 16)
    image.put(head + 24, "H", LEAF_RECORDS)
    image.data[root + 6 : root + 508] = b"\x10" * 502  # names that lie in a block of their own


def leaf_where_a_node_should_be(image: Image) -> None:
    root = image.number(image.tree(OF_LINKS) + 16)
    image.data[root : root + 4] = b"BTLF"


def name_outside_its_heap(image: Image) -> None:
    root = image.number(image.tree(OF_LINKS) + 16)
    image.put(root + 6 + 4 + 1, "I", 1 << 31)  # behind the hash and the kind of the one name


def rest_of_a_header_outside_the_file(image: Image) -> None:
    at = image.data.index(b"\x10\x10\0", image.data.index(b"OHDR", 100))
    image.put(at + 4, "Q", 1 << 40)


def at(signature: bytes, place: int, form: str, *values: int) -> Callable[[Image], None]:
    """A change of the first structure of a signature."""

    def change(image: Image) -> None:
        image.put(image.data.index(signature) + place, form, *values)

    return change


def space_of_fixed(image: Image) -> int:
    """Where the message on the shape of `maps/fixed` begins, behind its head."""
    array = image.data.index(b"FAHD")
    return image.data.rindex(b"OHDR", 0, image.data.index(struct.pack("<Q", array))) + 12


def larger_than_its_most(image: Image) -> None:
    image.put(space_of_fixed(image) + 4, "Q", 1 << 20)


def of_another_rank(image: Image) -> None:
    image.data[space_of_fixed(image) + 1] = 4


REFUSED: list[tuple[str, Callable[[Image], None], bytes]] = [
    ("texts of no size", texts_of_no_size, b"GCOL"),
    ("texts longer than the file", texts_longer_than_the_file, b"GCOL"),
    ("header longer than the file", header_longer_than_the_file, b"OHDR"),
    ("links and attributes in one tree", one_tree_of_links_and_attributes, b"BTHD"),
    ("links in a tree of chunks", tree(OF_LINKS, 5, "B", OF_CHUNKS), b"BTHD"),
    ("records of another size", tree(OF_LINKS, 10, "H", 12), b"BTHD"),
    ("nodes of another size", tree(OF_LINKS, 6, "I", 63), b"BTHD"),
    ("deep", tree(OF_LINKS, 12, "H", 40), b"BTHD"),
    ("more records than a node holds", tree(OF_LINKS, 24, "H", 46), b"BTHD"),
    ("a root outside the file", tree(OF_LINKS, 16, "Q", 1 << 50), b"BTHD"),
    ("nodes split at more than all", tree(OF_LINKS, 14, "B", 101), b"BTHD"),
    ("a root that ends outside the file", tree(OF_CHUNKS, 6, "I", 1 << 16), b"BTHD"),
    ("more records than bytes", tree(OF_CHUNKS, 26, "Q", 1 << 40), b"BTHD"),
    ("no root and two records", tree(OF_CHUNKS, 16, "Q", NOWHERE), b"BTHD"),
    ("another count", tree(OF_CHUNKS, 26, "Q", 1), b"BTHD"),
    ("node of another kind", node_of_another_kind, b"BTHD"),
    ("leaf of another kind", leaf_of_another_kind, b"BTHD"),
    ("more children than a node holds", more_children_than_a_node_holds, b"BTHD"),
    ("leaf where a node should be", leaf_where_a_node_should_be, b"BTHD"),
    ("name outside its heap", name_outside_its_heap, b"BTHD"),
    ("rest of a header outside the file", rest_of_a_header_outside_the_file, b"OHDR"),
    ("names in a heap of no width", at(b"FRHP", 110, "H", 3), b"BTHD"),
    ("heap whose names have other places", at(b"FRHP", 5, "H", 9), b"BTHD"),
    ("array of fewer chunks", at(b"FAHD", 8, "Q", 1), b"FAHD"),
    ("array of chunks outside the file", at(b"FAHD", 16, "Q", 1 << 40), b"FAHD"),
    ("growing array of no pointers", at(b"EAHD", 10, "B", 0), b"EAHD"),
    ("growing array outside the file", at(b"EAHD", 60, "Q", 1 << 40), b"EAHD"),
]


@pytest.mark.parametrize(
    ("change", "signature"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED]
)
def test_it_is_refused_by_its_name(
    seed: Seed, tmp_path: Path, change: Callable[[Image], None], signature: bytes
) -> None:
    image, path = Image(seed), tmp_path / "run.h5"
    change(image)
    path.write_bytes(image.seal())
    with pytest.raises(RecordingError) as found:
        read(path)
    said = str(found.value)
    assert re.search(rf"the {STRUCTURES[signature]} at byte [\d,]+ is damaged", said), said
    assert "\n" not in said


@pytest.mark.parametrize(
    "change",
    [
        *(at(signature, 4, "B", 2) for signature in (b"GCOL", b"FAHD", b"EAHD")),
        larger_than_its_most,
        of_another_rank,
    ],
    ids=["GCOL", "FAHD", "EAHD", "larger than its most", "of another rank"],
)
def test_what_hdf5_itself_refuses_is_left_to_it(
    seed: Seed, tmp_path: Path, change: Callable[[Image], None]
) -> None:
    """Versions that nobody has described, and shapes that cannot be."""
    image, path = Image(seed), tmp_path / "run.h5"
    change(image)
    path.write_bytes(image.seal())
    with pytest.raises((FileError, DamagedError), match=r"cannot (be opened|read from)") as found:
        read(path)
    assert "\n" not in str(found.value)


def test_a_dataset_that_says_it_is_a_group_is_none(seed: Seed, tmp_path: Path) -> None:
    """By a message on links that is too short to be one, where that of its type was."""
    image, path = Image(seed), tmp_path / "run.h5"
    numbers = image.data.index(b"\x03\x0c\0\x01\x10\x08\0\0\x08")  # int64: batches/recorded
    image.data[numbers] = 0x02
    path.write_bytes(image.seal())
    with pytest.raises(SelectionError, match="no epoch 0 in"):
        read(path)


def test_a_tree_without_a_root_has_no_chunks(seed: Seed, tmp_path: Path) -> None:
    image, path = Image(seed), tmp_path / "run.h5"
    head = image.tree(OF_CHUNKS)
    image.put(head + 16, "QHQ", NOWHERE, 0, 0)
    path.write_bytes(image.seal())
    with pytest.raises(DamagedError, match="conv1 maps of epoch 0 batch 1 .*checksum"):
        read(path)


def test_values_that_begin_as_structures_do_are_values(tmp_path: Path) -> None:
    """Each frame is read on its own, so that its first bytes look like a signature."""
    signatures = sorted(STRUCTURES)

    def maps(epoch: int, batch: int) -> np.ndarray:
        frame = drifting_maps(2, 10, 10)(epoch, batch)
        frame.reshape(-1).view("u1")[:5] = list(signatures[batch] + b"\x07")
        return frame

    path = write_recording(
        tmp_path / "run.h5", {"conv1": maps}, epochs=1, batches=len(signatures), image=None
    )
    with replay.open(path) as run:
        for batch in range(len(signatures)):
            assert run["conv1"][0, batch].tobytes() == maps(0, batch).tobytes()


@pytest.mark.parametrize(
    ("text", "checksum"),
    [(b"", 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551)],
    ids=["nothing", "a sentence"],
)
def test_the_checksum_is_that_of_lookup3(text: bytes, checksum: int) -> None:
    """As `driver5` of lookup3.c prints it."""
    assert lookup3(text) == checksum
