"""Chunks that are read, shuffled and compressed past HDF5, on every core: the same bytes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.recording import chunk_filters, eight_bits, plugin_filters
from replay.recording.live_file import UnclosedFileView
from replay.recording.safe_file import SafeFile
from replay.recording.stored_chunks import StoredChunks

# Of files that were made at different seconds.
same_bytes = pytest.mark.skipif(
    h5py.version.version_tuple[:2] < (3, 12), reason="this h5py writes into a file when it was made"
)
needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("hdf5plugin") is None, reason="hdf5plugin is not installed"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    layers = {"large": drifting_maps(3, 64, 96), "small": drifting_maps(5, 8, 8, seed=1)}
    return write_recording(tmp_path / "run.h5", layers, epochs=2, batches=9)


@needs_plugin
def test_zstandard_called_directly_gives_what_the_plug_in_gives() -> None:
    plugin_filters.require_plugin(plugin_filters.ZSTD, "this test")
    direct = plugin_filters._load_zstd()
    assert direct is not None
    given = plugin_filters.plugin_options(plugin_filters.ZSTD)
    for values in (1, 300, 70_000, 200_000, 5_000):
        data = drifting_maps(1, 1, values)(0, 3).view(np.uint8).reshape(-1)
        small = direct.compress(data, *given)
        assert small == plugin_filters._call(plugin_filters.ZSTD, data, given, 0, 1 << 30)
        there = np.frombuffer(small, np.uint8)
        assert direct.expand(there, data.size).tobytes() == data.tobytes()
        with pytest.raises(ValueError, match="zstd cannot make anything of"):
            direct.expand(there, data.size - 1)
        with pytest.raises(ValueError, match="zstd cannot make anything of"):
            direct.expand(there[: there.size // 2], data.size)


@needs_plugin
def test_a_plug_in_that_keeps_zstandard_to_itself_is_called(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay.pack(path, tmp_path / "a.h5", filter="zstd")
    monkeypatch.setattr(plugin_filters, "_load_zstd", lambda: None)
    replay.pack(path, tmp_path / "b.h5", filter="zstd")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert replay.verify(tmp_path / "a.h5")


@same_bytes
@pytest.mark.parametrize("bits", [16, 8])
def test_where_hdf5_alone_may_read_the_bytes_are_the_same(
    path: Path, tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, alone, again = (tmp_path / f"{name}.h5" for name in ("threads", "alone", "again"))
    replay.pack(path, threads, bits=bits)
    replay.unpack(threads, again)
    monkeypatch.setattr(UnclosedFileView, "serves_threads", False)
    replay.pack(path, alone, bits=bits)
    assert threads.read_bytes() == alone.read_bytes()
    replay.unpack(threads, alone, overwrite=True)
    assert again.read_bytes() == alone.read_bytes()


@same_bytes
@pytest.mark.parametrize("bits", [16, 8])
def test_an_hdf5_that_lists_no_chunks_is_asked_for_each(
    tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before HDF5 1.12.3: the same bytes, also where a frame was never written."""
    maps = drifting_maps(5, 8, 8)
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": maps, "rare": lambda e, b: maps(e, b) if b else None},
        epochs=2,
        batches=9,
    )
    with h5py.File(path, "r+") as file:
        del file["checksums/rare"]  # or it would say which frames there are
    listed, asked = tmp_path / "listed.h5", tmp_path / "asked.h5"
    replay.pack(path, listed, bits=bits)
    monkeypatch.setattr(StoredChunks, "_list", lambda self: False)
    replay.pack(path, asked, bits=bits)
    assert listed.read_bytes() == asked.read_bytes()
    with replay.open(asked) as run:
        assert np.isnan(run["rare"][1, 0]).all()
        assert np.isfinite(run["rare"][1, 1]).all()


def test_bytes_are_shuffled_as_hdf5_does(tmp_path: Path) -> None:
    for kind in ("f2", "f4", "i8"):
        values = np.random.default_rng(0).integers(-999, 999, 50).astype(kind)
        with h5py.File(tmp_path / f"{kind}.h5", "w") as file:
            made = file.create_dataset("x", data=values, chunks=(50,), shuffle=True)
            _, stored = made.id.read_direct_chunk((0,))
        data = values.view(np.uint8)
        ours = chunk_filters._shuffle(data, values.itemsize)
        assert ours.tobytes() == bytes(stored)
        assert chunk_filters._unshuffle(ours, values.itemsize).tobytes() == values.tobytes()


def test_numbers_become_float32_as_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]  # tiny ones and both zeros, too
    expected = finite.astype(np.float32).tobytes()
    assert eight_bits._as_float32(finite).tobytes() == expected
    # A thread that was told to take tiny numbers for zero.
    monkeypatch.setattr(eight_bits, "_LEAST", np.zeros(1, np.float32))
    assert eight_bits._as_float32(finite).tobytes() == expected


def test_a_chunk_larger_than_its_shape_is_left_out_before_memory_is_taken_for_it(
    path: Path, tmp_path: Path
) -> None:
    with h5py.File(path, "r+") as file:
        old = file["maps/small"]
        values = old[...]
        del file["maps/small"]
        new = file.create_dataset(
            "maps/small",
            data=values,
            maxshape=(None, None, *values.shape[2:]),
            chunks=(1, 1, *values.shape[2:]),
            compression="gzip",
        )
        new.id.write_direct_chunk((1, 4, 0, 0, 0), bytes(2 << 20))
    result = replay.pack(path, tmp_path / "small.h5")
    assert result.unreadable == 1
    assert "first maps/small epoch 1 batch 4" in " ".join(result.remarks)
    with SafeFile(path) as file:
        file.frames("maps/small")
        chunks = file.packed.chunks("maps/small")
        assert chunks is not None
        with pytest.raises(ValueError, match="2,097,152 bytes in the file; its shape has 640"):
            chunks.find(1, 4)
