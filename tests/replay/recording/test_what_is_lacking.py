"""Files without something that others have, or with something else in its place: still read."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from looking import exponent, gradient, stored_gradient, write_frames, write_looking
from samples import drifting_maps, write_recording

import replay
from replay import schema
from replay.__main__ import main
from replay.maps.components_view import ComponentsRecording
from replay.options import FilmOptions
from replay.recording import small_values
from replay.schema import DamagedError, FileError, SelectionError

MAPS = drifting_maps(3, 8, 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": MAPS, "flat": lambda e, b: MAPS(e, b)[:, 0, 0]},
        batches=3,
        image=None,
        probes=[(np.ones((3, 8, 8)), {"conv1": MAPS})],
    )


@pytest.fixture
def looking(tmp_path: Path) -> Path:
    return write_looking(tmp_path / "run.h5", epochs=2)


# Gradients


def test_gradients_without_exponents_are_what_is_stored(looking: Path) -> None:
    with h5py.File(looking, "r+") as file:
        del file["gradients/exponents/conv1"]
    with replay.open(looking) as run:
        found = run.gradient("conv1")
        assert not found.exponents.any()
        expected = stored_gradient("conv1")(1, 1).astype("f4")
        np.testing.assert_array_equal(found[1, 1], expected)


def test_gradients_without_ranges_are_measured(looking: Path) -> None:
    with replay.open(looking) as run:
        before = run.gradient("conv1").largest.copy()
    with h5py.File(looking, "r+") as file:
        del file["gradients/ranges/conv1"]
        file["gradients/maps/conv1"][0, 1, 0, 0, 0] = 3  # whose checksum is another one
    with replay.open(looking) as run:
        found = run.gradient("conv1")
        assert np.isnan(found.largest[0, 1])
        before[0, 1] = np.nan
        np.testing.assert_allclose(found.largest, before, rtol=1e-3)
        assert found.largest_of((1, 1)) == found.largest[1, 1]
        with pytest.raises(DamagedError, match="conv1 gradients of epoch 0 batch 1"):
            found.largest_of((0, 1))


def test_a_batch_without_gradients_has_no_largest(looking: Path) -> None:
    with h5py.File(looking, "r+") as file:
        file["gradients/checksums/conv1"][1, 0] = 0
    with replay.open(looking) as run:
        found = run.gradient("conv1")
        assert np.isnan(found.largest_of((1, 0)))
        assert np.isnan(found.largest[1, 0])
        assert found.largest[1, 1] == pytest.approx(np.abs(gradient("conv1", 1, 1)).max(), rel=1e-3)


# Images


def test_without_images_it_is_said(path: Path) -> None:
    with replay.open(path) as run:
        assert not run.inputs
        assert repr(run.inputs).endswith("no image was recorded>")
        with pytest.raises(SelectionError, match="^no input images in"):
            run.inputs[0, 0]


def test_an_image_that_was_never_written_is_nan(tmp_path: Path) -> None:
    """In a file without checksums of images, with two shapes of them."""
    shapes = [(3, 8, 8), (3, 6, 9)]
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": MAPS},
        images=lambda e, b: np.full(shapes[b % 2], b, "f2"),
    )
    with h5py.File(path, "r+") as file:
        file["inputs@3x6x9"][1, 1] = np.nan
    with replay.open(path) as run:
        assert np.isnan(run.inputs[1, 1]).all()
        assert (run.inputs[1, 3] == 3).all()


def test_a_fixed_image_of_no_values_is_none(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["probe/0/input"]
        file["probe/0/input"] = np.zeros((3, 0, 8), "f2")
    with replay.open(path) as run:
        assert not run.probe(0).inputs
        assert repr(run.probe(0).inputs).endswith("no image was recorded>")
        with pytest.raises(SelectionError, match="fixed image 0 of .* has no picture"):
            run.probe(0).inputs[0, 0]


# Numbers beside the maps


def with_checksums(path: Path, *names: str) -> None:
    """Gives numbers the checksums that a recorder writes."""
    with h5py.File(path, "r+") as file:
        for name in names:
            values = file[name][...]
            sums = schema.checksum_cells(values.reshape(-1, *values.shape[2:]))
            file[schema.value_checksums_path(name)] = sums.reshape(values.shape[:2])


@pytest.mark.parametrize("most", [1000, 1])
def test_a_damaged_range_is_measured_once(
    path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than can be measured nothing is known."""
    monkeypatch.setattr(small_values, "_MOST_MEASURED", most)
    with_checksums(path, "ranges/conv1")
    with h5py.File(path, "r+") as file:
        file["ranges/conv1"][1, 0] = 7
        file["ranges/conv1"][1, 2] = 7
    with replay.open(path) as run:
        series = run["conv1"]
        first, again = series.ranges(), series.ranges(range(1, 2))
        np.testing.assert_array_equal(first[1:], again)
        flat = MAPS(1, 0).reshape(3, -1)
        np.testing.assert_array_equal(first[1, 0], np.stack([flat.min(1), flat.max(1)], 1))
        assert np.isnan(first[1, 2]).all() == (most == 1)
        assert sorted(cell for cell in series.frames if cell in series.mended_ranges) == [
            (1, 0),
            (1, 2),
        ]


def test_ranges_of_a_frame_that_has_lost_its_checksum_are_named(path: Path) -> None:
    with_checksums(path, "ranges/conv1")
    with h5py.File(path, "r+") as file:
        file["checksums/conv1"][0, 1] = 0
    assert [str(problem) for problem in replay.verify(path).problems] == [
        "conv1 epoch 0 batch 1: maps: it has ranges, and no checksum"
    ]


def test_without_counts_nothing_is_known_of_what_is_not_finite(path: Path) -> None:
    with_checksums(path, "batches/nan", "batches/inf")
    with h5py.File(path, "r+") as file:
        file["batches/nan"][1, 1] = 5
    with replay.open(path) as run:
        found = run["conv1"].unfinite()
        assert found is not None
        assert np.argwhere(found).tolist() == [[1, 1]]  # it may have: its count is damaged
        assert run.batches["nan"][1, 1] == 0
    with h5py.File(path, "r+") as file:
        del file["batches/nan"]
    with replay.open(path) as run:
        assert run["conv1"].unfinite() is None


def test_layers_that_put_out_nothing_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": MAPS, "rare": lambda e, b: None if b else MAPS(e, b)},
        fields={"missing": lambda e, b: int(b > 0)},
    )
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "a layer put out nothing 6 times in 6 frames, first in epoch 0, batch 1" in said


def test_a_page_of_two_without_losses(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    other.write_bytes(path.read_bytes())
    with h5py.File(other, "r+") as file:
        del file["batches/loss"]
    with replay.open(other) as run:
        assert replay.recording.read_losses(run.batches, run.frames) is None
    assert replay.compare(path, other, tmp_path / "film.gif", layers=["conv1"]).frames == 6


# Attributes and groups


@pytest.mark.parametrize("version", [None, 0, -1, 1.5, "1"])
def test_a_version_that_is_no_number(path: Path, version: object) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["version"]
        if version is not None:
            file.attrs["version"] = version
    with pytest.raises(FileError, match=r"^damaged recording: .*run\.h5 has no version number$"):
        replay.open(path)


def test_texts_of_a_fixed_length_are_read(path: Path) -> None:
    """As programs in Fortran and MATLAB write them."""
    with h5py.File(path, "r+") as file:
        del file.attrs["created"]
        file.attrs["created"] = np.bytes_("1.\u00a0May".encode())
        file["maps/conv1"].attrs["note"] = np.bytes_(b"\xff means")
    with replay.open(path) as run:
        assert run.created == "1.\u00a0May"
        assert run["conv1"].layer.note == "\ufffd means"


@pytest.mark.parametrize("name", ["batches", "maps", "probe"])
def test_a_dataset_where_a_group_should_be(path: Path, name: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = np.zeros(3)
    with replay.open(path) as run:
        assert run.probes == (0 if name == "probe" else 1)
        assert run.layers == (() if name == "maps" else ("conv1", "flat"))
        if name != "probe":
            with pytest.raises(FileError, match="^empty recording"):
                run.require_frames()


def test_what_is_no_dataset_of_frames_is_no_layer(path: Path, tmp_path: Path) -> None:
    """A dataset without a shape, a type, a group: all of them travel to a copy."""
    with h5py.File(path, "r+") as file:
        file.create_dataset("maps/none", data=h5py.Empty("<f2"))
        file["maps/type"] = np.dtype("<f2")
        file["maps/group/conv2"] = np.zeros((2, 3, 1, 2, 2), "<f2")
        file["maps/conv1"].attrs["empty"] = h5py.Empty("f4")
        file["maps/conv1"].attrs["bits"] = 8  # of frames that have 16
    with replay.open(path) as run:
        assert run.layers == ("conv1", "flat")
    packed = replay.pack(path, tmp_path / "small.h5", bits=8).path
    assert replay.verify(packed)
    with h5py.File(packed) as file:
        assert file["maps/none"].shape is None
        assert isinstance(file["maps/type"], h5py.Datatype)
        assert isinstance(file["maps/conv1"].attrs["empty"], h5py.Empty)
        assert file["maps/conv1"].attrs["bits"] == 8
        assert file["maps/conv1"].dtype == np.uint8


@pytest.mark.parametrize("key", [3, (1, 2, 3), (0, "a"), slice(2), (0.0, 1)])
def test_what_stands_in_brackets(path: Path, key: object) -> None:
    with (
        replay.open(path) as run,
        pytest.raises(SelectionError, match="two whole numbers, which give one frame; found"),
    ):
        run["conv1"][key]  # type: ignore[index]


def test_a_kind_that_there_is_not(path: Path) -> None:
    with replay.open(path) as run, pytest.raises(SelectionError, match="kind 'gradient'"):
        run.beside("gradient")


def test_a_layer_that_nothing_was_made_of(path: Path) -> None:
    with replay.open(path) as run:
        made = ComponentsRecording(run, ["conv1"], FilmOptions())
        assert made["conv1"].name == "conv1"
        with pytest.raises(SelectionError, match="no layer 'conv9' in .*; recorded: conv1, flat"):
            made["conv9"]


# Class activation


def add_cam(path: Path, name: str, axes: str, count: int) -> None:
    cells = list(itertools.product(range(2), range(3)))
    with h5py.File(path, "r+") as file:
        weights = np.arange(count).astype("<f2")
        about = {"axes": axes, "of": "score of the label"}
        write_frames(file, "probe/0/cam/", name, lambda e, b: weights, cells, about, exponent)


def test_no_class_activation_without_places(tmp_path: Path) -> None:
    vectors = {"flat": lambda e, b: MAPS(e, b)[:, 0, 0]}
    path = write_recording(
        tmp_path / "run.h5", vectors, batches=3, probes=[(np.zeros((3, 8, 8)), vectors)]
    )
    add_cam(path, "flat", "C", 3)
    with (
        replay.open(path) as run,
        pytest.raises(SelectionError, match=r"its maps have no places in an image \(axes C\)"),
    ):
        run.cam()


def test_no_class_activation_of_tokens_that_fill_no_grid(tmp_path: Path) -> None:
    tokens = {"block": lambda e, b: np.ones((7, 4), "f2")}
    path = write_recording(
        tmp_path / "run.h5",
        tokens,
        batches=3,
        axes={"block": "TC"},
        probes=[(np.zeros((3, 16, 16)), tokens)],
    )
    add_cam(path, "block", "C", 4)
    with (
        replay.open(path) as run,
        pytest.raises(SelectionError, match="its 7 tokens fill no rows and columns in the propor"),
    ):
        run.cam()


def test_where_the_system_reads_from_no_place_in_one_call(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: each read moves the file's own place first."""
    monkeypatch.delattr(os, "preadv")
    with replay.open(path) as run:
        for cell in run.frames:
            np.testing.assert_array_equal(run["conv1"][cell], MAPS(*cell))
    packed = replay.pack(path, tmp_path / "small.h5").path
    assert replay.verify(packed)
