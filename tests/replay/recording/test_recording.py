import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from looking import write_looking
from samples import drifting_maps, write_recording

import replay
from replay.recording import live_file
from replay.schema import FileError, RecordingError, SelectionError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(3, 6, 5), "block.conv": drifting_maps(2, 3, 3, seed=1)},
        kernels={"conv1": drifting_maps(3, 3, 3)},
        recorded=lambda e, b: (e, b) not in {(0, 1), (1, 3)},
        meta={"model": "tiny"},
    )


def test_frames_are_those_of_the_file(path: Path) -> None:
    with replay.open(path) as run, h5py.File(path) as file:
        assert run.layers == ("conv1", "block.conv")
        assert run.frames == [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
        assert (run.shape, run.committed, run.closed, run.version) == ((2, 4), 6, True, 1)
        assert run.meta == {"model": "tiny"}
        frame = run["conv1"][1, 2]
        assert frame.dtype == np.float16
        np.testing.assert_array_equal(frame, file["maps/conv1"][1, 2])
        np.testing.assert_array_equal(run["conv1"][-1, -1], frame)
        np.testing.assert_array_equal(run["conv1"].kernels(1, 2), file["kernels/conv1"][1, 2])
        np.testing.assert_array_equal(run.inputs[0, 3], file["inputs"][0, 3])
        np.testing.assert_array_equal(run.inputs.mean, [0.5, 0.5, 0.5])
        ranges = run["conv1"].ranges()
        assert ranges.shape == (2, 4, 3, 2)
        assert np.isnan(ranges[0, 1]).all()
        np.testing.assert_array_equal(ranges[1, 2, :, 0], frame.min((1, 2)))


def test_fields_by_name(path: Path) -> None:
    with replay.open(path) as run:
        assert "loss" in run.batches
        assert "nothing" not in run.batches
        assert run.batches.get("nothing") is None
        assert np.isnan(run.batches["loss"][0, 1])
        with pytest.raises(SelectionError, match="there are: inf, loss"):
            run.batches["nothing"]


def test_what_is_not_there_is_said(path: Path) -> None:
    with replay.open(path) as run:
        for key, words in [
            ((2, 0), "no epoch 2 .* recorded: 0-1"),
            ((-3, 0), "no epoch -3"),
            ((0, 1), "no batch 1 in epoch 0 .* recorded: 0, 2-3"),
            ((1.0, 1), "two whole numbers"),
        ]:
            with pytest.raises(SelectionError, match=words):
                run["conv1"][key]
        with pytest.raises(SelectionError, match=r"no layer 'conv9' .*: conv1, block\.conv"):
            run["conv9"]
        with pytest.raises(SelectionError, match=r"no kernels of 'block.conv'"):
            run["block.conv"].kernels(0, 0)


def test_brackets_are_of_one_frame_and_what_stands_in_them_is_said_as_typed(path: Path) -> None:
    with replay.open(path) as run:
        layer = run["conv1"]
        np.testing.assert_array_equal(layer[np.int64(0), np.uint8(2)], layer[0, 2])
        for read, found in (
            (lambda: layer[0], "0"),
            (lambda: layer[0, 2, 1], "0, 2, 1"),
            (lambda: layer[0:2, ::-1], "0:2, ::-1"),
            (lambda: layer[..., 0], "..., 0"),
            (lambda: layer[True, False], "True, False"),
            (lambda: layer[[0, 1], 0], "[0, 1], 0"),
            (lambda: run.inputs[:, 0], ":, 0"),
            (lambda: next(iter(layer)), "0"),
        ):
            with pytest.raises(
                SelectionError, match=r"two whole numbers, .* found \[(.*)\]$"
            ) as told:
                read()
            assert str(told.value).endswith(f"found [{found}]")


def test_a_recording_has_its_layers_by_name(path: Path) -> None:
    with replay.open(path) as run:
        assert list(run) == list(run.layers) == [run[name].name for name in run]
        assert "conv1" in run
        assert 0 not in run
        for key in (0, None, ["conv1"], slice(2)):
            with pytest.raises(SelectionError, match=r"^no layer .*; recorded: conv1"):
                run[key]
    path = write_looking(path.with_name("looking.h5"), epochs=1, batches=1)
    with replay.open(path) as run:
        for read in (run.attention, run.gradient, run.cam):
            for key in (0, ["conv2"]):
                with pytest.raises(SelectionError, match="there are those of .*; expected a name"):
                    read(key)


def test_a_recording_that_was_closed_says_so(path: Path) -> None:
    """Whatever is asked of it that was not read before; it is not called damaged."""
    with replay.open(path) as run:
        series = run[run.layers[0]]
        first = series[0, 0]
    run.close()  # again
    for read in (
        lambda: series[0, 2],
        lambda: run.inputs[0, 0],
        lambda: run.batches["loss"],
    ):
        with pytest.raises(RecordingError, match=r"run\.h5 was closed; to read on") as told:
            read()
        assert not isinstance(told.value, FileError)  # a film would draw it as damage
    with replay.open(path) as again:
        np.testing.assert_array_equal(again[again.layers[0]][0, 0], first)


def test_only_committed_frames_count(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["state"][:] = [4, 1, 2, 0]
    with replay.open(path) as run:
        assert run.frames == [(0, 0), (0, 2), (0, 3), (1, 0)]
        assert (run.dropped, run.lost, run.closed) == (1, 2, False)
        assert np.isnan(run.batches["loss"][1, 1])
        with pytest.raises(SelectionError, match="no batch 1 in epoch 1"):
            run["conv1"][1, 1]


def test_a_layer_that_joined_later_is_nan_before(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        late = file.create_dataset(
            "maps/late", (1, 1, 2, 2, 2), "<f2", maxshape=(None, None, 2, 2, 2), fillvalue=1
        )
        late.attrs["order"] = 2
    with replay.open(path) as run:
        assert run.layers[-1] == "late"
        assert (run["late"][0, 0] == 1).all()
        assert np.isnan(run["late"][1, 2]).all()


_WRITER = """
import sys, h5py, numpy as np
file = h5py.File(sys.argv[1], "x", libver=("v110", "v110"))
file.attrs["format"], file.attrs["version"] = "mapreel", 1
maps = file.create_dataset("maps/a", (1, 0, 1, 2, 2), "<f2", maxshape=(None, None, 1, 2, 2))
number = file.create_dataset("batches/recorded", (1, 0), "<i8", maxshape=(None, None))
state = file.create_dataset("state", data=np.zeros(4, "<i8"))
file.swmr_mode = True
for batch in range(3):
    print(batch, flush=True)
    sys.stdin.readline()
    maps.resize(batch + 1, axis=1)
    number.resize(batch + 1, axis=1)
    maps[0, batch] = batch
    number[0, batch] = batch + 1
    file.flush()
    state[0] = batch + 1
    file.flush()
print("done", flush=True)
sys.stdin.readline()
"""


def test_a_recording_opens_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "live.h5"
    command = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdout.readline()
        with replay.open(path) as run:
            assert not run.closed
            for batch in range(3):
                assert len(run.frames) == batch
                writer.stdin.write("\n")
                writer.stdin.flush()
                writer.stdout.readline()
                run.refresh()
                assert (run["a"][0, batch] == batch).all()
        writer.kill()
    with replay.open(path) as run:  # and after the writer was killed
        assert len(run.frames) == 3


@pytest.mark.parametrize("opened", [False, True])
def test_a_file_that_takes_its_place_while_it_is_opened(
    path: Path, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a writer does that adds a layer: until then the file is a closed one."""
    growing = path.with_name("growing.h5")
    shutil.copyfile(path, path.with_name("writing.h5"))
    with h5py.File(path.with_name("writing.h5"), "r+", libver=("v110", "v110")) as file:
        file["state"][3] = 0  # not closed
        file.swmr_mode = True
        file.flush()
        shutil.copyfile(path.with_name("writing.h5"), growing)
    look = live_file.read_superblock

    def exchanging(path: Path) -> tuple[bytes, int]:
        head = look(path)
        if growing.exists():
            os.replace(growing, path)
        return head

    if opened:
        run = replay.open(path)
        monkeypatch.setattr(live_file, "read_superblock", exchanging)
        os.utime(path)
        run.refresh()
    else:
        monkeypatch.setattr(live_file, "read_superblock", exchanging)
        run = replay.open(path)
    assert not growing.exists()
    with run:
        assert not run.closed
        np.testing.assert_array_equal(run["conv1"][0, 2], drifting_maps(3, 6, 5)(0, 2))


def _elsewhere(folder: Path) -> Path:
    return write_recording(
        folder / "other.h5", {"stolen": drifting_maps(1, 2, 2)}, kernels={"conv1": lambda e, b: K}
    )


K = np.ones((3, 1, 3, 3), "f2")
LINKS: dict[str, Callable[[h5py.File], None]] = {
    "layer": lambda f: f["maps"].__setitem__(
        "stolen", h5py.ExternalLink("other.h5", "/maps/stolen")
    ),
    "soft": lambda f: f["maps"].__setitem__("stolen", h5py.SoftLink("/maps/conv1")),
    "group": lambda f: _replace(f, "maps"),
    "kernels": lambda f: _replace(f, "kernels"),
    "inputs": lambda f: _replace(f, "inputs"),
    "fields": lambda f: _replace(f, "batches"),
    "state": lambda f: _replace(f, "state"),
}


def _replace(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.ExternalLink("other.h5", f"/{name}")


@pytest.mark.parametrize("kind", LINKS)
def test_links_are_not_followed(path: Path, kind: str) -> None:
    _elsewhere(path.parent)
    with h5py.File(path, "r+") as file:
        LINKS[kind](file)
    with replay.open(path) as run:
        assert "stolen" not in run.layers
        if kind == "kernels":
            assert run["conv1"].layer.kernel is None
        if kind == "inputs":
            assert run.inputs.shape is None
        if kind in {"fields", "state", "group"}:
            with pytest.raises(FileError, match="empty recording"):
                run.require_frames()


def test_virtual_and_external_data_are_refused(path: Path) -> None:
    other = _elsewhere(path.parent)
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((2, 4, 1, 2, 2), "<f2")
        layout[:] = h5py.VirtualSource(other, "maps/stolen", (2, 4, 1, 2, 2))
        file.create_virtual_dataset("maps/virtual", layout)
    with pytest.raises(FileError, match=r"refused: 'maps/virtual' .* another file"):
        replay.open(path)
    with h5py.File(path, "r+") as file:
        del file["maps/virtual"]
        file.create_dataset("maps/ext", (1, 1, 1, 2, 2), "<f2", external=[(str(other), 0, 8)])
    with pytest.raises(FileError, match=r"refused: 'maps/ext' .* another file"):
        replay.open(path)


def test_declared_sizes_are_not_believed(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("maps/huge", (1, 1, 99, 40000, 50000), "<f2", chunks=(1, 1, 1, 8, 8))
    assert path.stat().st_size < 1e6
    with pytest.raises(FileError, match=r"refused: 'maps/huge' .* frames of 396,000,000,000 bytes"):
        replay.open(path)
    with h5py.File(path, "r+") as file:
        del file["maps/huge"], file["batches/recorded"]
        file.create_dataset("batches/recorded", (1 << 20, 1 << 20), "<i8", chunks=(1, 8))
    with pytest.raises(FileError, match="refused: 'batches/recorded'"):
        replay.open(path)


def test_other_types_are_damage(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["batches/step"], file["state"]
        file["batches/step"] = np.full((2, 4), 0.5)
        file["state"] = np.array([b"x"])
    with pytest.raises(FileError, match="'state' holds"):
        replay.open(path)
    with h5py.File(path, "r+") as file:
        del file["state"]
        file["state"] = np.array([6, 0, 0, 1])
    with replay.open(path) as run, pytest.raises(FileError, match="'batches/step' holds float64"):
        run.batches["step"]


def test_a_link_to_nothing_is_told_and_not_suggested(tmp_path: Path) -> None:
    link = tmp_path / "run1.h5"
    link.symlink_to("gone.h5")
    with pytest.raises(FileError, match=rf"^no such file: {link}; it is a link to gone\.h5$"):
        replay.open(link)
    with pytest.raises(FileError, match=r"run2\.h5$"):
        replay.open(tmp_path / "run2.h5")
