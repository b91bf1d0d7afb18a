"""A fixed image shown to the network at each recorded batch leaves no trace in the training."""

from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder, RecordingWarning
from record.__main__ import main
from replay.schema import OptionError


class Net(nn.Module):
    """Batch normalisation, dropout and a counter: all that an extra forward could disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(6).eval()
        self.fc = nn.Linear(6, 2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        noise = torch.rand(()) + random.random() + np.random.rand()
        x = self.frozen(self.drop(torch.relu(self.bn(self.conv(x)))))
        return self.fc(x.mean((2, 3))) + 0 * noise


IMAGES = torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(5))


def fit(path: Path | None, probe: torch.Tensor | None, **options: object) -> tuple[Net, list]:
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    data = [torch.randn(4, 3, 10, 10) for _ in range(3)]
    recorder = None if path is None else Recorder(model, path, probe=probe, **options)
    expected = []
    for _ in range(2):
        for images in data if recorder is None else recorder.track(data):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
            model.frozen.eval()
            if recorder is None:
                with torch.no_grad():
                    twin = Net().eval()
                    twin.load_state_dict(model.state_dict())
                    expected.append(twin.conv(IMAGES).half().numpy())
                random.seed(1), np.random.seed(1), torch.manual_seed(1)
            else:
                random.seed(1), np.random.seed(1), torch.manual_seed(1)
    if recorder is not None:
        recorder.close()
    return model, expected


def test_frames_and_an_undisturbed_training(tmp_path: Path) -> None:
    plain, expected = fit(None, None)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    model, _ = fit(tmp_path / "run.h5", IMAGES, layers=["conv", "bn"])
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert states == after
    for (name, here), there in zip(
        model.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(here, there), name
    assert [m.training for m in model.modules()] == [m.training for m in plain.modules()]
    with h5py.File(tmp_path / "run.h5", "r") as file:
        for number in range(2):
            maps = file[f"probe/{number}/maps/conv"]
            for place in range(6):
                frame = maps[divmod(place, 3)]
                assert frame.tobytes() == expected[place][number].tobytes()
            np.testing.assert_array_equal(
                file[f"probe/{number}/input"][:], IMAGES[number].half().numpy()
            )
        assert set(file["probe/0/maps"]) == {"conv", "bn"}
        assert "kernels" not in file["probe/0"]
        assert file["maps/conv"].shape == (2, 3, 6, 10, 10)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv", "bn")
        assert list(run.batches["missing"].ravel()) == [0] * 6


def test_only_at_recorded_batches(tmp_path: Path) -> None:
    model, _ = fit(tmp_path / "run.h5", IMAGES[0], layers="conv", every=2)
    with h5py.File(tmp_path / "run.h5", "r") as file:
        there = np.isfinite(file["probe/0/maps/conv"][:, :, 0, 0, 0])
        np.testing.assert_array_equal(there, [[True, False, True]] * 2)
    assert model.seen == 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("way", ["torch.compile", "compile in place"])
def test_a_compiled_model_is_not_compiled_again(tmp_path: Path, way: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model = Wrapped(model)
    torch.compiler.reset()
    if way == "torch.compile":
        forward = torch.compile(model, backend="aot_eager")
    else:
        model.compile(backend="aot_eager")
        forward = model
    data = [torch.randn(4, 3, 10, 10) for _ in range(8)]
    with Recorder(model, tmp_path / "run.h5", probe=IMAGES[:1]) as recorder:
        for number, images in enumerate(recorder.track(data)):
            if number == 4:
                torch.compiler.set_stance("fail_on_recompile")
            forward(images).mean().backward()
    torch.compiler.set_stance("default")
    with h5py.File(tmp_path / "run.h5", "r") as file:
        assert np.isfinite(file["probe/0/maps/inner.0"][:]).all()
        assert np.isfinite(file["maps/inner.0"][:]).all()


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_probe_comes_as_the_training_images_do(tmp_path: Path, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).to(dtype)
    with Recorder(model, tmp_path / "run.h5", probe=IMAGES[:1]) as recorder:
        for images in recorder.track([IMAGES.to(dtype)]):
            model(images)
    with h5py.File(tmp_path / "run.h5", "r") as file, torch.no_grad():
        expected = model(IMAGES[:1].to(dtype))[0].half().numpy()
        assert file["probe/0/maps/0"][0, 0].tobytes() == expected.tobytes()


def test_autocast_of_the_training_holds_for_the_probe(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with Recorder(model, tmp_path / "run.h5", probe=IMAGES[:1]) as recorder:
        for images in recorder.track([IMAGES]):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                model(images)
    with h5py.File(tmp_path / "run.h5", "r") as file, torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = model(IMAGES[:1])[0].half().numpy()
        assert file["probe/0/maps/0"][0, 0].tobytes() == expected.tobytes()


def test_a_probe_that_the_model_does_not_take_costs_the_probe_alone(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with (
        pytest.warns(RecordingWarning, match="the probe was given up: RuntimeError") as caught,
        Recorder(model, tmp_path / "run.h5", probe=torch.rand(1, 5, 9, 9)) as recorder,
    ):
        for images in recorder.track([IMAGES] * 3):
            model(images)
    assert len(caught) == 1
    assert model.training
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost) == (3, 0)


@pytest.mark.parametrize("probe", [torch.zeros(3, 3), torch.zeros(1, 3, 4, 4).long(), "cat.png"])
def test_probes_of_no_use(tmp_path: Path, probe: object) -> None:
    with pytest.raises(OptionError, match="probe: expected"):
        Recorder(Net(), tmp_path / "run.h5", probe=probe)


def test_train_records_a_test_image(tmp_path: Path) -> None:
    small = ["--samples", "8", "--epochs", "1", "--image-size", "16", "--quiet", "--device", "cpu"]
    path = tmp_path / "run.h5"
    assert main(["train", *small, "--probe", "2", "-o", str(path)]) == 0
    with h5py.File(path, "r") as file:
        assert set(file["probe"]) == {"0", "1"}
        assert file["probe/1/input"].attrs["mean"].tolist() == [0.5] * 3
    with replay.open(path) as run:
        assert [set(entry) for entry in run.meta["probe"]] == [{"label"}] * 2
    assert main(["train", *small, "--probe", "0", "-o", str(path), "--overwrite"]) == 0
    with h5py.File(path, "r") as file:
        assert "probe" not in file
