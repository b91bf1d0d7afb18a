"""Recordings that other programs wrote anew, `h5repack` say: other chunks, other filters, gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay

MAPS = drifting_maps(3, 16, 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": MAPS, "late": drifting_maps(2, 4, 4)},
        epochs=3,
        batches=5,
        recorded=lambda e, b: e != 1,
        image=(3, 8, 8),
        fields={"label": lambda e, b: b},
    )


def anew(
    file: h5py.File,
    path: str,
    chunks: Any = None,
    shape: tuple[int, ...] | None = None,
    **filters: Any,
) -> h5py.Dataset:
    """Writes a dataset anew; what it holds nowhere is not written now either.

    Args:
        file: The file.
        path: The dataset.
        chunks: Of the new one; as before by default.
        shape: Of the new one; what is beyond it is left out.
        filters: As h5py takes them.
    """
    old = file[path]
    about, values, fill = dict(old.attrs), old[...], old.fillvalue
    maxshape = old.maxshape if (chunks or old.chunks) else None
    chunks = chunks or old.chunks
    del file[path]
    made = file.create_dataset(
        path,
        shape or values.shape,
        values.dtype,
        maxshape=maxshape,
        chunks=chunks,
        fillvalue=fill,
        **filters,
    )
    made.attrs.update(about)
    for at in np.ndindex(made.shape[:2]):
        value = values[at]
        kept = ~np.isnan(value) if np.isnan(fill) else value != fill
        if np.any(kept):
            made[at] = value
    return made


def every(file: h5py.File) -> list[str]:
    """The datasets by epoch and batch."""
    found: list[str] = []
    file.visit(
        lambda name: (
            found.append(name)
            if isinstance(file[name], h5py.Dataset) and file[name].ndim >= 2
            else None
        )
    )
    return found


def facts(path: Path) -> dict[str, Any]:
    """All that a reader is given of a recording."""
    with replay.open(path) as run:
        found: dict[str, Any] = {name: run.batches[name] for name in run.batches}
        for name in run.layers:
            found[f"{name} ranges"] = run[name].ranges()
            found[f"{name} part"] = run[name].ranges(range(2, 3), range(1, 4))
            for cell in run.frames:
                found[f"{name} {cell}"] = run[name][cell]
        for cell in run.frames:
            found[f"input {cell}"] = run.inputs[cell]
    return found


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize(
    "filters",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True, "fletcher32": False},
        {"fletcher32": True},
        {"shuffle": True},
    ],
    ids=lambda filters: " ".join(filters),
)
def test_other_filters_and_chunks_give_the_same(
    path: Path, tmp_path: Path, filters: dict[str, Any]
) -> None:
    before = facts(path)
    with h5py.File(path, "r+") as file:
        for name in every(file):
            small = file[name].ndim == 2
            anew(file, name, (2, 3) if small else None, **filters)
    assert_same(facts(path), before)
    assert replay.verify(path)
    packed = replay.pack(path, tmp_path / "small.h5")
    assert_same(facts(packed.path), before)
    repaired = replay.repair(path, tmp_path / "fixed.h5")
    assert not repaired.left_out


@pytest.mark.parametrize("filters", [{}, {"compression": "gzip"}], ids=["raw", "gzip"])
@pytest.mark.parametrize("chunks", [(1, 5, 3, 16, 16), (3, 2, 1, 8, 16), None])
def test_chunks_that_are_not_frames(
    path: Path, tmp_path: Path, chunks: tuple[int, ...] | None, filters: dict[str, Any]
) -> None:
    """Several frames in one, parts of frames, none at all."""
    before = facts(path)
    with h5py.File(path, "r+") as file:
        if chunks is None:
            values, about = file["maps/conv1"][...], dict(file["maps/conv1"].attrs)
            del file["maps/conv1"]
            file.create_dataset("maps/conv1", data=values, **filters).attrs.update(about)
        else:
            anew(file, "maps/conv1", chunks, **filters)
    assert_same(facts(path), before)
    for bits in (16, 8):
        packed = replay.pack(path, tmp_path / f"{bits}.h5", bits=bits)
        assert (packed.damaged, packed.unreadable) == (0, 0)
        assert replay.verify(packed.path)
        if bits == 16:
            assert_same(facts(packed.path), before)


def test_compressed_ranges_of_fewer_epochs(path: Path) -> None:
    """Of a layer that is of the first epochs alone."""
    with h5py.File(path, "r+") as file:
        for name in ("maps/late", "ranges/late", "checksums/late"):
            anew(file, name, shape=(1, *file[name].shape[1:]), compression="gzip")
    with replay.open(path) as run:
        assert np.isnan(run["late"].ranges(range(2, 3))).all()
        assert np.isfinite(run["late"].ranges(range(1))).all()
        assert run["late"].frames == [(0, batch) for batch in range(5)]
    assert replay.verify(path)
