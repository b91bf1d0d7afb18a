"""Recordings as xarray has them: a .zarr that it opens, and a recording itself, read as needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest
from looking import cam_weights, gradient, write_looking
from samples import drifting_maps, write_recording

import replay
from replay.recording import safe_file
from replay.schema import OptionError, SelectionError

waves = drifting_maps(4, 6, 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {
            "conv1": waves,
            "last": lambda e, b: np.moveaxis(waves(e, b), 0, 2),
            "flat": lambda e, b: waves(e, b)[:, 0, 0],
        },
        axes={"last": "HWC"},
        epochs=3,
        batches=4,
        recorded=lambda e, b: (e, b) != (2, 3),
        image=(3, 8, 7),
        probes=[(np.ones((3, 8, 8)), {"conv1": drifting_maps(4, 6, 5, seed=1)})],
        fields={"loss": lambda e, b: e + b / 10},
    )


def test_without_the_package_its_pip_line_is_named(path: Path) -> None:
    if importlib.util.find_spec("xarray") is not None:
        pytest.skip("xarray is installed")
    with (
        replay.open(path) as run,
        pytest.raises(OptionError, match=r"pip install 'mapreel\[xarray\]'"),
    ):
        run.to_xarray()


def test_a_zarr_opens_in_xarray(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zarr", reason="zarr is not installed")
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    if importlib.util.find_spec("dask") is not None:
        from dask import config

        monkeypatch.setitem(config.config, "scheduler", "synchronous")  # its threads would stay
    replay.export(path, tmp_path / "a.zarr", layer="last", epochs="1:", channels="3,0")
    with xarray.open_zarr(tmp_path / "a.zarr", consolidated=False) as data:
        assert data.maps.dims == ("frame", "channel", "y", "x")
        assert data.input.dims == ("frame", "input_channel", "input_y", "input_x")
        assert set(data.coords) == {"epoch", "batch", "damaged", "channel"}
        assert data.epoch.dims == data.batch.dims == data.loss.dims == ("frame",)
        assert data.channel.values.tolist() == [3, 0]
        found = data.set_xindex(["epoch", "batch"]).sel(epoch=2, batch=1, channel=3)
        assert np.array_equal(found.maps.values, waves(2, 1)[3])
    replay.export(path, tmp_path / "p.zarr", probe=0)
    with xarray.open_zarr(tmp_path / "p.zarr", consolidated=False) as data:
        assert data.input.dims == ("input_channel", "input_y", "input_x")


def test_a_recording_as_a_dataset(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xarray", reason="xarray is not installed")
    reads: list[tuple[int, int]] = []
    read = safe_file.SafeFile.read_stored

    def counted(self: safe_file.SafeFile, name: str, epoch: int, batch: int) -> object:
        reads.append((epoch, batch))
        return read(self, name, epoch, batch)

    monkeypatch.setattr(safe_file.SafeFile, "read_stored", counted)
    with replay.open(path) as run:
        data = run.to_xarray()
        assert dict(data.sizes) == {
            "epoch": 3,
            "batch": 4,
            "channel": 4,
            "y": 6,
            "x": 5,
            "bound": 2,
            "input_channel": 3,
            "input_y": 8,
            "input_x": 7,
        }
        assert data.maps.dtype == np.float16
        assert not reads  # nothing was looked at yet
        part = data.maps.sel(epoch=1, batch=[3, 0], channel=[0, 2]).isel(y=slice(1, 3), x=4)
        expected = np.stack([waves(1, 3), waves(1, 0)])[:, [0, 2]][:, :, 1:3, 4]
        assert np.array_equal(part.values, expected)
        assert sorted(reads) == [(1, 0), (1, 3)]
        assert data.loss.sel(epoch=1, batch=2) == 1.2
        assert np.isnan(data.maps[2, 3]).all()
        assert np.array_equal(data.maps[::2, 1:3].values[1, 1], waves(2, 2))
        assert data.maps[:0].shape == (0, 4, 4, 6, 5)
        assert data.maps[:0].values.size == 0
        assert np.array_equal(data.input[0, 1].values, run.inputs[0, 1])
        kept = data.range.sel(bound="greatest")[0, 0].values
        assert np.array_equal(kept, waves(0, 0).max(axis=(1, 2)).astype("f4"))
        assert data.attrs["layer"] == "conv1"
        assert run.to_xarray("last").maps.dims == ("epoch", "batch", "y", "x", "channel")
        assert run.to_xarray("flat").maps.dims == ("epoch", "batch", "channel")
        assert run.probe().to_xarray().maps.dims == ("epoch", "batch", "channel", "y", "x")
        with pytest.raises(SelectionError, match="no layer 'conv9'"):
            run.to_xarray("conv9")
        averages = data.maps.mean("batch").sel(epoch=0, channel=1).values
        assert np.allclose(averages, np.mean([waves(0, b)[1] for b in range(4)], 0), atol=1e-2)


def test_a_dataset_of_what_there_is(tmp_path: Path) -> None:
    """Images of several shapes and ranges that a file has not are left out; axes have numbers."""
    pytest.importorskip("xarray", reason="xarray is not installed")
    folded = (2, 3, 2, 2, 4)
    path = write_recording(
        tmp_path / "run.h5",
        {"fold": lambda e, b: np.full(folded, b, "f2"), "conv1": waves},
        images=lambda e, b: np.ones((1, 4 + b % 2, 4), "f2"),
        fields={"range": lambda e, b: 1.0},
    )
    with h5py.File(path, "r+") as file:
        del file["ranges"]
    with replay.open(path) as run:
        data = run.to_xarray("fold")
        assert data.maps.dims == ("epoch", "batch", *(f"axis{n}" for n in range(5)))
        assert data.maps.shape == (2, 4, *folded)
        assert (data.maps[1, 3].values == 3).all()
        assert "input" not in data
        assert "bound" not in data.coords
        assert data.range.dims == ("epoch", "batch")  # the field of that name
        assert data.channel.values.tolist() == [0]


NAMES = [
    "channel",
    "bound",
    "x",
    "y",
    "input_x",
    "input_channel",
    "maps",
    "input",
    "range",
    "epoch",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_field_may_be_named_like_an_axis(tmp_path: Path, name: str) -> None:
    pytest.importorskip("xarray", reason="xarray is not installed")
    fields = {name: lambda e, b: 10.0 * e + b, f"field_{name}": lambda e, b: 7.0}
    path = write_recording(tmp_path / "run.h5", {"conv1": waves}, fields=fields)
    with replay.open(path) as run:
        data = run.to_xarray()
        usual = {"epoch", "batch", "channel", "bound"}
        assert set(data.coords) == usual
        assert (data[f"field_{name}"] == 7).all()
        logged = data[f"field_field_{name}"]
        assert logged.dims == ("epoch", "batch")
        assert logged[1, 2] == 12
        assert np.array_equal(data.maps[1, 2].values, waves(1, 2))


@pytest.mark.parametrize(("kind", "name"), [("gradients", "conv1"), ("cam", "conv2")])
def test_what_is_stored_by_a_power_of_two_has_its_true_values(
    tmp_path: Path, kind: str, name: str
) -> None:
    pytest.importorskip("xarray", reason="xarray is not installed")
    path = write_looking(tmp_path / "look.h5")
    with replay.open(path) as run:
        beside = run.beside(kind, probe=1)
        frames = {
            cell: gradient(name, *cell, 1) if kind == "gradients" else cam_weights(*cell, 1)
            for cell in beside.frames
        }
        data = beside.to_xarray(name)
        assert data.maps.dtype == np.float32
        made = replay.export(beside, tmp_path / "a.npy", layer=name)
        assert made.dtype == "float32"
        for (cell, truth), exported in zip(frames.items(), np.load(made.path), strict=True):
            for found in (data.maps[cell].values, exported):
                np.testing.assert_allclose(found, truth, rtol=2e-3, atol=np.abs(truth).max() / 1e3)
            largest = float(data.range[cell].max())
            assert largest == data.maps[cell].values.max()


def test_h5netcdf_opens_the_file_itself(path: Path) -> None:
    """As docs/format.md says."""
    pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    options = {"group": "maps", "engine": "h5netcdf", "phony_dims": "sort"}
    with xarray.open_dataset(path, **options) as maps:
        assert np.array_equal(maps["conv1"][1, 2].values, waves(1, 2))
