"""Chunks that are cut off, expand to something else, or stand for values that are damaged."""

from __future__ import annotations

import importlib.util
import os
import re
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay import schema
from replay.files import chunk_writing
from replay.recording import plugin_filters
from replay.recording.plugin_filters import BLOSC2, ZSTD
from replay.recording.safe_file import SafeFile
from replay.recording.structures import lookup3
from replay.schema import DamagedError, FileError
from replay.schema.errors import ShortageError

needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("hdf5plugin") is None, reason="hdf5plugin is not installed"
)
SHAPE = (3, 16, 16)
MAPS = drifting_maps(*SHAPE)
BYTES = 3 * 16 * 16 * 2


def odd_maps(epoch: int, batch: int) -> np.ndarray:
    maps = MAPS(epoch, batch)
    if batch == 1:
        maps[0, 0, 0] = np.nan
    return maps


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A recording whose second batches are not finite."""
    return write_recording(tmp_path / "run.h5", {"conv1": odd_maps}, batches=2, image=None)


@pytest.fixture
def small(path: Path, tmp_path: Path) -> Path:
    """The same in 8 bits, whose second batches are in 16."""
    return replay.pack(path, tmp_path / "small.h5", bits=8).path


def put_chunk(path: Path, data: bytes, **filters: Any) -> None:
    """Writes the maps anew, compressed, and something else for their first frame."""
    with h5py.File(path, "r+") as file:
        values, about = file["maps/conv1"][...], dict(file["maps/conv1"].attrs)
        del file["maps/conv1"]
        made = file.create_dataset("maps/conv1", data=values, chunks=(1, 1, *SHAPE), **filters)
        made.attrs.update(about)
        made.id.write_direct_chunk((0, 0, 0, 0, 0), data)


@pytest.mark.parametrize(
    ("data", "shuffle", "said"),
    [
        (bytes(100), False, "a chunk has 100 bytes; expected 1,536"),
        (bytes(101), True, "a chunk has 101 bytes; expected a multiple of 2"),
        (bytes(100), True, "a chunk has 100 bytes; expected 1,536"),
    ],
)
def test_a_chunk_that_expands_to_less(path: Path, data: bytes, shuffle: bool, said: str) -> None:
    put_chunk(path, zlib.compress(data), compression="gzip", shuffle=shuffle)
    with replay.open(path) as run:
        with pytest.raises(DamagedError, match=f"^conv1 maps of epoch 0 batch 0: .*{said}"):
            run["conv1"][0, 0]
        assert np.array_equal(run["conv1"][1, 0], MAPS(1, 0))


@pytest.mark.parametrize("kept", [0, 700], ids=["gone", "a part"])
@pytest.mark.parametrize("filters", [{}, {"compression": "gzip"}], ids=["raw", "gzip"])
def test_the_last_chunk_of_a_file_that_is_cut_off(
    path: Path, tmp_path: Path, filters: dict[str, Any], kept: int
) -> None:
    """Of a writer that was killed: what lies before the cut is read."""
    shape = (3, 64, 64)
    late = drifting_maps(*shape)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        sums = [[zlib.crc32(late(epoch, batch).tobytes()) for batch in (0, 1)] for epoch in (0, 1)]
        file["checksums/late"] = np.array(sums, "<u4")
        sizes = {"maxshape": (None, None, *shape), "chunks": (1, 1, *shape)}
        made = file.create_dataset("maps/late", (2, 2, *shape), "<f2", **sizes, **filters)
        for cell in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            made[cell] = late(*cell)
        file["state"][3] = 0
        place = made.id.get_chunk_info_by_coord((1, 1, 0, 0, 0))
    image = bytearray(path.read_bytes()[: place.byte_offset + kept])
    image[11] = 0b101  # open for writing
    image[44:48] = lookup3(bytes(image[:44])).to_bytes(4, "little")
    path.write_bytes(image)
    os.utime(path, (0, 0))
    with replay.open(path) as run:
        with pytest.raises(DamagedError, match="late maps of epoch 1 batch 1"):
            run["late"][1, 1]
        np.testing.assert_array_equal(run["late"][1, 0], late(1, 0))
    packed = replay.pack(path, tmp_path / "packed.h5")
    assert (packed.frames, packed.unreadable) == (4, 1)
    assert packed.remarks[-1].endswith("and are missing, first maps/late epoch 1 batch 1")
    with replay.open(packed.path) as run:
        np.testing.assert_array_equal(run["late"][1, 0], late(1, 0))


def test_frames_beside_a_damaged_part_of_their_index_are_copied(tmp_path: Path) -> None:
    """Of 90 frames, which are three leaves of a tree, one of which has another checksum."""
    path = write_recording(tmp_path / "run.h5", {"conv1": MAPS}, batches=45, image=None)
    image = bytearray(path.read_bytes())
    tree = next(m.start() for m in re.finditer(b"BTHD", image) if image[m.start() + 12])
    root = int.from_bytes(image[tree + 16 : tree + 24], "little")
    record, count = (int.from_bytes(image[tree + at : tree + at + 2], "little") for at in (10, 24))
    pointer = root + 6 + record * count + 9 * count  # to the last of its leaves
    leaf = int.from_bytes(image[pointer : pointer + 8], "little")
    assert image[leaf : leaf + 4] == b"BTLF"
    image[leaf + 20] ^= 1
    path.write_bytes(image)
    lost = sorted((p.epoch, p.batch) for p in replay.verify(path).problems)
    assert 10 < len(lost) < 60
    packed = replay.pack(path, tmp_path / "packed.h5")
    assert packed.unreadable == len(lost)
    with replay.open(packed.path) as run:
        for cell in run.frames:
            if cell not in lost:
                np.testing.assert_array_equal(run["conv1"][cell], MAPS(*cell))


def put_whole(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> None:
    """Writes the frames of 16 bits anew."""
    with h5py.File(path, "r+") as file:
        values = file["maps16/conv1"][...]
        del file["maps16/conv1"]
        made = file.create_dataset("maps16/conv1", shape, dtype, chunks=chunks, fillvalue=np.nan)
        common = tuple(slice(min(sizes)) for sizes in zip(shape, values.shape, strict=True))
        for at in np.argwhere(~np.isnan(values).all(axis=(2, 3, 4))):
            if (at < shape[:2]).all():
                made[tuple(at)] = values[tuple(at)][common[2:]]


def test_frames_in_16_bits_of_fewer_epochs(small: Path, tmp_path: Path) -> None:
    put_whole(small, (1, 2, *SHAPE), (1, 1, *SHAPE), "<f2")
    with replay.open(small) as run:
        np.testing.assert_array_equal(run["conv1"][0, 1], odd_maps(0, 1))
        assert np.abs(run["conv1"][1, 0] - MAPS(1, 0)).max() < 0.02
        with pytest.raises(DamagedError):
            run["conv1"][1, 1]
    assert [(p.epoch, p.batch) for p in replay.verify(small).problems] == [(1, 1)]
    raw = replay.unpack(small, tmp_path / "raw.h5")
    with replay.open(raw.path) as run:
        np.testing.assert_array_equal(run["conv1"][0, 1], odd_maps(0, 1))


@pytest.mark.parametrize(
    ("shape", "chunks", "dtype", "said"),
    [
        ((2, 2, 3, 16, 8), (1, 1, 3, 16, 8), "<f2", "does not hold frames like those of 'maps/c"),
        ((2, 2, *SHAPE), (2, 1, *SHAPE), "<f2", "has chunks of .*; expected one a frame"),
    ],
    ids=["another shape", "two in a chunk"],
)
def test_frames_in_16_bits_of_another_kind(
    small: Path, tmp_path: Path, shape: Any, chunks: Any, dtype: str, said: str
) -> None:
    put_whole(small, shape, chunks, dtype)
    with replay.open(small) as run, pytest.raises(DamagedError, match=said):
        run["conv1"][0, 1]
    assert not replay.verify(small)


def test_damaged_ranges_of_frames_in_8_bits(small: Path) -> None:
    with h5py.File(small, "r+") as file:
        ranges = file["ranges/conv1"]
        sums = schema.checksum_cells(ranges[...].reshape(4, *ranges.shape[2:])).reshape(2, 2)
        file[schema.value_checksums_path("ranges/conv1")] = sums
    assert replay.verify(small)
    with h5py.File(small, "r+") as file:
        file["ranges/conv1"][0, 0, 0, 0] -= 1
    with replay.open(small) as run:
        with pytest.raises(DamagedError, match="the ranges that its 8 bits stand for"):
            run["conv1"][0, 0]
        assert np.abs(run["conv1"][1, 0] - MAPS(1, 0)).max() < 0.02
    said = [str(problem) for problem in replay.verify(small).problems]
    assert said
    assert all("epoch 0 batch 0" in each for each in said)


def test_numbers_that_are_not_there_are_said(path: Path) -> None:
    with SafeFile(path) as file, pytest.raises(FileError, match="no numbers in 'batches/other'"):
        file.packed.rows("batches/other", 0, 1)


def test_a_frame_that_shrinks_like_a_bomb_is_kept_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader would refuse so much out of so little."""
    monkeypatch.setattr(chunk_writing, "FREE_BYTES", 1 << 10)
    path = write_recording(
        tmp_path / "run.h5", {"flat": lambda e, b: np.zeros(SHAPE, "f2"), "conv1": MAPS}
    )
    small = replay.pack(path, tmp_path / "small.h5").path
    with h5py.File(small) as file:
        flat, conv1 = (
            file[f"maps/{name}"].id.get_chunk_info_by_coord((0, 0, 0, 0, 0))
            for name in ("flat", "conv1")
        )
    assert (flat.size, flat.filter_mask) == (BYTES, 0b11)
    assert conv1.size < BYTES
    assert replay.verify(small)


def plugin_chunk(path: Path, code: int, data: bytes) -> None:
    """Compresses the maps with a filter of hdf5plugin, and writes something for a frame."""
    name = plugin_filters.PLUGINS[code]
    packed = replay.pack(path, path.with_name("packed.h5"), filter=name).path
    packed.replace(path)
    with h5py.File(path, "r+") as file:
        file["maps/conv1"].id.write_direct_chunk((0, 0, 0, 0, 0), data)


ZSTD_GARBAGE = b"\x28\xb5\x2f\xfd\x60" + (BYTES - 256).to_bytes(2, "little") + b"\xff" * 40


@needs_plugin
@pytest.mark.parametrize("direct", [True, False], ids=["library", "plug-in"])
@pytest.mark.parametrize(
    ("code", "data", "said"),
    [
        (ZSTD, b"?", "its compressed data do not say how much that is"),
        (ZSTD, ZSTD_GARBAGE, "zstd cannot make anything of 47 bytes"),
        (BLOSC2, b"?", "its compressed data do not say how much that is"),
        (BLOSC2, b"\x9e\xa8b2frame\0" + bytes(200), "its compressed data are -1 bytes"),
    ],
    ids=["zstd", "zstd garbage", "blosc2", "blosc2 garbage"],
)
def test_a_chunk_that_a_filter_cannot_expand(
    path: Path, code: int, data: bytes, said: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_chunk(path, code, data)
    if not direct:  # as where the plug-in keeps Zstandard to itself
        monkeypatch.setattr(plugin_filters, "_load_zstd", lambda: None)
    with replay.open(path) as run:
        with pytest.raises(DamagedError, match=said):
            run["conv1"][0, 0]
        np.testing.assert_array_equal(run["conv1"][1, 1], odd_maps(1, 1))


class NoMemory:
    """A library without memory for anything."""

    def __init__(self, library: Any = None) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Callable[..., Any]:
        none: Callable[..., Any] = lambda *_: 0  # noqa: E731
        return none if name in ("malloc", "ZSTD_createDCtx") else getattr(self._library, name)


@needs_plugin
@pytest.mark.parametrize("direct", [True, False], ids=["library", "plug-in"])
def test_a_filter_without_memory_is_no_damage(
    path: Path, tmp_path: Path, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replay.pack(path, tmp_path / "small.h5", filter="zstd").path
    library = plugin_filters._load_zstd()
    if direct and library is not None:
        monkeypatch.setattr(library, "_library", NoMemory(library._library))
        monkeypatch.setattr(library, "_kept", threading.local())
    else:
        function, _ = plugin_filters._load(ZSTD)
        monkeypatch.setattr(plugin_filters, "_load_zstd", lambda: None)
        monkeypatch.setattr(plugin_filters, "_load", lambda code: (function, NoMemory()))
    with replay.open(small) as run, pytest.raises(ShortageError, match="^not enough memory: "):
        run["conv1"][0, 0]


@needs_plugin
def test_a_plug_in_that_is_another_one_is_not_used(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hdf5plugin

    small = replay.pack(path, tmp_path / "small.h5", filter="zstd").path
    plugin_filters._load.cache_clear()
    config = hdf5plugin.get_config()
    config.registered_filters["zstd"] = config.registered_filters["blosc2"]
    monkeypatch.setattr(hdf5plugin, "get_config", lambda: config)
    said = "needs the filter zstd of hdf5plugin, which cannot be used .*another filter, 32026"
    try:
        with pytest.raises(FileError, match=said):
            replay.open(small)
    finally:
        plugin_filters._load.cache_clear()
