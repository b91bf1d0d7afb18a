"""What is made of recordings that lack something, or have something else: copies and exports."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from looking import write_looking
from samples import drifting_maps, write_recording

import replay
from replay import schema
from replay.files import hdf5_writer, packing
from replay.schema import OptionError, OutputError, SelectionError

MAPS = drifting_maps(3, 8, 8)
PICTURE = np.ones((3, 8, 8))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": MAPS, "conv2": MAPS},
        batches=3,
        image=None,
        probes=[(PICTURE, {"conv1": MAPS})],
    )


# Exports


def test_an_export_without_images_or_losses(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["batches/loss"]
    replay.export(path, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays) == {"maps", "epoch", "batch", "channel", "damaged"}
    pytest.importorskip("zarr", reason="zarr is not installed")
    made = replay.export(path, tmp_path / "a.zarr")
    names = {each.name for each in made.path.iterdir() if each.is_dir()}
    assert names == {"maps", "epoch", "batch", "channel", "damaged"}


def test_images_of_several_shapes_are_left_out(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"conv1": MAPS}, images=lambda e, b: np.ones((3, 6 + b % 2, 8), "f2")
    )
    made = replay.export(path, tmp_path / "a.npz")
    assert made.remarks == ("the input pictures have several sizes and were left out",)
    with np.load(tmp_path / "a.npz") as arrays:
        assert "input" not in arrays


def test_images_that_are_missing_or_damaged_are_nan(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": MAPS},
        epochs=1,
        images=lambda e, b: np.full((1, 4, 4), b, "f2") if b != 1 else None,
    )
    with h5py.File(path, "r+") as file:
        file["inputs"][0, 2] = 7
    made = replay.export(path, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        found = np.isnan(arrays["input"]).all(axis=(1, 2, 3))
    assert found.tolist() == [False, True, True, False]
    assert len(made.remarks) == 2
    assert "input of epoch 0 batch 2" in made.remarks[0]
    assert made.remarks[1] == "without an input picture, NaN: 1 frame"


def test_targets_of_an_export_that_are_taken(path: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(OutputError, match=r"a\.npz is a folder that exists; name another one"):
        replay.export(path, tmp_path / "a.npz", overwrite=True)
    run = path.rename(tmp_path / "run.npz")
    before = run.read_bytes()
    with pytest.raises(OutputError, match=r"run\.npz is the recording itself; name another file"):
        replay.export(run, run, overwrite=True)
    assert run.read_bytes() == before


def test_a_layer_without_any_frame_is_not_exported(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["checksums/conv2"][...] = 0
    with pytest.raises(SelectionError, match="^no frame of conv2 in "):
        replay.export(path, tmp_path / "a.npz", layer="conv2")
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize(
    ("view", "layer", "said"),
    [
        ("attention", None, "no attention"),
        ("gradient", "conv1", "no gradients"),
        ("cam", "conv1", "nothing of it in"),
        ("cam", None, "no class activation"),
    ],
)
def test_what_there_is_nothing_of_is_not_exported(
    path: Path, tmp_path: Path, view: str, layer: str | None, said: str
) -> None:
    with pytest.raises(SelectionError, match=said):
        replay.export(path, tmp_path / "a.npz", view=view, layer=layer)
    assert not (tmp_path / "a.npz").exists()


def test_principal_components_are_exported(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    made = replay.export(path, tmp_path / "a.npz", view="components", layer="conv2")
    assert (made.shape, made.dtype) == ((3, 8, 8), "float32")
    with np.load(tmp_path / "a.npz") as arrays:
        values = arrays["maps"]
        assert values.shape == (6, 3, 8, 8)
        assert np.isfinite(values).all()
        spread = values.transpose(1, 0, 2, 3).reshape(3, -1).var(axis=1)
    assert (np.diff(spread) <= 0).all()  # the first one says most
    one = replay.export(path, tmp_path / "b.npz", view="components", epochs=0)
    assert one.frames == 2


# Copies


def test_an_empty_recording_is_repaired(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv1": MAPS}, recorded=lambda e, b: False)
    with h5py.File(path, "r+") as file:
        for name in ("batches/recorded", "batches/loss", "maps/conv1"):
            file[name].resize((0, 0, *file[name].shape[2:]))
    fixed = replay.repair(path, tmp_path / "fixed.h5")
    assert (fixed.frames, fixed.left_out) == (0, ())
    assert replay.verify(fixed.path)
    with replay.open(fixed.path) as run:
        assert run.layers == ("conv1",)
        assert run.shape == (0, 0)


def test_a_fixed_image_that_is_not_there_is_not_repaired(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["probe/0/input"]
        file["probe/0"].attrs["label"] = 3
    fixed = replay.repair(path, tmp_path / "fixed.h5")
    assert replay.verify(fixed.path)
    with replay.open(fixed.path) as run:
        assert not run.probe(0).inputs
        assert run.probe(0).label == 3
        np.testing.assert_array_equal(run.probe(0)["conv1"][1, 2], MAPS(1, 2))


def test_a_fixed_image_is_verified_as_a_recording_is(path: Path) -> None:
    with replay.open(path) as run:
        report = replay.verify(run.probe(0))
        assert report
        assert (report.frames, report.arrays) == (6, 6)
    with h5py.File(path, "r+") as file:
        file["probe/0/maps/conv1"][0, 1, 0, 0, 0] += 1
    with replay.open(path) as run:
        (problem,) = replay.verify(run.probe(0)).problems
        assert (problem.epoch, problem.batch) == (0, 1)


def test_maps_without_ranges_are_not_packed_in_8_bits(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["ranges"], file["probe/0/ranges"]
    packed = replay.pack(path, tmp_path / "small.h5", bits=8)
    assert packed.bits == 16
    assert packed.remarks == ("nothing is in 8 bits: the file keeps no ranges of its maps",)
    with replay.open(packed.path) as run:
        np.testing.assert_array_equal(run["conv1"][1, 2], MAPS(1, 2))


@pytest.mark.parametrize(("layers", "missing"), [("conv1", 0), ("rare", 1), (None, 1)])
def test_what_is_kept_of_each_batch_is_counted_anew_for_the_layers_that_are_kept(
    tmp_path: Path, layers: str | None, missing: int
) -> None:
    def odd(epoch: int, batch: int) -> np.ndarray | None:
        maps = MAPS(epoch, batch)
        maps[0, 0, 0] = np.nan
        return None if batch else maps

    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": MAPS, "rare": odd},
        batches=3,
        fields={"missing": lambda e, b: int(b > 0)},
    )
    with h5py.File(path, "r+") as file:
        for name in ("missing", "nan"):
            sums = schema.checksum_cells(file[f"batches/{name}"][...].reshape(-1)).reshape(2, 3)
            into = schema.value_checksums_path(f"batches/{name}")
            file.create_dataset(into, data=sums, chunks=(1, 3), maxshape=(None, None))
    packed = replay.pack(path, tmp_path / "small.h5", layers=layers).path
    assert replay.verify(packed)
    with replay.open(packed) as run:
        assert run.batches["missing"].tolist() == [[0, missing, missing]] * 2
        assert run.batches["nan"].tolist() == [[int(layers != "conv1"), 0, 0]] * 2


@pytest.mark.parametrize("size", [0, -1, float("nan")])
def test_a_size_that_is_none(path: Path, tmp_path: Path, size: float) -> None:
    with pytest.raises(OptionError, match="expected a number above 0"):
        replay.pack(path, tmp_path / "small.h5", max_mb=size)


def test_a_size_that_is_not_reached_in_time(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_TRIES", 2)
    with pytest.raises(OutputError, match=r"cannot be packed into .*; choose fewer layers"):
        replay.pack(path, tmp_path / "small.h5", max_mb=0.01)
    assert os.listdir(tmp_path) == ["run.h5"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "unable to lock file, errno = 11",
            "HDF5 is told to lock files and cannot here; set HDF5_",
        ),
        ("no space left", "no space left"),
    ],
)
def test_a_file_that_cannot_be_made_is_said(
    path: Path, tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 is told to lock files by a variable of the environment, on file systems without locks."""

    opened = h5py.File

    def refuse(name: Any, mode: str = "r", **more: Any) -> h5py.File:
        if mode == "w":
            raise OSError(errno.EAGAIN, text)
        return opened(name, mode, **more)

    monkeypatch.setattr(hdf5_writer.h5py, "File", refuse)
    with pytest.raises(OutputError, match=said):
        replay.repair(path, tmp_path / "fixed.h5")
    assert os.listdir(tmp_path) == ["run.h5"]
