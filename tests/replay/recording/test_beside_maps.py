"""What is read of attention, gradients and class activation weights, and what a bad file gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from looking import (
    LABELS,
    all_rows,
    cam_weights,
    class_rows,
    gradient,
    write_looking,
)
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.schema import DamagedError, FileError, SelectionError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_looking(tmp_path / "run.h5")


def test_attention_comes_by_layer_epoch_and_batch(path: Path) -> None:
    with replay.open(path) as run:
        assert run.layers == ("conv1", "conv2", "blocks.0")
        assert run.attentions == ("blocks.0.attn", "blocks.1.attn")
        found = run.attention("blocks.1.attn")
        assert (found.layer.queries, found.layer.grid) == ("class", (8, 8))
        assert found.layer.kind == "attention"
        assert len(found.frames) == 6
        np.testing.assert_array_equal(found[2, 1], class_rows()(2, 1))
        np.testing.assert_array_equal(found[-1, -1], class_rows()(2, 1))
        of_probe = run.attention("blocks.1.attn", probe=1)
        np.testing.assert_array_equal(of_probe[1, 0], class_rows(1)(1, 0))
        same = run.probe(1).attention("blocks.1.attn")
        np.testing.assert_array_equal(of_probe[1, 0], same[1, 0])
        assert "fixed image 1" in repr(same)


def test_attention_of_all_queries(tmp_path: Path) -> None:
    with replay.open(write_looking(tmp_path / "run.h5", full=True)) as run:
        found = run.attention("blocks.0.attn")
        assert found.layer.axes == "CQT"
        assert found[0, 1].shape == (4, 65, 65)
        np.testing.assert_array_equal(found[0, 1], all_rows()(0, 1))


def test_gradients_have_their_true_values(path: Path) -> None:
    with replay.open(path) as run:
        assert run.gradients == ("conv1", "conv2")
        found = run.gradient("conv1")
        assert found.layer.of == "loss"
        assert found[2, 1].dtype == np.float32
        for cell in found.frames:
            np.testing.assert_allclose(found[cell], gradient("conv1", *cell), rtol=1e-6)
        largest = np.abs(gradient("conv1", 2, 1)).max()
        assert found.largest[2, 1] == pytest.approx(largest, rel=1e-6)
        assert np.abs(found[2, 1]).max() < 2**-20  # which float16 alone holds badly
        of_probe = run.gradient("conv2", probe=0)
        np.testing.assert_allclose(of_probe[1, 1], gradient("conv2", 1, 1, 0), rtol=1e-6)
        assert of_probe.layer.of == "score of the label"


def test_gradients_as_maps_have_one_power_of_two(path: Path) -> None:
    with replay.open(path) as run:
        series = run.beside("gradients")["conv1"]
        by = 2.0**series.exponent
        for cell in series.frames:
            true = gradient("conv1", *cell)
            assert series[cell].dtype == np.float16
            np.testing.assert_allclose(
                series[cell].astype("f8") * by, true, rtol=1e-3, atol=by * 2**-24
            )
            low, high = series.ranges()[cell].T
            np.testing.assert_allclose(low * by, true.min(axis=(1, 2)), rtol=1e-5)
            np.testing.assert_allclose(high * by, true.max(axis=(1, 2)), rtol=1e-5)
        biggest = max(np.abs(series[cell].astype("f4")).max() for cell in series.frames)
        assert 2**14 <= biggest < 2**15


def test_weights_of_class_activation_maps(path: Path) -> None:
    with replay.open(path) as run:
        assert run.cams == ()
        assert run.probe(1).cams == ("conv2",)
        found = run.cam_weights("conv2", probe=1)
        np.testing.assert_allclose(found[2, 0], cam_weights(2, 0, 1), rtol=2e-3, atol=1e-12)


def test_what_a_network_said_of_a_fixed_image(path: Path) -> None:
    with replay.open(path) as run:
        fields = run.probe(1).batches
        assert "probe0.prediction" not in fields
        assert fields["label"][1, 0] == LABELS[1]
        assert fields["prediction"].tolist() == [[1, 1], [0, 0], [0, 0]]
        assert fields["prediction"].dtype == np.int64
        assert fields["probability"][2, 0] == pytest.approx(0.6)
        assert fields["class"][0, 0] == LABELS[1]


def test_without_them_a_message_says_how_to_record_them(tmp_path: Path) -> None:
    run = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(2, 4, 4)})
    with replay.open(run) as opened:
        assert opened.attentions == opened.gradients == opened.cams == ()
        with pytest.raises(SelectionError, match="record run --attention"):
            opened.attention("conv1")
        with pytest.raises(SelectionError, match="--gradients"):
            opened.gradient("conv1")


def test_another_layer_names_those_that_there_are(path: Path) -> None:
    with replay.open(path) as run:
        with pytest.raises(SelectionError, match=r"'blocks\.9\.attn'.*blocks\.0\.attn"):
            run.attention("blocks.9.attn")
        with pytest.raises(SelectionError, match="no fixed image 7"):
            run.attention("blocks.0.attn", probe=7)


def test_a_flipped_bit_is_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["attention/maps/blocks.0.attn"][1, 0, 2, 3] = 0.9
        file["gradients/maps/conv1"][0, 0, 0, 0, 0] = 3
    with replay.open(path) as run:
        with pytest.raises(DamagedError, match=r"blocks\.0\.attn attention of epoch 1 batch 0"):
            run.attention("blocks.0.attn")[1, 0]
        with pytest.raises(DamagedError, match="conv1 gradients of epoch 0 batch 0"):
            run.gradient("conv1")[0, 0]
        assert run.attention("blocks.0.attn")[1, 1].shape == (4, 65)


def another_dtype(file: h5py.File) -> None:
    for name in ("attention/maps/blocks.0.attn", "gradients/maps/conv1"):
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape, "<f8")


def another_rank(file: h5py.File) -> None:
    del file["attention/maps/blocks.0.attn"]
    file.create_dataset("attention/maps/blocks.0.attn", (3, 2, 4, 3, 2, 2), "<f2")
    del file["gradients/maps/conv1"]
    file["gradients/maps/conv1"] = 3


@pytest.mark.parametrize("change", [another_dtype, another_rank])
def test_what_is_no_such_thing_is_passed_over(
    path: Path, change: Callable[[h5py.File], None]
) -> None:
    with h5py.File(path, "r+") as file:
        change(file)
    with replay.open(path) as run:
        assert run.attentions == ("blocks.1.attn",)
        assert run.gradients == ("conv2",)


def test_what_lies_elsewhere_is_not_followed(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["attention/maps/loop"] = h5py.SoftLink("/maps/conv1")
        del file["gradients"]
        file["gradients"] = h5py.SoftLink("/attention")
    with replay.open(path) as run:
        assert run.attentions == ("blocks.0.attn", "blocks.1.attn")
        assert run.gradients == ()


def test_an_absurd_exponent_is_one_line(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["gradients/exponents/conv1"][0, 1] = 30_000
    with replay.open(path) as run:
        found = run.gradient("conv1")
        with pytest.raises(DamagedError, match="epoch 0 batch 1 have the exponent 30,000") as info:
            found[0, 1]
        assert "\n" not in str(info.value)
        np.testing.assert_allclose(found[0, 0], gradient("conv1", 0, 0), rtol=1e-6)
        assert np.isnan(found.largest[0, 1])
        assert np.isfinite(run.beside("gradients")["conv1"].exponent)


def test_exponents_that_are_no_whole_numbers(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["gradients/exponents/conv1"]
        file.create_dataset("gradients/exponents/conv1", (3, 2), "<f4")
    with replay.open(path) as run, pytest.raises(FileError, match="gradients/exponents/conv1"):
        run.gradient("conv1")[0, 0]


@pytest.mark.parametrize("grid", [(9, 9), (0, 5), (-8, -8), (1 << 40, 1 << 40)])
def test_a_grid_that_does_not_fit(path: Path, grid: tuple[int, int]) -> None:
    with h5py.File(path, "r+") as file:
        file["attention/maps/blocks.0.attn"].attrs["grid"] = np.array(grid)
    with replay.open(path) as run:
        assert run.attention("blocks.0.attn")[0, 0].shape == (4, 65)  # which needs no grid


def test_verify_and_repair_know_them(path: Path, tmp_path: Path) -> None:
    whole = replay.verify(path)
    assert whole, whole.problems
    bare = write_looking(tmp_path / "bare.h5", attention=False, gradients=False)
    assert whole.arrays > replay.verify(bare).arrays
    with h5py.File(path, "r+") as file:
        file["attention/maps/blocks.0.attn"][1, 0, 2, 3] = 0.9
        file["probe/1/gradients/maps/conv2"][0, 0, 0, 0, 0] = 3
        file["gradients/exponents/conv1"][0, 1] = 30_000
        file["probe/0/cam/ranges/conv2"][2, 1, 0, 0] = 9
    found = {str(problem).partition(": ")[0] for problem in replay.verify(path).problems}
    texts = " / ".join(map(str, replay.verify(path).problems))
    assert len(found) <= 4
    for words in (
        "blocks.0.attn attention epoch 1 batch 0: attention",
        "fixed image 1: conv2 gradients epoch 0 batch 0: gradients",
        "conv1 gradients epoch 0 batch 1: gradients",
        "fixed image 0: conv2 cam epoch 2 batch 1: ranges",
    ):
        assert words in texts, texts
    made = replay.repair(path, tmp_path / "fixed.h5")
    assert len(made.left_out) == 3
    assert replay.verify(made.path), replay.verify(made.path).problems
    with replay.open(made.path) as run, replay.open(path) as old:
        assert run.attentions == old.attentions
        kept = run.attention("blocks.1.attn")
        np.testing.assert_array_equal(kept[2, 1], class_rows()(2, 1))
        assert kept.layer == old.attention("blocks.1.attn").layer
        assert not run.attention("blocks.0.attn").present[1, 0]
        assert run.gradient("conv2").layer == old.gradient("conv2").layer
        np.testing.assert_array_equal(run.gradient("conv2")[2, 1], old.gradient("conv2")[2, 1])
        weights = run.cam_weights("conv2", probe=1)[1, 0]
        np.testing.assert_array_equal(weights, old.cam_weights("conv2", probe=1)[1, 0])
        assert run.probe(0).batches["prediction"].tolist() == [[0, 0], [2, 2], [2, 2]]
        assert run.probe(1).label == LABELS[1]


def test_what_a_recording_has_is_listed(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "beside    attention of 2 layers, gradients of 2 layers\n" in said
    assert "label 0, evaluation mode, layers conv1, conv2, blocks.0; attention of 2 layers" in said
    assert "cam of 1 layer" in said
    many = write_looking(tmp_path / "many.h5", epochs=1, batches=1, probes=10)
    assert main(["info", str(many), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not [name for name in document["fields"] if name.startswith("probe")]
    assert document["attention"][0]["queries"] == "class"
    assert document["gradients"][0]["of"] == "loss"
    assert document["probes"][1]["prediction"] == 1
    assert document["probes"][1]["probability"] == pytest.approx(0.4)
    assert document["probes"][1]["cam"][0]["name"] == "conv2"
    assert main(["info", str(many)]) == 0
    said = capsys.readouterr().out
    assert said.count("\nprobe ") == 1
    assert "10 images of labels 0, 2, each: image of 3x32x32" in said


def test_a_plain_recording_is_listed_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(2, 4, 4)})
    assert main(["info", str(plain), "--json"]) == 0
    assert not {"attention", "gradients", "cam"} & set(json.loads(capsys.readouterr().out))
    assert main(["info", str(plain)]) == 0
    assert "beside" not in capsys.readouterr().out


def test_attention_of_an_absurd_size_is_one_line_and_maps_are_read(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(path, "r+") as file:
        del file["attention/maps/blocks.0.attn"]
        shape = (3, 2, 4, 40_000, 40_000)
        file.create_dataset("attention/maps/blocks.0.attn", shape, "<f2", chunks=(1, 1, 1, 64, 64))
    with replay.open(path) as run:
        with pytest.raises(FileError, match="refused: 'attention/maps/blocks.0.attn'"):
            assert run.attentions
        assert run["conv1"][0, 0].shape == (4, 16, 16)
    for words in (["grid", "--show", "attention"], ["info"], ["export", "--show", "attention"]):
        out = [] if words[0] == "info" else ["-o", str(tmp_path / f"{words[0]}.npz")]
        if words[0] == "grid":
            out = ["-o", str(tmp_path / "grid.png")]
        assert main([words[0], str(path), *words[1:], *out]) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(said) == 1
        assert "declares frames of" in said[0]
    assert main(["grid", str(path), "-o", str(tmp_path / "maps.png")]) == 0
