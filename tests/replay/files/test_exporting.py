"""What is exported is what was recorded, and memory does not grow with it."""

import importlib.util
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from looking import write_looking
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.schema import OptionError, OutputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    waves = drifting_maps(4, 6, 5)
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": waves, "last": lambda e, b: np.moveaxis(waves(e, b), 0, 2)},
        axes={"last": "HWC"},
        epochs=3,
        batches=4,
        recorded=lambda e, b: (e, b) != (2, 3),
        probes=[(np.ones((3, 8, 8)), {"conv1": drifting_maps(4, 6, 5, seed=1)})],
    )


def test_an_archive_holds_what_was_recorded(path: Path, tmp_path: Path) -> None:
    made = replay.export(path, tmp_path / "a.npz", epochs="1:", channels="3,0")
    assert (made.frames, made.shape, made.damaged) == (7, (2, 6, 5), ())
    with np.load(made.path) as arrays, replay.open(path) as run:
        assert arrays["maps"].dtype == np.float16
        cells = list(zip(arrays["epoch"], arrays["batch"], strict=True))
        assert cells == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2)]
        assert arrays["channel"].tolist() == [3, 0]
        for place, cell in enumerate(cells):
            assert np.array_equal(arrays["maps"][place], run["conv1"][cell][[3, 0]])
            assert np.array_equal(arrays["input"][place], run.inputs[cell])
            assert arrays["loss"][place] == run.batches["loss"][cell]
    again = replay.export(path, tmp_path / "b.npz", epochs="1:", channels="3,0")
    assert again.path.read_bytes() == made.path.read_bytes()


def test_other_forms(path: Path, tmp_path: Path) -> None:
    replay.export(path, tmp_path / "a.npy", layer="last")
    replay.export(path, tmp_path / "b.npy", layer="conv1")
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    made = replay.export(path, f"{tmp_path}/frames/", probe=0, batches="0:2")
    names = sorted(file.name for file in made.path.iterdir())
    assert len(names) == made.frames == 6
    assert names[-1] == "epoch0002_batch0001.npy"
    with replay.open(path) as run:
        frame = np.load(made.path / "epoch0001_batch0000.npy")
        assert np.array_equal(frame, run.probe(0)["conv1"][1, 0])
    replay.export(path, tmp_path / "p.npz", probe=0)
    with np.load(tmp_path / "p.npz") as arrays:
        assert arrays["input"].shape == (3, 8, 8)


def test_damaged_frames_are_nan_and_said(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(path, "r+") as file:
        file["maps/conv1"][0, 1, 0, 0, 0] += 1
    assert main(["export", str(path), "-o", str(tmp_path / "a.npz")]) == 0
    assert "1 damaged frame, first epoch 0 batch 1" in capsys.readouterr().err
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.flatnonzero(arrays["damaged"]).tolist() == [1]
        assert np.isnan(arrays["maps"][1]).all()
        assert not np.isnan(arrays["maps"][[0, 2]]).any()
    assert len(list(replay.export(path, f"{tmp_path}/f/").path.iterdir())) == 10
    # Those that vary most are told from the others.
    assert replay.export(path, tmp_path / "top.npz", channels="top:2").damaged == ((0, 1),)


@pytest.mark.parametrize("view", ["maps", "gradient", "attention", "cam"])
@pytest.mark.parametrize("suffix", [".npz", ".zarr"])
def test_a_damaged_picture_of_a_fixed_image_costs_no_frame(
    looking: Path, tmp_path: Path, suffix: str, view: str
) -> None:
    load = pytest.importorskip("zarr").open if suffix == ".zarr" else np.load
    whole = replay.export(looking, tmp_path / "a.npz", probe=1, view=view)
    path = tmp_path / "run.h5"
    path.write_bytes(looking.read_bytes())
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["value_checksums/probe/1/input"] = np.array([12345], "<u4")
    made = replay.export(path, tmp_path / f"b{suffix}", probe=1, view=view)
    assert (made.frames, made.damaged) == (whole.frames, ())
    (remark,) = made.remarks
    assert "the picture of fixed image 1" in remark
    arrays = load(str(made.path))
    assert np.isnan(arrays["input"][...]).all()
    assert arrays["input"].shape == (3, 32, 32)
    with np.load(whole.path) as expected:
        assert np.array_equal(arrays["maps"][...], expected["maps"])


def test_nothing_is_overwritten_unasked(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.npy"
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists; name another file or allow overwrite=True"):
        replay.export(path, target)
    assert target.read_text() == "mine"
    replay.export(path, target, overwrite=True)
    assert np.load(target).shape == (11, 4, 6, 5)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OutputError, match="expected a folder that is new or empty"):
        replay.export(path, f"{tmp_path}/full/")
    with pytest.raises(OutputError, match="expected a name that ends in"):
        replay.export(path, tmp_path / "a.mat")
    with pytest.raises(OptionError, match="is 2 layers; an export is of one"):
        replay.export(path, tmp_path / "b.npy", layer="all")
    with pytest.raises(OutputError):
        replay.export(path, tmp_path / "no" / "a.npz")
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_a_zarr_or_one_line(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    if importlib.util.find_spec("zarr") is None:
        with pytest.raises(OptionError, match=r"pip install 'mapreel\[zarr\]'"):
            replay.export(path, target)
        assert not target.exists()
        return
    import zarr

    replay.export(path, target)
    replay.export(path, tmp_path / "a.npz")
    group = zarr.open_group(str(target), mode="r")
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(group) == set(arrays)
        for name, values in arrays.items():
            assert np.array_equal(group[name][...], values, equal_nan=True)


def test_a_file_is_never_larger_than_what_is_in_it(path: Path, tmp_path: Path) -> None:
    """Where the disk is full, a write fails; a file that is mapped to memory ends the process."""
    sizes: list[int] = []

    def progress(done: int, frames: int) -> None:
        sizes.extend(file.stat().st_size for file in tmp_path.glob(".a-*.npy"))

    made = replay.export(path, tmp_path / "a.npy", progress=progress)
    whole = made.path.stat().st_size
    assert len(sizes) == made.frames
    assert sizes == sorted(sizes)
    assert sizes[0] < whole


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_memory_does_not_grow_with_the_recording(tmp_path: Path, name: str) -> None:
    frame = np.ones((8, 64, 64), "f2")
    path = write_recording(tmp_path / "run.h5", {"a": lambda e, b: frame}, epochs=8, batches=32)
    with replay.open(path) as run:
        replay.export(run, tmp_path / f"first-{name}", epochs=0, batches=0)
        tracemalloc.start()
        made = replay.export(run, tmp_path / name)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert made.bytes > 256 * frame.nbytes
    assert peak < 16 * frame.nbytes


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_looking(tmp_path_factory.mktemp("looking") / "run.h5")


@pytest.mark.parametrize("view", ["cam", "gradient", "attention"])
def test_what_lies_beside_the_maps_is_exported_in_its_true_values(
    looking: Path, tmp_path: Path, view: str
) -> None:
    made = replay.export(looking, tmp_path / "out.npz", view=view, probe=1)
    with np.load(tmp_path / "out.npz") as found, replay.open(looking) as run:
        frames = {
            "cam": run.cam(probe=1),
            "gradient": run.gradient("conv1", 1),
            "attention": run.attention("blocks.1.attn", 1),
        }[view]
        assert found["maps"].dtype == frames[0, 0].dtype == made.dtype
        assert found["maps"].shape == (6, *made.shape)
        for place, cell in enumerate(zip(found["epoch"], found["batch"], strict=True)):
            assert np.array_equal(found["maps"][place], frames[cell].reshape(made.shape))
        assert np.abs(found["maps"]).max() > 0
        assert np.array_equal(found["input"], run.probe(1).inputs[0, 0])


def test_class_activation_is_that_of_the_first_image_and_of_a_method(
    looking: Path, tmp_path: Path
) -> None:
    replay.export(looking, tmp_path / "out.npy", view="cam", cam_method="hirescam", epochs=1)
    with replay.open(looking) as run:
        expected = [run.cam(method="hirescam")[1, batch][None] for batch in range(2)]
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)


def test_pictures_in_colours_are_not_exported(looking: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="only values"):
        replay.export(looking, tmp_path / "out.npz", view="overlay")
