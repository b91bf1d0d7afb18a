"""Gradients of the recorded maps: those of an unrecorded twin that keeps them, to float16."""

from __future__ import annotations

import copy
import gc
import weakref
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from gradient_trainings import (
    Recurrent,
    Residual,
    Retained,
    Transformer,
    close_to_float16,
    images,
    loss_of,
    plain,
    read,
    record_and_compare,
    train,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

import replay
from record import Recorder, RecordingWarning
from record.capture import map_gradient
from replay.schema import OptionError

pytestmark = pytest.mark.usefixtures("deterministic", "poisoned_buffers")

RESIDUAL = {"conv1": 0, "bn": 0, "conv2": 0, "head": 0}


def test_convolutions_and_what_was_changed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    record_and_compare(path, Residual(), RESIDUAL)
    with h5py.File(path) as file:
        for name in RESIDUAL:
            maps = file[f"gradients/maps/{name}"]
            assert maps.shape == file[f"maps/{name}"].shape
            assert maps.attrs["of"] == "loss"
            assert file[f"gradients/exponents/{name}"].dtype == np.int16
            largest = np.abs(maps[0].astype(np.float64)).reshape(3, -1).max(axis=1)
            assert ((largest >= 2**14) & (largest <= 2**15)).all()
        assert not file["batches/missing"][0].any()


def test_calls_of_one_module_each_have_theirs(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    axes = {"conv1": 0, "relu": 0}
    record_and_compare(path, Residual(), axes, names=["conv1", "relu", "relu#1"])


def test_tokens_and_views(tmp_path: Path) -> None:
    axes = {"patches": 0, "blocks.layers.0": 0, "blocks.layers.1.self_attn": 0, "head": 0}
    record_and_compare(tmp_path / "run.h5", Transformer(), axes)


def test_the_axis_of_the_batch_may_be_the_second(tmp_path: Path) -> None:
    record_and_compare(tmp_path / "run.h5", Recurrent(), {"lstm": 1, "head": 0})


def test_channels_last(tmp_path: Path) -> None:
    batches = [batch.to(memory_format=torch.channels_last) for batch in images()]
    model = Residual().to(memory_format=torch.channels_last)
    record_and_compare(tmp_path / "run.h5", model, RESIDUAL, batches=batches)


def test_images_of_several_sizes(tmp_path: Path) -> None:
    batches = [batch[..., :size, :size] for batch, size in zip(images(), (8, 6, 8), strict=True)]
    model = Residual()
    twin = Retained(model, {"conv2": 0})
    path = tmp_path / "run.h5"
    with Recorder(model, path, "conv2", gradients=True, quiet=True) as recorder:
        train(model, batches, recorder=recorder)
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, batches, after=lambda: right.append(twin.take()))
    for batch, name in enumerate(("conv2", "conv2@6x6x6", "conv2")):
        close_to_float16(read(path, name, batch), right[batch]["conv2"])


def test_a_pooled_map_has_the_sum_over_each_block(tmp_path: Path) -> None:
    model, path = Residual(), tmp_path / "run.h5"
    twin = Retained(model, {"conv2": 0})
    with Recorder(model, path, "conv2", gradients=True, max_map=3, quiet=True) as recorder:
        train(model, images(), recorder=recorder)  # blocks of 3, 3 and 2 of 8 values
    right: list[np.ndarray] = []
    train(twin.model, images(), after=lambda: right.append(twin.take()["conv2"]))
    for batch, whole in enumerate(right):
        rows = np.add.reduceat(whole, [0, 3, 6], axis=1)
        sums = np.add.reduceat(rows, [0, 3, 6], axis=2)
        found = read(path, "conv2", batch)
        np.testing.assert_allclose(found, sums, atol=np.abs(sums).max() * 2**-10)
    with h5py.File(path) as file:
        assert file["gradients/maps/conv2"].attrs["pooled"] == 3


def bfloat16(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model(batch))
    loss.backward()
    return loss


def test_autocast(tmp_path: Path) -> None:
    record_and_compare(tmp_path / "run.h5", Residual(), RESIDUAL, bfloat16)


def test_several_backward_passes_are_summed(tmp_path: Path) -> None:
    def two_losses(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        output = model(batch)
        loss = loss_of(output)
        loss.backward(retain_graph=True)
        output.square().mean().backward()
        return loss

    record_and_compare(tmp_path / "run.h5", Residual(), RESIDUAL, two_losses)


def test_accumulated_batches_are_batches_of_their_own(tmp_path: Path) -> None:
    path, model, batches = tmp_path / "run.h5", Residual(), images(4)
    twin = Retained(model, RESIDUAL)

    def accumulate(net: nn.Module, given: Any, after: Any) -> None:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for number, batch in enumerate(given):
            (loss_of(net(batch)) / 2).backward()
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()
            after()

    right: list[dict[str, np.ndarray]] = []
    with Recorder(model, path, list(RESIDUAL), gradients=True, quiet=True) as recorder:
        accumulate(model, recorder.track(batches), lambda: None)
    accumulate(twin.model, batches, lambda: right.append(twin.take()))
    for batch, each in enumerate(right):
        for name, gradient in each.items():
            close_to_float16(read(path, name, batch), gradient)


def test_what_is_no_backward_pass_does_not_count(tmp_path: Path) -> None:
    def with_penalty(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        batch = batch.clone().requires_grad_()
        output = model(batch)
        (slope,) = torch.autograd.grad(output.sum(), batch, create_graph=True)
        for kept in twin.kept.values():
            kept.grad = None  # of this pass, where the twin is trained
        loss = loss_of(output) + slope.square().sum()
        loss.backward()
        return loss

    path, model = tmp_path / "run.h5", Residual()
    twin = Retained(model, {"conv1": 0, "conv2": 0})
    layers = ["conv1", "conv2"]
    with Recorder(model, path, layers, gradients=True, quiet=True) as recorder:
        train(model, images(), with_penalty, recorder)
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, images(), with_penalty, after=lambda: right.append(twin.take()))
    for batch in range(3):
        close_to_float16(read(path, "conv2", batch), right[batch]["conv2"])


def test_a_training_by_grad(tmp_path: Path) -> None:
    def by_grad(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        loss = loss_of(model(batch))
        parameters = list(model.parameters())
        found = torch.autograd.grad(loss, parameters, create_graph=True)
        size = sum(one.square().sum() for one in found)
        torch.autograd.grad(size, parameters)  # of gradients: not the training's
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient.detach()
        return loss

    path, model = tmp_path / "run.h5", Residual()
    twin = Retained(model, RESIDUAL)
    with Recorder(model, path, list(RESIDUAL), gradients=True, quiet=True) as recorder:
        train(model, images(), by_grad, recorder)
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, images(), after=lambda: right.append(twin.take()))
    for batch, each in enumerate(right):
        for name, gradient in each.items():
            found = read(path, name, batch)
            np.testing.assert_allclose(found, gradient, atol=np.abs(gradient).max() * 2**-9)


class Checkpointed(Residual):
    """Computes its convolutions anew in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def first(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv1(x)))

    def second(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        x = checkpoint(self.first, x, use_reentrant=self.reentrant)
        x = checkpoint(self.second, x, use_reentrant=self.reentrant)
        return self.head(x.mean((2, 3)))


class Straight(Checkpointed):
    """The same without."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(tmp_path: Path, reentrant: bool) -> None:
    model, path = Checkpointed(reentrant), tmp_path / "run.h5"
    straight = Straight(reentrant)
    straight.load_state_dict(model.state_dict())
    twin = Retained(straight, RESIDUAL)
    with Recorder(model, path, list(RESIDUAL), gradients=True, quiet=True) as recorder:
        train(model, images(), recorder=recorder)
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, images(), after=lambda: right.append(twin.take()))
    for name in RESIDUAL:
        close_to_float16(read(path, name, 0), right[0][name])  # later ones have other weights:
        found = read(path, name, 2)  # batch normalisation sees each batch twice
        assert np.isfinite(found).all()
        assert found.any()


class Constant(nn.Module):
    """A loss whose gradient with respect to the layer is so large everywhere, or as given."""

    def __init__(self, factor: float, spoil: float | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.factor, self.spoil = factor, spoil

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.arange(1.0, 73.0).view(2, 6, 6) * self.factor
        if self.spoil is not None:
            weight[0, 0, 0] = self.spoil
        return (self.conv(x) * weight).sum()


@pytest.fixture(params=[1, 1 << 20])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients are scaled when they come, as large ones are, or when their batch ends."""
    monkeypatch.setattr(map_gradient, "_LARGE", request.param)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("factor", [1e-12, 1e-37, 1e-44, 0.0, 1.0, 1e12, 4e36])
def test_exponents_keep_gradients_of_any_size(tmp_path: Path, factor: float) -> None:
    def summed(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        loss = model(batch)
        loss.backward()
        return loss

    model, path = Constant(factor), tmp_path / "run.h5"
    with Recorder(model, path, "conv", gradients=True, quiet=True) as recorder:
        train(model, images(3), summed, recorder)
    right = (torch.arange(1.0, 73.0).view(2, 6, 6) * factor).double().numpy()
    with h5py.File(path) as file:
        for batch in range(3):
            if factor:
                close_to_float16(read(path, "conv", batch), right)
            exponent = int(file["gradients/exponents/conv"][0, batch])
            largest = np.abs(file["gradients/maps/conv"][0, batch].astype(np.float64)).max()
            assert exponent == (np.frexp(right.max())[1] - 15 if factor else 0)
            assert 2**14 <= largest <= 2**15 if factor else largest == 0


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("factor", [1e-42, 1e36])
def test_large_and_small_gradients_of_several_passes_are_summed(
    tmp_path: Path, factor: float
) -> None:
    """From the second batch on, what was scaled when the first pass came by is a sum again."""

    def twice(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        loss = model(batch)
        loss.backward(retain_graph=True)
        (2.0 * loss).backward()
        return loss

    model, path = Constant(factor), tmp_path / "run.h5"
    with Recorder(model, path, "conv", gradients=True, quiet=True) as recorder:
        train(model, images(3), twice, recorder)
    right = (3 * torch.arange(1.0, 73.0).view(2, 6, 6) * factor).double().numpy()
    for batch in range(3):
        close_to_float16(read(path, "conv", batch), right)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("spoil", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so_and_the_rest_as_it_is(tmp_path: Path, spoil: float) -> None:
    def summed(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        loss = model(batch)
        loss.backward()
        return loss

    model, path = Constant(1e-9, spoil), tmp_path / "run.h5"
    with Recorder(model, path, "conv", gradients=True, quiet=True) as recorder:
        train(model, images(3), summed, recorder)
    found = read(path, "conv", 2)
    right = (torch.arange(1.0, 73.0).view(2, 6, 6) * 1e-9).double().numpy()
    np.testing.assert_equal(found[0, 0, 0], spoil)
    found[0, 0, 0] = right[0, 0, 0]
    close_to_float16(found, right)
    with h5py.File(path) as file:
        assert file["batches/nan"][0, 0] == file["batches/inf"][0, 0] == 0  # of maps alone


def scaling(scaler: Any) -> Any:
    def scaled(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        loss = loss_of(model(batch))
        (scaler.scale(loss) / 2).backward()
        for parameter in model.parameters():
            parameter.grad.div_(scaler.get_scale())
        scaler._scale.mul_(2)  # as `update` grows it
        return loss

    return scaled


def test_the_factor_of_a_grad_scaler_is_divided_out(tmp_path: Path) -> None:
    path, model = tmp_path / "run.h5", Residual()
    twin = Retained(model, RESIDUAL)

    def unscaled(net: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        loss = loss_of(net(batch))
        (loss / 2).backward()
        return loss

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with Recorder(model, path, list(RESIDUAL), gradients=True, quiet=True) as recorder:
        train(model, images(), scaling(scaler), recorder)
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, images(), unscaled, after=lambda: right.append(twin.take()))
    for batch, each in enumerate(right):
        for name, gradient in each.items():
            close_to_float16(read(path, name, batch), gradient)


def passed_back(loss: Any) -> Any:
    def step(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        found = loss_of(model(batch))
        loss(found).backward()
        return found

    return step


def two_scalers() -> list[torch.amp.GradScaler]:
    """Two of factors of their own, both of which have scaled something."""
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**n) for n in (10, 16)]
    for scaler in scalers:
        scaler.scale(torch.ones(()))
    return scalers


@pytest.mark.parametrize(
    ("scaled", "as_if"),
    [
        (lambda loss, a, b: a.scale(loss), lambda loss: loss),
        (lambda loss, a, b: b.scale([0.5 * loss, loss])[0], lambda loss: 0.5 * loss),
        (lambda loss, a, b: 0.25 * a.scale(loss + 1) / 3, lambda loss: loss / 12),
        (lambda loss, a, b: 0.5 * loss, lambda loss: 0.5 * loss),  # by none of them
        (lambda loss, a, b: loss * torch.tensor(3.0), lambda loss: 3 * loss),
        (lambda loss, a, b: 2.0**10 * loss, lambda loss: 2.0**10 * loss),  # as large as one's
        (lambda loss, a, b: a.scale(loss) + a.scale(2 * loss), lambda loss: 3 * loss),
    ],
)
def test_what_scaled_a_loss_is_known(tmp_path: Path, scaled: Any, as_if: Any) -> None:
    path, model = tmp_path / "run.h5", Residual()
    twin = Retained(model, RESIDUAL)
    with Recorder(model, path, list(RESIDUAL), gradients=True, quiet=True) as recorder:
        a, b = two_scalers()
        train(model, images(1), passed_back(lambda loss: scaled(loss, a, b)), recorder)
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, images(1), passed_back(as_if), after=lambda: right.append(twin.take()))
    for name, gradient in right[0].items():
        close_to_float16(read(path, name, 0), gradient)
    with h5py.File(path) as file:
        assert all("note" not in each.attrs for each in file["gradients/maps"].values())


@pytest.mark.parametrize(
    "scaled",
    [
        lambda loss, a, b: a.scale(loss) + b.scale(loss),
        lambda loss, a, b: a.scale(loss) + loss,
        lambda loss, a, b: loss * a._scale,  # by itself, past `scale`
    ],
)
def test_where_it_cannot_be_known_that_is_said(tmp_path: Path, scaled: Any) -> None:
    path, model = tmp_path / "run.h5", Residual()
    a, b = two_scalers()
    with Recorder(model, path, "conv1", gradients=True, quiet=True) as recorder:
        train(model, images(1), passed_back(lambda loss: scaled(loss, a, b)), recorder)
    with h5py.File(path) as file:
        note = file["gradients/maps/conv1"].attrs["note"]
        assert note == "scaled by the GradScaler's factor, which is not known"
        assert "note" not in file["maps/conv1"].attrs


def test_grad_scalers_are_as_they_were(tmp_path: Path) -> None:
    before = torch.amp.GradScaler.scale
    with Recorder(Residual(), tmp_path / "a.h5", "conv1", gradients=True, quiet=True) as recorder:
        train(recorder_model := Residual(), [], scaling(None), recorder)
        assert torch.amp.GradScaler.scale is not before
    assert torch.amp.GradScaler.scale is before
    del recorder_model
    with Recorder(Residual(), tmp_path / "b.h5", "conv1", quiet=True):
        assert torch.amp.GradScaler.scale is before


def test_what_has_no_gradient_is_missing_and_named_once(tmp_path: Path) -> None:
    path, model = tmp_path / "run.h5", Residual()
    model.conv1.requires_grad_(False)
    layers = list(RESIDUAL)
    with (
        pytest.warns(RecordingWarning, match="no gradients of conv1: ") as said,
        Recorder(model, path, layers, gradients=True, quiet=True) as recorder,
    ):
        train(model, images(), recorder=recorder)
    assert len(said) == 1
    assert recorder.lost == 0
    with h5py.File(path) as file:
        assert set(file["gradients/maps"]) == {"bn", "conv2", "head"}
        assert not file["batches/missing"][0].any()


class Spectral(nn.Module):
    """A complex convolution, and one of its magnitudes."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Conv2d(1, 2, 3, dtype=torch.complex64)
        self.real = nn.Conv2d(2, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = self.real(self.spectrum(x.to(torch.complex64)).abs())
        return whole.mean((2, 3))


@pytest.mark.parametrize("layers", [["spectrum"], ["spectrum", "real"]])
def test_complex_values_have_none_and_that_is_why(tmp_path: Path, layers: list[str]) -> None:
    path = tmp_path / "run.h5"
    model = Spectral()
    with (
        pytest.warns(RecordingWarning) as told,
        Recorder(model, path, layers=layers, gradients=True, quiet=True) as recorder,
    ):
        for batch in recorder.track([torch.rand(2, 1, 8, 8) for _ in range(3)]):
            model(batch).sum().backward()
    assert [str(one.message) for one in told] == [
        "gradients of spectrum are not recorded, its maps are: it puts out complex values, whose "
        "magnitude is recorded"
    ]
    with replay.open(path) as run:
        assert np.isfinite(run["spectrum"][0, 2]).all()
        assert run.lost == 0
        if "real" in layers:
            assert np.isfinite(run.beside("gradients")["real"][0, 2]).all()


def test_a_batch_without_a_backward_pass(tmp_path: Path) -> None:
    path, model = tmp_path / "run.h5", Residual()
    count = iter(range(3))

    def sometimes(net: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        loss = loss_of(net(batch))
        if next(count) != 1:
            loss.backward()
        return loss

    with (
        pytest.warns(RecordingWarning, match="a batch has no gradients: no backward pass") as said,
        Recorder(model, path, list(RESIDUAL), gradients=True, quiet=True) as recorder,
    ):
        train(model, images(), sometimes, recorder)
    assert len(said) == 1
    assert recorder.lost == 0
    with h5py.File(path) as file:
        stored = file["gradients/maps/conv2"][0]
        assert [bool(np.isnan(each).all()) for each in stored] == [False, True, False]
        assert [bool(one) for one in file["gradients/checksums/conv2"][0]] == [True, False, True]
        assert not file["batches/missing"][0].any()
        assert np.isfinite(file["maps/conv2"][0]).all()


def test_a_backward_pass_after_the_end_of_its_batch_is_no_other_ones(tmp_path: Path) -> None:
    path, model = tmp_path / "run.h5", Residual()
    late: list[torch.Tensor] = []
    with (
        pytest.warns(RecordingWarning, match="a batch has no gradients: no backward pass"),
        Recorder(model, path, gradients=True, quiet=True) as recorder,
    ):
        for batch in recorder.track(images()):
            loss = loss_of(model(batch))
            for before in late:
                before.backward()  # while this one's is awaited
            late[:] = [loss]
    with h5py.File(path) as file:
        assert "gradients" not in file


class InPlaceView(nn.Module):
    """What the first layer puts out is a view, which is used and then changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.first = nn.Conv2d(3, 2, 3)
        self.last = nn.Linear(72, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.flatten(self.first(x))
        other = 2 * flat
        return self.last(flat.mul_(3) + other)


def test_a_view_that_is_changed_in_place_has_no_wrong_gradient(tmp_path: Path) -> None:
    path, model = tmp_path / "run.h5", InPlaceView()
    twin = Retained(model, {"last": 0})
    layers = ["flatten", "last"]
    with (
        pytest.warns(RecordingWarning, match="no gradients of flatten: "),
        Recorder(model, path, layers, gradients=True, quiet=True) as recorder,
    ):
        train(model, images(1), recorder=recorder)
    train(twin.model, images(1))
    with h5py.File(path) as file:
        assert set(file["gradients/maps"]) == {"last"}
        assert set(file["maps"]) == {"flatten", "last"}
    close_to_float16(read(path, "last", 0), twin.take()["last"])


def test_some_layers_alone(tmp_path: Path) -> None:
    model, path = Residual(), tmp_path / "run.h5"
    layers = ["conv1", "conv2"]
    with Recorder(model, path, layers, gradients="*2", quiet=True) as recorder:
        train(model, images(1), recorder=recorder)
    with h5py.File(path) as file:
        assert set(file["gradients/maps"]) == {"conv2"}
        assert set(file["maps"]) == {"conv1", "conv2"}
    with pytest.raises(OptionError, match="gradients: expected layers that are recorded"):
        Recorder(model, tmp_path / "b.h5", "conv1", gradients="conv2")
    with pytest.raises(OptionError, match="no layer matches"):
        Recorder(model, tmp_path / "b.h5", "conv1", gradients="nothing")


def test_a_compiled_model_has_maps_and_no_gradients(tmp_path: Path) -> None:
    model, path = Residual(), tmp_path / "run.h5"
    with (
        pytest.warns(RecordingWarning, match="gradients are not recorded, maps are") as said,
        Recorder(model, path, ["conv1", "conv2"], gradients=True, quiet=True) as recorder,
    ):
        compiled = torch.compile(model, backend="aot_eager")
        train(compiled, images(), recorder=recorder)
    assert sum("gradients" in str(one.message) for one in said) == 1
    with h5py.File(path) as file:
        assert "gradients" not in file
        assert np.isfinite(file["maps/conv2"][0]).all()


def test_nothing_of_a_batch_stays_alive(tmp_path: Path) -> None:
    model, path = Residual(), tmp_path / "run.h5"
    seen: list[weakref.ref[torch.Tensor]] = []
    model.conv2.register_forward_hook(lambda *given: seen.append(weakref.ref(given[2])))
    gc.collect()
    gc.disable()  # what is in a cycle would stay
    try:
        with Recorder(model, path, gradients=True, quiet=True) as recorder:
            for number, batch in enumerate(recorder.track(images(4))):
                plain(model, batch)
                assert [one() is None for one in seen] == [True] * len(seen), number
            hooks = [one for one in gc.get_objects() if type(one).__name__ == "_GraphHook"]
            assert len(hooks) == 0
    finally:
        gc.enable()


def test_a_graph_that_is_kept_keeps_no_gradients(tmp_path: Path) -> None:
    model, path, kept = Residual(), tmp_path / "run.h5", []

    def keep(net: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        kept.append(loss_of(net(batch)))
        kept[-1].backward(retain_graph=True)
        return kept[-1]

    with Recorder(model, path, gradients=True, quiet=True) as recorder:
        for batch in recorder.track(images()):
            keep(model, batch)
    gc.collect()
    hooks = [one for one in gc.get_objects() if type(one).__name__ == "_GraphHook"]
    assert len(hooks) == 6  # of three graphs
    assert all(hook.target is None for hook in hooks)
    alive = [one for one in gc.get_objects() if type(one).__name__ == "MapGradient"]
    assert all(one.total is None for one in alive)
    kept[0].backward()


def test_a_failing_hook_raises_nothing_into_the_backward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no room")

    model, path = Residual(), tmp_path / "run.h5"
    alone = copy.deepcopy(model)
    monkeypatch.setattr("record.capture.map_gradient.image_part", broken)
    with (
        pytest.warns(RecordingWarning, match="gradients of conv2 are not recorded: RuntimeError"),
        Recorder(model, path, "conv2", gradients=True, quiet=True) as recorder,
    ):
        train(model, images(), recorder=recorder)
    train(alone, images())
    for mine, other in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(mine, other)
    with replay.open(path) as run:
        assert run.layers == ("conv2",)


def test_beside_hooks_of_the_users_own(tmp_path: Path) -> None:
    def watch(net: nn.Module) -> None:
        net.conv2.register_full_backward_hook(lambda module, inputs, outputs: None)
        net.bn.register_forward_hook(lambda module, args, output: output * 2)

    model, path = Residual(), tmp_path / "run.h5"
    twin = Retained(model, {"conv1": 0, "conv2": 0})
    watch(model)
    watch(twin.model)
    layers = ["conv1", "conv2"]
    with Recorder(model, path, layers, gradients=True, quiet=True) as recorder:
        train(model, images(), recorder=recorder)
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, images(), after=lambda: right.append(twin.take()))
    for batch, each in enumerate(right):
        for name, gradient in each.items():
            close_to_float16(read(path, name, batch), gradient)


def test_distributed_data_parallel(tmp_path: Path) -> None:
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        model, path = Residual(), tmp_path / "run.h5"
        twin = Retained(model, RESIDUAL)
        wrapped = nn.parallel.DistributedDataParallel(model)
        with Recorder(wrapped, path, list(RESIDUAL), gradients=True, quiet=True) as recorder:
            train(wrapped, images(), recorder=recorder)
    finally:
        torch.distributed.destroy_process_group()
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, images(), after=lambda: right.append(twin.take()))
    for batch, each in enumerate(right):
        for name, gradient in each.items():
            close_to_float16(read(path, name, batch), gradient)


def test_forwards_alone_that_separate_batches(tmp_path: Path) -> None:
    model, path = Residual(), tmp_path / "run.h5"
    twin = Retained(model, {"conv1": 0})
    with Recorder(model, path, "conv1", gradients=True, quiet=True):
        train(model, images())  # without track and step
    right: list[np.ndarray] = []
    train(twin.model, images(), after=lambda: right.append(twin.take()["conv1"]))
    for batch, gradient in enumerate(right):
        close_to_float16(read(path, "conv1", batch), gradient)


def test_beside_attention_fixed_images_and_class_activation(tmp_path: Path) -> None:
    model, path = Transformer(), tmp_path / "run.h5"
    axes = {"patches": 0, "blocks.layers.0": 0, "blocks.layers.1": 0}
    twin = Retained(model, axes)
    with Recorder(
        model,
        path,
        list(axes),
        gradients=True,
        attention=True,
        cam=True,
        probe=torch.randn(2, 3, 8, 8),
        labels=[0, 1],
        quiet=True,
    ) as recorder:
        train(model, images(), recorder=recorder)
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, images(), after=lambda: right.append(twin.take()))
    for batch, each in enumerate(right):
        for name, gradient in each.items():
            close_to_float16(read(path, name, batch), gradient)


def test_off_there_is_nothing_of_it(tmp_path: Path) -> None:
    model = Residual()
    with Recorder(model, tmp_path / "run.h5", quiet=True) as recorder:
        assert recorder._capture.state.on_sealing is None
        hooks = [type(hook).__name__ for hook in model.conv1._forward_hooks.values()]
        assert hooks == ["LayerHook"]
