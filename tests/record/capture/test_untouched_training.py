"""A training takes the same ways with a recorder as without one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import Hooked, numbered, small, step, weights
from torch import nn

import replay
from record import Recorder


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "name", ["spectral_norm", "weight_norm", "orthogonal", "old_spectral_norm"]
)
def test_a_parametrisation_is_not_computed_once_more(tmp_path: Path, name: str, late: bool) -> None:
    def wrap(module: nn.Module) -> None:
        if name == "old_spectral_norm":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nn.utils.spectral_norm(module)
        else:
            getattr(nn.utils.parametrizations, name)(module)

    def train(path: Path | None) -> tuple[dict[str, bytes], list[float]]:
        torch.manual_seed(0)
        model = small()
        if not late:
            wrap(model[0])
        recorder = Recorder(model, path) if path else None
        if late:
            wrap(model[0])
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        data = numbered(4)
        losses = [
            step(model, images, optimizer).item()
            for images in (recorder.track(data) if recorder else data)
        ]
        if recorder:
            recorder.close()
        return weights(model), losses

    assert train(None) == train(tmp_path / "run.h5")


def test_a_transformer_in_evaluation_mode_takes_its_fast_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False
    )
    tokens = torch.randn(3, 7, 16)
    model.eval()
    with torch.no_grad():
        plain = model(tokens)
    model.train()
    with Recorder(model, tmp_path / "run.h5", layers="*linear1") as recorder:
        for batch in recorder.track([tokens, tokens]):
            model(batch).sum().backward()
            model.eval()
            with torch.no_grad():
                assert torch.equal(model(tokens), plain)
            model.train()
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 2


def test_the_training_s_own_forward_counts_and_not_a_pass_of_torch_func(tmp_path: Path) -> None:
    model = small()
    seen = Hooked(model)
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in recorder.track(numbered(3)):
            torch.func.grad(lambda z: model(z).square().mean())(3 * images)
            model(images).sum().backward()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.inputs is not None
        for number in range(3):
            assert (run.inputs[0, number] == 1 + number).all()
            assert run["0"][0, number].tobytes() == seen.by_input[1.0 + number]


@pytest.mark.parametrize("way", ["track", "step"])
def test_the_forward_that_is_trained_on_counts_and_not_one_without_gradients(
    tmp_path: Path, way: str
) -> None:
    """Pseudo-labels, in training mode: a look at other images before and behind the forward."""
    model = small()
    seen = Hooked(model)
    with Recorder(model, tmp_path / "run.h5", gradients=True, probe="first") as recorder:
        if way == "step":
            recorder.epoch(0)
        for images in recorder.track(numbered(3)) if way == "track" else numbered(3):
            with torch.no_grad():
                model(10 * images)
            with torch.inference_mode():
                model(20 * images)
            model(images).sum().backward()
            with torch.no_grad():
                model(30 * images)
            if way == "step":
                recorder.step()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.inputs is not None
        assert run.frames == [(0, 0), (0, 1), (0, 2)]
        for number in range(3):
            assert (run.inputs[0, number] == 1 + number).all()
            assert run["0"][0, number].tobytes() == seen.by_input[1.0 + number]
            assert np.isfinite(run.gradient("0")[0, number]).all()


def test_an_ensemble_that_vmap_stacks_has_maps_and_kernels_of_its_first_model(
    tmp_path: Path,
) -> None:
    models = [small(), small()]
    parameters, buffers = torch.func.stack_module_state(models)

    def call(parameters: Any, buffers: Any, images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.func.functional_call(models[0], (parameters, buffers), images)
        return output

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Recorder(models[0], tmp_path / "run.h5") as recorder:
            for images in recorder.track(numbered(2)):
                torch.func.vmap(call, (0, 0, None))(parameters, buffers, images).sum().backward()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.lost == 0
        convolution = models[0].get_submodule("0")
        for number, images in enumerate(numbered(2)):
            frame = convolution(images)[0].detach().half().numpy()
            np.testing.assert_allclose(run["0"][0, number], frame, atol=2e-3)
            kernels = run["0"].kernels(0, number)
            assert kernels.tobytes() == convolution.weight.detach().half().numpy().tobytes()
