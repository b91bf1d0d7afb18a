"""`record.Writer`: a recording from arrays, with all that a `Recorder`'s has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import replay
from record import RecordingWarning, Writer
from replay.schema import OptionError, OutputError, RecordingError

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(0)
MAPS = RNG.standard_normal((2, 3, 4, 6, 5)).astype(np.float32)  # (epoch, batch, C, H, W)


def test_arrays_come_back_with_all_that_was_written_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    kernels = RNG.standard_normal((4, 3, 3, 3))
    images = RNG.random((3, 8, 7))
    fixed = RNG.random((2, 3, 8, 7))
    with Writer(
        path,
        {"model": "CNN", "classes": ["cat", "dog"], "mean": [0.5] * 3, "std": [0.2] * 3},
        modules={"conv": "Conv2D(4, 3)"},
        axes={"last": "HWC"},
        probe=fixed,
        quiet=True,
    ) as writer:
        for epoch, batch in np.ndindex(2, 3):
            maps = MAPS[epoch, batch]
            assert writer.write(
                epoch=epoch,
                batch=batch,
                maps={"conv": maps, "last": np.moveaxis(maps, 0, -1), "number": np.float64(batch)},
                input=images * batch,
                kernels={"conv": kernels},
                probe_maps={"conv": np.stack([maps, -maps])},
                gradients={"conv": maps * 2.0**-60},
                attention={"block.attn": np.full((2, 65), 1 / 65)},
                loss=1 / (1 + batch),
                label=np.int64(1),
                accuracy=0.5,
            )
        assert "recording" in repr(writer)
    assert (writer.sent, writer.committed, writer.dropped, writer.lost) == (6, 6, 0, 0)
    with replay.open(path) as run:
        assert run.layers == ("conv", "last", "number")
        assert run.meta["model"] == "CNN"
        assert run["last"].layer.axes == "HWC"
        assert run["conv"].layer.module == "Conv2D(4, 3)"
        for epoch, batch in np.ndindex(2, 3):
            right = MAPS[epoch, batch].astype(np.float16)
            np.testing.assert_array_equal(run["conv"][epoch, batch], right)
            np.testing.assert_array_equal(run["last"][epoch, batch], np.moveaxis(right, 0, -1))
            np.testing.assert_array_equal(
                run.inputs[epoch, batch], (images * batch).astype(np.float16)
            )
            np.testing.assert_array_equal(
                run["conv"].kernels(epoch, batch), kernels.astype(np.float16)
            )
            assert run["number"][epoch, batch] == batch
        probe = run.probe(1)
        np.testing.assert_array_equal(probe["conv"][1, 2], -MAPS[1, 2].astype(np.float16))
        np.testing.assert_array_equal(probe.inputs[0, 0], fixed[1].astype(np.float16))
    assert not replay.verify(path).problems
    with h5py.File(path) as read:
        assert read["batches/accuracy"][1, 2] == 0.5
        assert read["batches/step"][:].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert read["inputs"].attrs["mean"].tolist() == [0.5] * 3
        stored = read["gradients/maps/conv"][1, 2].astype(np.float64)
        power = int(read["gradients/exponents/conv"][1, 2])
        assert 2**14 <= np.abs(stored).max() < 2**15
        np.testing.assert_allclose(stored * 2.0**power, MAPS[1, 2] * 2.0**-60, rtol=1e-3)
        assert read["attention/maps/block.attn"].shape == (2, 3, 2, 65)


def test_it_writes_what_the_same_frames_of_a_recorder_would_be(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from record import Recorder

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    images = [torch.rand(2, 3, 9, 8) for _ in range(4)]
    one, other = tmp_path / "recorder.h5", tmp_path / "writer.h5"
    with Recorder(model, one, layers="0", quiet=True) as recorder:
        maps = [model(batch) for batch in recorder.track(images)]
    with Writer(other, batches=4, quiet=True, modules={"0": str(model[0])}) as writer:
        for batch, (image, _) in enumerate(zip(images, maps, strict=True)):
            writer.write(
                epoch=0,
                batch=batch,
                maps={"0": model[0](image)[0].detach()},
                input=image[0],
                kernels={"0": model[0].weight.detach()},
            )
    with h5py.File(one) as left, h5py.File(other) as right:
        names: list[str] = []
        left.visit(names.append)
        others: list[str] = []
        right.visit(others.append)
        assert names == others
        for name in names:
            if isinstance(left[name], h5py.Dataset) and not name.endswith("batches/time"):
                np.testing.assert_array_equal(left[name][:], right[name][:], err_msg=name)
                assert dict(left[name].attrs).keys() == dict(right[name].attrs).keys()


def test_it_needs_no_torch(tmp_path: Path) -> None:
    program = """
        import sys
        sys.modules["torch"] = None  # an import of it fails
        import numpy as np, record
        assert "Writer" in dir(record)
        with record.Writer(sys.argv[1]) as writer:
            writer.write(epoch=0, batch=0, maps={"a": np.ones((1, 2, 2))})
        """
    path = tmp_path / "run.h5"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "recorded 1 batch of a model, 1 layer" in done.stderr
    with replay.open(path) as run:
        assert run["a"].frames == [(0, 0)]


def test_what_was_committed_survives_a_kill(tmp_path: Path) -> None:
    program = """
        import sys, time
        import numpy as np, record
        writer = record.Writer(sys.argv[1])
        for batch in range(1000):
            writer.write(epoch=0, batch=batch, maps={"a": np.full((1, 2, 2), batch)})
            if batch == 50:
                writer.flush()
                print("committed", flush=True)
            time.sleep(0.001)
        """
    path = tmp_path / "run.h5"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "committed\n"
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with replay.open(path) as run:
            frames = run["a"].frames
            if run.closed:
                break
        time.sleep(0.05)
    assert run.closed
    assert len(frames) >= 51
    assert not replay.verify(path).problems


def test_shapes_that_change_and_layers_that_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with Writer(path, quiet=True) as writer:
        writer.write(epoch=0, batch=0, maps={"a": np.ones((2, 4, 4))}, input=np.ones((1, 4, 4)))
        writer.write(epoch=0, batch=1, maps={"a": np.ones((2, 6, 4))}, input=np.ones((1, 6, 4)))
        writer.write(epoch=0, batch=2, maps={"b": np.ones(3)})
        writer.write(epoch=0, batch=3, maps={"a": np.ones((2, 4, 4)), "b": np.ones(3)})
    with replay.open(path) as run:
        assert run.layers == ("a", "a@2x6x4", "b")
        assert run["a"].frames == [(0, 0), (0, 3)]
        assert run["a@2x6x4"].frames == [(0, 1)]
        assert run["b"].frames == [(0, 2), (0, 3)]
        assert run.inputs[0, 1].shape == (1, 6, 4)
    with h5py.File(path) as read:
        assert read["batches/missing"][0].tolist() == [0, 0, 1, 0]
    assert not replay.verify(path).problems


def test_any_dtype_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    values = np.array([[0, 1], [2, 3]])
    kinds: dict[str, Any] = {
        "bool": values > 1,
        "uint8": values.astype(np.uint8),
        "int64": values,
        "float64": values / 3,
        "big": values * 1e6,
        "complex": values * (3 + 4j),
        "list": values.tolist(),
        "strided": np.arange(16).reshape(4, 4)[::2, ::-2],
    }
    with Writer(path, quiet=True) as writer, warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.write(epoch=0, batch=0, maps=kinds)
    with replay.open(path) as run:
        np.testing.assert_array_equal(run["complex"][0, 0], values * 5)
        assert run["complex"].layer.note == "magnitude of complex values"
        np.testing.assert_array_equal(run["strided"][0, 0], kinds["strided"])
        assert np.isinf(run["big"][0, 0]).sum() == 3
    with h5py.File(path) as read:
        assert read["batches/inf"][0, 0] == 3


def test_it_goes_on_with_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with Writer(path, quiet=True) as writer:
        for epoch in range(2):
            writer.write(epoch=epoch, batch=0, maps={"a": [[epoch]]})
    with Writer(path, resume=True, quiet=True) as writer:
        assert writer.next_epoch == 2
        writer.write(epoch=writer.next_epoch, batch=0, maps={"a": [[7]]})
    with Writer(path, resume=1, quiet=True) as writer:
        assert writer.next_epoch == 1
        writer.write(epoch=1, batch=0, maps={"a": [[9]]})
    with replay.open(path) as run:
        assert [float(run["a"][at][0, 0]) for at in run["a"].frames] == [0, 9]


ONE = {"a": np.ones((1, 2, 2))}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epoch": -1}, "epoch: expected a whole number from 0, found -1"),
        ({"epoch": 1.0}, "epoch: expected a whole number from 0, found 1.0"),
        ({"batch": True}, "batch: expected a whole number from 0, found True"),
        ({"maps": {}}, "maps: expected the arrays of one layer at least, found none"),
        ({"maps": [np.ones(3)]}, "maps: expected arrays by the layer's name, found list"),
        ({"maps": {"a": "text"}}, "maps of a: expected numbers, found str"),
        ({"maps": {"a": [[1], [1, 2]]}}, "maps of a: expected an array that numpy can read"),
        ({"maps": {"a": np.ones((1,) * 5)}}, "without the axis of the batch"),
        ({"maps": {"a": np.ones((0, 3))}}, "of 1 to 4 axes that are not empty, found (0, 3)"),
        ({"kernels": {"b": np.ones(3)}}, "kernels of b: expected a layer that has maps"),
        ({"probe_maps": {"a": np.ones((2, 1, 2, 2))}}, "expected maps of the 0 images"),
        ({"attention": {"x": np.ones(3)}}, "expected (heads, T) or (heads, T_q, T_k)"),
        ({"loss": "low"}, "loss=...: expected one number, found str"),
        ({"loss": np.ones(3)}, "loss=...: expected one number, found ndarray of shape (3,)"),
        ({"recorded": 1}, "the writer sets 'recorded' itself"),
        ({"step": -3}, "step: expected a whole number from 0"),
    ],
)
def test_what_is_no_frame_is_refused_in_a_line_and_nothing_is_lost(
    tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    path = tmp_path / "run.h5"
    with Writer(path, quiet=True) as writer:
        writer.write(epoch=0, batch=0, maps=ONE)
        with pytest.raises(OptionError) as error:
            writer.write(**{"epoch": 0, "batch": 1, "maps": ONE, **arguments})
        writer.write(epoch=0, batch=2, maps=ONE)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    with replay.open(path) as run:
        assert run["a"].frames == [(0, 0), (0, 2)]
        assert (run.dropped, run.lost) == (0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_axes": "HW"}, "input_axes: expected CHW or HWC, found 'HW'"),
        ({"on_error": "shout"}, "on_error: expected one of warn, raise"),
        ({"batches": 0}, "batches: expected a whole number from 1, found 0"),
        ({"probe": np.ones((2, 3))}, "probe: expected images (N, C, H, W), found (2, 3)"),
    ],
)
def test_what_is_no_option_is_refused_before_a_file_is_made(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    path = tmp_path / "run.h5"
    with pytest.raises(OptionError) as error:
        Writer(path, **options)
    assert words in str(error.value)
    assert not path.exists()


def test_axes_that_do_not_fit_and_files_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with Writer(path, axes={"a": "TC"}, quiet=True) as writer:
        with pytest.raises(OptionError, match="axes of a: expected CHW or HWC for arrays of shape"):
            writer.write(epoch=0, batch=0, maps=ONE)
        writer.write(epoch=0, batch=0, maps={"b": np.ones(2)})
        with pytest.raises(OutputError, match="records into it already"):
            Writer(path, overwrite=True)
    with pytest.raises(OutputError, match="exists"):
        Writer(path)
    with pytest.raises(RecordingError, match="is closed"):
        writer.write(epoch=0, batch=1, maps=ONE)


def test_a_dead_writer_costs_frames_which_are_counted_or_an_error(tmp_path: Path) -> None:
    for on_error in ("warn", "raise"):
        path = tmp_path / f"{on_error}.h5"
        writer = Writer(path, on_error=on_error, quiet=True)
        taken = 0
        taken += writer.write(epoch=0, batch=0, maps=ONE)
        assert writer.flush()
        path.unlink()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raised = ""
            for batch in range(1, 4000):
                try:
                    taken += writer.write(epoch=0, batch=batch, maps=ONE)
                except RecordingError as error:
                    raised = str(error)
                    break
                time.sleep(0.001)
                if caught:
                    break
            writer.close()
        assert ("removed by another program" in raised) == (on_error == "raise")
        texts = [str(w.message) for w in caught if w.category is RecordingWarning]
        assert any("removed by another program" in text for text in texts)
