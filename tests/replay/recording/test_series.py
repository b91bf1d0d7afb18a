"""A fixed image, frames of other shapes and the axes of a frame, as the file has them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay import schema
from replay.schema import SelectionError

IMAGES = [np.full((3, 8, 8), n, "f2") for n in (1, 2)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 6, 5), "conv2": drifting_maps(3, 4, 4)},
        recorded=lambda e, b: (e, b) != (0, 1),
        fields={"label": lambda e, b: b, "prediction": lambda e, b: 0},
        kernels={"conv1": drifting_maps(2, 3, 3)},
        probes=[
            (image, {"conv1": drifting_maps(2, 6, 5, seed=n + 7)}) for n, image in enumerate(IMAGES)
        ],
        meta={"probe": [{"label": 4, "prediction": 10**30}, "damage"]},
    )


def test_a_probe_is_a_recording_of_one_image(path: Path) -> None:
    with replay.open(path) as run:
        assert run.probes == 2
        assert run.probe_number is None
        view = run.probe(1)
        assert isinstance(view, replay.Recording)
        assert (view.layers, view.probe_number, view.frames) == (("conv1",), 1, run.frames)
        np.testing.assert_array_equal(view["conv1"][1, 3], drifting_maps(2, 6, 5, seed=8)(1, 3))
        assert view["conv1"].layer.probe == 1
        assert view["conv1"].layer.kernel is None
        assert view["conv1"].ranges().shape == (2, 4, 2, 2)
        for cell in run.frames:
            np.testing.assert_array_equal(view.inputs[cell], IMAGES[1])
        assert view.inputs.shape == (3, 8, 8)
        np.testing.assert_array_equal(view.inputs.mean, run.inputs.mean)
        with view:
            pass
        assert run["conv1"][0, 0].shape == (2, 6, 5)  # the file is still open


def test_what_belongs_to_the_batchs_own_image_is_not_the_probes(path: Path) -> None:
    with replay.open(path) as run:
        first, second = run.probe(0).batches, run.probe(1).batches
        assert "label" not in second
        assert second.get("prediction") is None
        assert not {"nan", "inf", "prediction"} & set(first)
        assert first["label"].tolist() == [[4, -1, 4, 4], [4, 4, 4, 4]]
        np.testing.assert_array_equal(second["loss"], run.batches["loss"])
        with pytest.raises(
            SelectionError, match="no field 'label' of a fixed image; there are: lo"
        ):
            second["label"]


def test_without_a_probe_it_is_said_how_to_record_one(path: Path, tmp_path: Path) -> None:
    plain = write_recording(tmp_path / "plain.h5", {"a": drifting_maps(1, 2, 2)})
    with replay.open(plain) as run, pytest.raises(SelectionError, match="record train --probe 1"):
        run.probe()
    with replay.open(path) as run, pytest.raises(SelectionError, match="image 2 .* there: 0-1"):
        run.probe(2)
    with h5py.File(path, "r+") as file:
        del file["probe/0/input"], file["probe/1/input"]
        file["probe/0/input"] = h5py.ExternalLink("other.h5", "/x")
    with replay.open(path) as run:
        assert run.probe(0).inputs.shape is None
        assert not run.probe(1).inputs
        with pytest.raises(SelectionError, match="fixed image 1 .* has no picture"):
            run.probe(1).inputs[0, 0]


@pytest.mark.parametrize("odd", [None, "0", 0.5, (0, 1), slice(None), b"0", [0], {}])
def test_numbers_that_are_none_are_said_in_a_line(path: Path, odd: object) -> None:
    with replay.open(path) as run:
        with pytest.raises(SelectionError, match=r"no fixed image .* there: 0-1$"):
            run.probe(odd)  # type: ignore[arg-type]
        for ask in (run.locate, run[run.layers[0]].kernels):
            for key in ((odd, 0), (0, odd)):
                with pytest.raises(SelectionError, match=r"^expected \[epoch, batch\], two whole"):
                    ask(*key)  # type: ignore[arg-type]


def test_images_of_other_shapes_are_found(tmp_path: Path) -> None:
    def images(epoch: int, batch: int) -> np.ndarray:
        return np.full([(3, 8, 8), (3, 6, 9), (3, 4, 4)][batch % 3], 10 * epoch + batch, "f2")

    path = write_recording(tmp_path / "run.h5", {"a": drifting_maps(1, 2, 2)}, images=images)
    with h5py.File(path, "r+") as file:
        assert {"inputs", "inputs@3x6x9", "inputs@3x4x4"} <= set(file)
        file["inputs@3x5x5"] = file["inputs"][:]  # whose name is not its shape
    with replay.open(path) as run:
        assert set(run.inputs.shapes) == {(3, 8, 8), (3, 6, 9), (3, 4, 4)}
        assert run.inputs.shape == (3, 8, 8)
        for cell in run.frames:
            np.testing.assert_array_equal(run.inputs[cell], images(*cell))


def test_axes_and_pooling_are_read_and_garbage_is_not(tmp_path: Path) -> None:
    maps = drifting_maps(3, 6, 5)
    path = write_recording(
        tmp_path / "run.h5",
        {"a": lambda e, b: np.moveaxis(maps(e, b), 0, 2), "b": maps},
        axes={"a": "HWC"},
        pooled={"a": 4},
    )
    with replay.open(path) as run:
        a, b = run["a"].layer, run["b"].layer
        assert (a.axes, a.pooled, a.channels, b.axes, b.pooled) == ("HWC", 4, 3, "CHW", 1)
        np.testing.assert_array_equal(run["a"].ranges()[0, 0, :, 1], maps(0, 0).max((1, 2)))
    with h5py.File(path, "r+") as file:
        file["maps/a"].attrs["axes"] = "TC"
        file["maps/a"].attrs["pooled"] = -3
        file["maps/b"].attrs["axes"] = np.arange(3)
        file["maps/b"].attrs["pooled"] = "x"
    with replay.open(path) as run:
        found = [(run[name].layer.axes, run[name].layer.pooled) for name in run.layers]
        assert found == [("CHW", 1)] * 2


def test_where_a_layer_has_frames(tmp_path: Path) -> None:
    maps = drifting_maps(1, 2, 2)
    path = write_recording(
        tmp_path / "run.h5",
        {
            "a": lambda e, b: maps(e, b) if b % 2 == 0 else None,
            "a@1x3x3": lambda e, b: None if b % 2 == 0 else drifting_maps(1, 3, 3)(e, b),
            "b": maps,
        },
        recorded=lambda e, b: e == 0,
    )
    with h5py.File(path, "r+") as file:
        del file["checksums/b"]
    with replay.open(path) as run:
        assert run["a"].frames == [(0, 0), (0, 2)]
        assert run["a@1x3x3"].frames == [(0, 1), (0, 3)]
        assert run["b"].frames == run.frames
        assert np.isnan(run["a"][0, 1]).all()


def test_what_no_checksum_vouches_for_is_no_frame(path: Path) -> None:
    """A loss of power may leave zeros for a frame and for its checksum, which says: nothing."""
    with h5py.File(path) as file:
        images = file["inputs"][:]
    sums = [[schema.checksum(np.ascontiguousarray(image)) for image in epoch] for epoch in images]
    with h5py.File(path, "r+") as file:
        file["batches/input_checksum"] = np.array(sums, np.uint32)
        for name in ("checksums/conv1", "kernel_checksums/conv1", "batches/input_checksum"):
            file[name][0, 2] = 0
    with replay.open(path) as run:
        for found in (run["conv1"][0, 2], run["conv1"].kernels(0, 2), run.inputs[0, 2]):
            assert np.isnan(found).all()
        assert not np.isnan(run["conv1"][0, 3]).any()
    with h5py.File(path, "r+") as file:  # a file without any is read as it is
        for name in ("checksums/conv1", "kernel_checksums/conv1", "batches/input_checksum"):
            del file[name]
    with replay.open(path) as run:
        for found in (run["conv1"][0, 2], run["conv1"].kernels(0, 2), run.inputs[0, 2]):
            assert not np.isnan(found).any()
