"""What a Recorder writes, held against independent hooks, and what it must leave alone."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from processes import shared_memory
from torch import nn
from torch.utils.checkpoint import checkpoint

import replay
from record import Recorder, RecordingWarning
from replay.schema import OptionError, OutputError, RecordingError

pytestmark = pytest.mark.usefixtures("quick_writers")


class Net(nn.Module):
    """conv1, an in-place ReLU called twice, conv2, and a layer that is not always used."""

    def __init__(self, checkpointing: str = "") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 4, 3)
        self.spare = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 3)
        self.use_spare = False
        self.checkpointing = checkpointing

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv1(x))
        return self.relu(self.conv2(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.checkpointing:
            x = checkpoint(self.features, x, use_reentrant=self.checkpointing == "reentrant")
        else:
            x = self.features(x)
        if self.use_spare:
            x = self.spare(x)
        return self.fc(x.mean((2, 3)))


USED = ["conv1", "conv2"]


def make(checkpointing: str = "") -> Net:
    torch.manual_seed(0)
    return Net(checkpointing)


def batches(count: int = 4, size: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3 if i else 4, 3, size, size, generator=generator) for i in range(count)]


def fit(
    model: nn.Module,
    recorder: Recorder | None,
    epochs: int = 2,
    forward: nn.Module | None = None,
    data: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Trains, with an evaluation after each epoch; the weights in one vector."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    forward = model if forward is None else forward
    for _ in range(epochs):
        source = batches() if data is None else data
        for images in source if recorder is None else recorder.track(source):
            loss = forward(images).square().mean() + 0 * torch.rand(())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if recorder is not None:
                recorder.log(loss=loss, label=torch.tensor(2), speed=0.5)
        model.eval()
        with torch.no_grad():
            forward(batches()[0])
        model.train()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Watch:
    """An independent hook: the first image of each training output, copied at once."""

    def __init__(self, module: nn.Module) -> None:
        self.frames: list[np.ndarray] = []
        self.kernels: list[np.ndarray] = []
        module.register_forward_hook(self)

    def __call__(self, module: nn.Module, args: object, output: torch.Tensor) -> None:
        if module.training and torch._C._current_graph_task_id() == -1:
            self.frames.append(output[0].detach().clone().half().numpy())
            self.kernels.append(module.weight.detach().clone().half().numpy())


def test_every_frame_kernel_input_range_and_checksum(tmp_path: Path) -> None:
    model = make()
    seen = {name: Watch(getattr(model, name)) for name in USED}
    with Recorder(model, tmp_path / "run.h5", layers=[*USED, "ReLU"]) as recorder:
        fit(model, recorder)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv1", "relu", "relu#1", "conv2")
        assert run.closed
        assert run.frames == [(e, b) for e in range(2) for b in range(4)]
        for place, (epoch, batch) in enumerate(run.frames):
            for name in USED:
                frame, expected = run[name][epoch, batch], seen[name].frames[place]
                assert frame.tobytes() == expected.tobytes()
                assert (frame < 0).any()  # not what the in-place ReLU made of it
                kernels = run[name].kernels(epoch, batch)
                assert kernels.tobytes() == seen[name].kernels[place].tobytes()
                ranges = np.stack([expected.min((1, 2)), expected.max((1, 2))], axis=1)
                np.testing.assert_array_equal(run[name].ranges()[epoch, batch], ranges)
            np.testing.assert_array_equal(
                run["relu"][epoch, batch], np.maximum(seen["conv1"].frames[place], 0)
            )
            image = batches()[batch][0].half().numpy()
            np.testing.assert_array_equal(run.inputs[epoch, batch], image)
        assert list(run.batches["label"].ravel()) == [2] * 8
        assert list(run.batches["speed"].ravel()) == [0.5] * 8
        assert list(run.batches["step"].ravel()) == list(range(8))
        assert np.isfinite(run.batches["loss"]).all()
    with h5py.File(tmp_path / "run.h5", "r") as file:
        maps = file["maps/conv1"]
        assert (maps.dtype, maps.chunks) == (np.float16, (1, 1, 6, 12, 12))
        for epoch, batch in np.ndindex(2, 4):
            for kind, sums in (("maps", "checksums"), ("kernels", "kernel_checksums")):
                data = file[f"{kind}/conv2"][epoch, batch].tobytes()
                assert file[f"{sums}/conv2"][epoch, batch] == zlib.crc32(data)
            assert file["batches/input_checksum"][epoch, batch] == zlib.crc32(
                file["inputs"][epoch, batch].tobytes()
            )


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("checkpointing", ["", "reentrant", "non-reentrant"])
def test_training_is_the_same_to_the_bit(tmp_path: Path, checkpointing: str) -> None:
    data = [images.requires_grad_() for images in batches()]
    plain = fit(make(checkpointing), None, data=data)
    state = torch.get_rng_state()
    model = make(checkpointing)
    with Recorder(model, tmp_path / "run.h5", layers=USED) as recorder:
        recorded = fit(model, recorder, data=data)
    assert torch.equal(plain, recorded)
    assert torch.equal(state, torch.get_rng_state())
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv1", "conv2")  # once a forward: no conv1#1
        assert len(run.frames) == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("attach", ["before", "after"])
def test_compiled_models(tmp_path: Path, attach: str) -> None:
    torch.compiler.reset()
    plain_model = make()
    plain = fit(plain_model, None, forward=torch.compile(plain_model, backend="aot_eager"))
    torch.compiler.reset()
    model = make()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    if attach == "after":
        fit_once = compiled(batches()[0])
        assert fit_once.shape == (4, 3)
    target = compiled if attach == "after" else model
    with Recorder(target, tmp_path / "run.h5", layers=USED) as recorder:
        recorded = fit(model, recorder, forward=compiled)
    assert torch.equal(plain, recorded)
    eager = make()
    seen = Watch(eager.conv1)
    fit(eager, None)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv1", "conv2")
        assert len(run.frames) == 8
        for place, at in enumerate(run.frames):
            np.testing.assert_allclose(run["conv1"][at], seen.frames[place], atol=2e-3)
            assert (run["conv1"][at] < 0).any()


def test_evaluation_leaves_no_trace_and_every_skips(tmp_path: Path) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1", every=3) as recorder:
        fit(model, recorder)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, 0), (0, 3), (1, 0), (1, 3)]
        assert run.shape == (2, 4)
        assert run.batches["step"][1, 3] == 7


def test_epoch_and_step_instead_of_track(tmp_path: Path) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for epoch in range(2):
            recorder.epoch(epoch)
            for images in batches():
                for part in images.split(2):  # gradient accumulation: one batch all the same
                    model(part).mean().backward()
                recorder.log(loss=epoch)
                recorder.step()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.shape == (2, 4)
        assert len(run.frames) == 8
        np.testing.assert_array_equal(run.inputs[1, 2], batches()[2][0].half().numpy())
        np.testing.assert_array_equal(run.batches["loss"], [[0] * 4, [1] * 4])


@pytest.mark.parametrize("every", [1, 2])
def test_without_either_every_training_forward_is_a_batch(tmp_path: Path, every: int) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1", every=every) as recorder:
        for number, images in enumerate(batches(5)):
            model(images)
            recorder.log(loss=number)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, b) for b in range(0, 5, every)]
        assert [run.batches["loss"][at] for at in run.frames] == list(range(0, 5, every))
        np.testing.assert_array_equal(run.inputs[0, -1], batches(5)[4][0].half().numpy())


def test_loaders_without_a_length_break_and_exceptions(tmp_path: Path) -> None:
    model = make()

    def endless() -> Iterator[torch.Tensor]:
        while True:
            yield from batches()

    with (
        pytest.raises(ZeroDivisionError),
        Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder,
    ):
        for number, images in enumerate(recorder.track(endless())):
            model(images)
            if number == 69:
                break
        for _, images in enumerate(recorder.track(batches())):
            model(images)
            raise ZeroDivisionError
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert run.frames == [*((0, b) for b in range(70)), (1, 0)]
        assert run.shape == (2, 70)
    assert len(recorder.track(batches())) == 4


def test_a_layer_that_never_fires_is_named_twice(tmp_path: Path) -> None:
    model = make()
    recorder = Recorder(model, tmp_path / "run.h5")
    with pytest.warns(RecordingWarning, match="did not fire in the first batch: spare"):
        for images in recorder.track(batches()):
            model(images)
    with pytest.warns(
        RecordingWarning, match="never fired in a recorded forward, so not recorded: spare"
    ):
        recorder.close()


def test_a_layer_that_fires_late_joins(tmp_path: Path) -> None:
    model = make()
    seen = Watch(model.conv1)
    recorder = Recorder(model, tmp_path / "run.h5")
    with pytest.warns(RecordingWarning, match="spare"):
        for number, images in enumerate(recorder.track(batches(6))):
            model.use_spare = number in (3, 5)
            model(images)
    recorder.close()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv1", "conv2", "spare")
        assert len(run.frames) == 6
        for place, at in enumerate(run.frames):
            np.testing.assert_array_equal(run["conv1"][at], seen.frames[place])
        assert list(np.isfinite(run["spare"].ranges()[0, :, 0, 0])) == [False] * 3 + [
            True,
            False,
            True,
        ]
        assert np.isnan(run["spare"][0, 0]).all()
        assert list(run.batches["missing"][0]) == [0, 0, 0, 0, 1, 0]


def test_frames_of_another_size_have_a_layer_of_their_own(tmp_path: Path) -> None:
    model = make()
    seen = Watch(model.conv1)
    data = [*batches(2), *batches(1, size=16), *batches(1)]
    with Recorder(model, tmp_path / "run.h5", layers=[*USED, "relu"]) as recorder:
        for images in recorder.track(data):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.lost, len(run.frames)) == (0, 4)
        assert run.layers[:2] == ("conv1", "relu")
        assert {"conv1@6x16x16", "relu#1@4x14x14"} <= set(run.layers)
        assert list(run.batches["missing"][0]) == [0] * 4
        for place in range(4):
            there, other = ("conv1@6x16x16", "conv1") if place == 2 else ("conv1", "conv1@6x16x16")
            assert run[there][0, place].tobytes() == seen.frames[place].tobytes()
            assert np.isnan(run[other][0, place]).all()
    with h5py.File(tmp_path / "run.h5", "r") as file:
        image = file["inputs@3x16x16"][0, 2]
        np.testing.assert_array_equal(image, data[2][0].half().numpy())
        assert file["batches/input_checksum"][0, 2] == zlib.crc32(image.tobytes())


def test_more_shapes_than_a_file_should_hold_are_lost_and_said_so(tmp_path: Path) -> None:
    model = make()
    data = [batches(1, size=size)[0] for size in range(8, 18)]
    recorder = Recorder(model, tmp_path / "run.h5", layers="conv1")
    with pytest.warns(RecordingWarning) as caught:
        for images in recorder.track(data):
            model(images)
        recorder.close()
    said = [str(w.message) for w in caught]
    assert "more than 8 different shapes, so not recorded: conv1" in said[0]
    assert "2 frames lost" in said[1]
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.lost, len(run.layers)) == (2, 8)


class Parts(nn.Module):
    """Nobody calls it: its parts are called."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3)
        self.up = nn.ConvTranspose2d(4, 3, 3)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(x)

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(x)


@pytest.mark.parametrize("way", ["track", "step"])
def test_parts_called_directly(tmp_path: Path, way: str) -> None:
    torch.manual_seed(0)
    model = Parts()
    down, up = Watch(model.down), Watch(model.up)
    with Recorder(model, tmp_path / "run.h5", layers=["down", "up"]) as recorder:
        for images in recorder.track(batches()) if way == "track" else batches():
            model.decode(model.encode(images)).mean().backward()
            if way == "step":
                recorder.step()
            model.eval()
            model.encode(images)
            model.train()
    for watch in (down, up):
        watch.frames = watch.frames[:4]
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("down", "up")
        assert len(run.frames) == 4
        for place in range(4):
            assert run["down"][0, place].tobytes() == down.frames[place].tobytes()
            assert run["up"][0, place].tobytes() == up.frames[place].tobytes()
            image = batches()[place][0].half().numpy()
            np.testing.assert_array_equal(run.inputs[0, place], image)


def test_parts_called_directly_without_track_or_step(tmp_path: Path) -> None:
    model = Parts()
    recorder = Recorder(model, tmp_path / "run.h5", layers=["down", "up"])
    for images in batches():
        model.decode(model.encode(images))
    with pytest.warns(RecordingWarning, match="its parts are called directly"):
        recorder.close()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == []


class Outputs(nn.Module):
    """Layers whose outputs are no maps (N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = nn.Conv1d(3, 5, 3)
        self.volume = nn.Conv3d(1, 2, 3, padding=1)
        self.tokens = nn.Linear(6, 8)
        self.last = nn.Linear(8, 8)
        self.several = Several()
        self.memory = nn.LSTM(8, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        self.signal(x.flatten(2))
        self.volume(x[:, :, None].mean(1, keepdim=True).expand(-1, -1, 4, -1, -1))
        tokens = self.tokens(x.flatten(2)[:, :, :96].reshape(n, 48, 6))  # (N, T, D)
        self.last(tokens[:, :12].reshape(n, 3, 4, 8))  # (N, H, W, C)
        self.memory(tokens.transpose(0, 1))  # (T, N, D)
        self.attention(tokens, tokens, tokens)
        return self.several(x)["out"].sum()


class Several(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"out": x * 2, "pair": (x[:, :1], None, [x[:, :, 0]]), "count": torch.arange(3)}


def test_outputs_of_every_shape(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Outputs()
    outputs: dict[str, object] = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda m, a, out, name=name: outputs.update({name: out}))
    names = ["signal", "volume", "tokens", "last", "several", "memory", "attention"]
    with Recorder(model, tmp_path / "run.h5", layers=names) as recorder:
        for images in recorder.track(batches(1)):
            model(images)
    several, memory = outputs["several"], outputs["memory"][0]
    expected = {
        "signal": ("CL", outputs["signal"][0]),
        "volume": ("CDHW", outputs["volume"][0]),
        "tokens": ("TC", outputs["tokens"][0]),
        "last": ("HWC", outputs["last"][0]),
        "several[out]": ("CHW", several["out"][0]),
        "several[pair.0]": ("CHW", several["pair"][0][0]),
        "several[pair.2.0]": ("CL", several["pair"][2][0][0]),
        "memory": ("TC", memory[:, 0]),
        "attention[0]": ("TC", outputs["attention"][0][0]),
        "attention[1]": ("TC", outputs["attention"][1][0]),
    }
    with h5py.File(tmp_path / "run.h5", "r") as file:
        assert set(file["maps"]) == set(expected)
        for name, (axes, tensor) in expected.items():
            maps = file[f"maps/{name}"]
            assert maps.attrs["axes"] == axes, name
            frame = tensor.detach().half().numpy()
            assert maps[0, 0].tobytes() == frame.tobytes(), name
            channels = np.moveaxis(frame, axes.index("C"), 0)
            others = tuple(range(1, channels.ndim))
            ranges = np.stack([channels.min(others), channels.max(others)], axis=1)
            np.testing.assert_array_equal(file[f"ranges/{name}"][0, 0], ranges)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_model_can_be_scripted_while_it_is_recorded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    with Recorder(model, tmp_path / "run.h5", layers="Conv2d") as recorder:
        for images in recorder.track(batches(3)):
            scripted = torch.jit.script(model)
            assert torch.equal(scripted(images), model(images))
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 3
        for place, at in enumerate(run.frames):
            expected = model[0](batches(3)[place])[0].detach().half().numpy()
            assert run["0"][at].tobytes() == expected.tobytes()


def test_large_maps_are_pooled_and_the_file_says_so(tmp_path: Path) -> None:
    model = make()
    seen = Watch(model.conv1)
    with Recorder(model, tmp_path / "run.h5", layers=USED, max_map=5) as recorder:
        for images in recorder.track(batches()):
            model(images)
    with h5py.File(tmp_path / "run.h5", "r") as file:
        assert {name: file["maps"][name].attrs["pooled"] for name in USED} == {
            "conv1": 3,
            "conv2": 2,
        }
        full = seen.frames[0].astype(np.float32).reshape(6, 4, 3, 4, 3).mean((2, 4))
        assert file["maps/conv1"].shape == (1, 4, 6, 4, 4)
        np.testing.assert_allclose(file["maps/conv1"][0, 0], full, rtol=2e-3, atol=1e-3)
        assert file["inputs"].shape == (1, 4, 3, 12, 12)
        assert '"max_map": 5' in file.attrs["meta"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models(tmp_path: Path, dtype: torch.dtype) -> None:
    model = make().to(dtype)
    seen = Watch(model.conv1)
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for images in recorder.track(batches()):
            model(images.to(dtype))
    with replay.open(tmp_path / "run.h5") as run:
        for place, at in enumerate(run.frames):
            assert run["conv1"][at].tobytes() == seen.frames[place].tobytes()


def test_overflow_and_nan_are_counted(tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.bias.copy_(torch.tensor([1.0, 65504.0, 1e6, -1e6, torch.nan, 1e-8]))
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for images in recorder.track(batches(1)):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.batches["nan"][0, 0], run.batches["inf"][0, 0]) == (144, 288)
        expected = [[1, 1], [65504, 65504], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2, [0, 0]]
        np.testing.assert_array_equal(run["conv1"].ranges()[0, 0], expected)


def test_log_refuses_what_is_not_one_number(tmp_path: Path) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        with pytest.warns(
            RecordingWarning, match=r"log\(loss=...\): expected one number, found Te"
        ):
            recorder.log(loss=torch.zeros(3))
        with pytest.warns(RecordingWarning, match="the recorder sets 'step' itself"):
            recorder.log(step=3)
        for images in recorder.track(batches(1)):
            model(images)
    strict = Recorder(model, tmp_path / "strict.h5", layers="conv1", on_error="raise")
    with strict, pytest.raises(RecordingError, match="found str"):
        strict.log(loss="low")
    for images in batches(1):
        model(images)


def test_existing_files_are_refused_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        Recorder(make(), path)
    assert path.read_bytes() == b"precious"
    model = make()
    with Recorder(model, path, layers="conv1", overwrite=True) as recorder:
        fit(model, recorder, epochs=1)
    with replay.open(path) as run:
        assert len(run.frames) == 4
    with pytest.raises(OutputError, match="no such folder"):
        Recorder(make(), tmp_path / "nowhere" / "run.h5")
    with pytest.raises(OutputError, match="is a folder"):
        Recorder(make(), tmp_path)


def test_bad_arguments_say_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with pytest.raises(OptionError, match="no layer matches 'cnov1'; closest: conv1"):
        Recorder(make(), path, layers="cnov1")
    with pytest.raises(OptionError, match="every: expected a whole number from 1, found 0"):
        Recorder(make(), path, every=0)
    with pytest.raises(OptionError, match="on_error: expected one of warn, raise"):
        Recorder(make(), path, on_error="ignore")
    with pytest.raises(OptionError, match="expected a torch.nn.Module, found int"):
        Recorder(3, path)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no convolution, block or Linear"):
        Recorder(nn.ReLU(), path)
    assert list(tmp_path.iterdir()) == []


def test_copies_and_pickles_of_the_model_record_nothing(tmp_path: Path) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for images in recorder.track(batches(2)):
            model(images)
            average = copy.deepcopy(model)
            average(images * 2)
            buffer = io.BytesIO()
            torch.save(model, buffer)
    buffer.seek(0)
    assert (
        b"record.capture.layer_hook" not in buffer.getvalue()
    )  # it loads where there is no mapreel
    loaded = torch.load(buffer, weights_only=False)
    assert torch.equal(loaded(batches()[0]), model(batches()[0]))
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 2
        np.testing.assert_array_equal(run.inputs[0, 1], batches()[1][0].half().numpy())


def test_nothing_recorded_is_said(tmp_path: Path) -> None:
    model = make().eval()
    with (
        pytest.warns(RecordingWarning, match="nothing was recorded .* never called in training"),
        Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder,
    ):
        for images in recorder.track(batches()):
            model(images)


def test_an_odd_layer_does_not_stop_the_training(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to("meta")  # shapes without values: nothing can be copied

    class Around(Net):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd()

        def features(self, x: torch.Tensor) -> torch.Tensor:
            self.odd(x)
            return super().features(x)

    model = Around()
    recorder = Recorder(model, tmp_path / "run.h5", layers=["conv1", "odd"])
    with pytest.warns(RecordingWarning) as caught:
        for images in recorder.track(batches()):
            model(images).sum().backward()
        recorder.close()
    said = [str(w.message) for w in caught]
    assert "cannot record odd" in said[0]
    assert {w.filename for w in caught} == {__file__}  # the training loop, not a line of ours
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.layers) == (4, ("conv1",))
        assert run.lost == 4

    model = Around()
    strict = Recorder(model, tmp_path / "strict.h5", layers=["odd"], on_error="raise")
    with pytest.raises(RecordingError, match="cannot record odd"):
        model(batches()[0])
    with pytest.warns(RecordingWarning):
        strict.close()


def test_warnings_as_errors_do_not_reach_the_training(tmp_path: Path, capfd) -> None:
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for images in recorder.track(batches(1)):
                model(images)
    assert "RecordingWarning: did not fire in the first batch: spare" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_write_into_the_frames_of_its_parent(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Identity())  # a convolution in a forked child may wait for ever
    batches = [torch.rand(2, 3, 8, 8) for _ in range(6)]
    with Recorder(model, tmp_path / "run.h5", layers=["0"]) as recorder:
        for number, images in enumerate(recorder.track(batches)):
            if number % 2:
                model(images)  # the parent's frame lies there, not yet sent
            child = os.fork()
            if not child:
                with contextlib.suppress(BaseException):
                    for other in recorder.track([torch.full((2, 3, 8, 8), 100.0)]):
                        model(other)
                os._exit(0)
            os.waitpid(child, 0)
            if not number % 2:
                model(images)
    with replay.open(tmp_path / "run.h5") as recording:
        for number, images in enumerate(batches):
            right = images[0].half().numpy()
            np.testing.assert_array_equal(recording["0"][0, number], right)


def test_frames_go_through_the_pipe_where_no_memory_can_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> int:
        raise OSError(38, "Function not implemented")

    torch.manual_seed(0)
    model = Net()
    batches = [torch.rand(2, 3, 8, 8) for _ in range(20)]
    for way in ("shared", "pipe"):
        if way == "pipe":
            monkeypatch.setattr(os, "memfd_create", none, raising=False)
        with Recorder(model, tmp_path / f"{way}.h5") as recorder:
            for images in recorder.track(batches):
                model(images)
            assert len(shared_memory()) == (way == "shared")
    with h5py.File(tmp_path / "shared.h5") as one, h5py.File(tmp_path / "pipe.h5") as other:
        for group in ("maps", "ranges", "checksums", "kernels"):
            assert one[group].keys() == other[group].keys() != set()
            for name, dataset in one[group].items():
                assert dataset.shape[:2] == (1, 20)
                np.testing.assert_array_equal(dataset[:], other[group][name][:])


def test_the_memory_of_an_earlier_layout_is_given_back(tmp_path: Path) -> None:
    model = Net()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        held = []
        for size in range(8, 80, 12):  # a new shape, a new layout
            for images in [torch.rand(1, 3, size, size)] * 40:
                model(images)
                recorder.step()
            recorder.flush()
            (memory,) = shared_memory()
            held.append(memory.st_blocks * 512)
        largest = 64 * recorder.layout.nbytes
        assert max(held) < 1.5 * largest
        frames = recorder.sent
    assert frames == recorder.committed == 6 * 40
