"""Where listening to attention begins and ends, and what it leaves behind."""

from __future__ import annotations

import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from attention_models import Expected, TinyGPT, of_causal
from torch import nn
from torch.nn import functional

from record import Recorder

FUSED = functional.scaled_dot_product_attention


class Watched(TinyGPT):
    """Notes whether torch's functions are watched between its blocks; its forward can be left."""

    def __init__(self, flash: bool) -> None:
        super().__init__(flash, 0.0)
        self.modes: list[int] = []
        self.leave: type[BaseException] | None = None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.modes.append(torch._C._len_torch_function_stack())
        x = self.h[0](self.wte(tokens))
        if self.leave is not None:
            raise self.leave
        self.modes.append(torch._C._len_torch_function_stack())
        return self.lm_head(self.h[1](x))


def batches(count: int, device: str = "cpu") -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(2)
    return [torch.randint(0, 11, (3, 7), generator=make).to(device) for _ in range(count)]


def compare(path: Path, expected: Expected, of: slice = slice(None)) -> None:
    with h5py.File(path) as file:
        assert sorted(file["attention/maps"]) == ["h.0.attn", "h.1.attn"]
        for name, whole in expected.by_name.items():
            want = torch.stack(whole[of]).mean(2).cpu().numpy()
            np.testing.assert_allclose(file[f"attention/maps/{name}"][0], want, atol=1e-3)


@pytest.mark.parametrize("flash", [True, False])
def test_functions_are_watched_within_attention_alone(tmp_path: Path, flash: bool) -> None:
    """All of a forward is searched once; then nothing, or what was found in it."""
    model = Watched(flash)
    expected = Expected(model, {"CausalSelfAttention": of_causal})
    with Recorder(model, tmp_path / "run.h5", attention=True, quiet=True) as recorder:
        for tokens in recorder.track(batches(4)):
            model(tokens).sum().backward()
    assert model.modes == [1, 1, 0, 0, 0, 0, 0, 0]
    compare(tmp_path / "run.h5", expected)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("flash", [True, False])
def test_a_forward_that_is_left(tmp_path: Path, flash: bool, error: type[BaseException]) -> None:
    model = Watched(flash)
    expected = Expected(model, {"CausalSelfAttention": of_causal})
    with Recorder(model, tmp_path / "run.h5", attention=True, quiet=True) as recorder:
        for number, tokens in enumerate(recorder.track(batches(5))):
            if number in (0, 2):
                model.leave = error
                with pytest.raises(error):
                    model(tokens)
                model.leave = None
                model.eval()
                with torch.no_grad():
                    model(tokens)  # says nothing of the batch
                model.train()
                del expected.by_name["h.0.attn"][-1]
            else:
                model(tokens).sum().backward()
            assert functional.scaled_dot_product_attention is FUSED or error is KeyboardInterrupt
    assert functional.scaled_dot_product_attention is FUSED
    assert torch._C._len_torch_function_stack() == 0
    with h5py.File(tmp_path / "run.h5") as file:
        for name in ("h.0.attn", "h.1.attn"):
            found = file[f"attention/maps/{name}"][0].astype(float)
            want = torch.stack(expected.by_name[name]).mean(2).numpy()
            np.testing.assert_allclose(found[[1, 3, 4]], want, atol=1e-3)


def replica_of(module: nn.Module) -> nn.Module:
    """What DataParallel makes of a module for each of its devices."""
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        replica._modules[name] = replica_of(child)
    for name, weight in module._parameters.items():
        replica.__dict__[name] = None if weight is None else weight.clone()
    return replica


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.h = nn.Conv2d(3, 16, 4, 4), TinyGPT(dropout=0.0).h

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.h[1](self.h[0](self.conv(x).flatten(2).mT))


def test_the_replica_that_sees_the_first_image(tmp_path: Path) -> None:
    model = Patches()
    expected = Expected(model, {"CausalSelfAttention": of_causal})
    with Recorder(model, tmp_path / "run.h5", ["conv"], attention=True, quiet=True) as recorder:
        for images in recorder.track([torch.randn(4, 3, 12, 12) for _ in range(3)]):
            thread = threading.Thread(target=replica_of(model), args=(images[:2],))
            thread.start()
            thread.join()
    compare(tmp_path / "run.h5", expected)


def test_nothing_waits_for_a_device(tmp_path: Path, device: str) -> None:
    model = TinyGPT(dropout=0.0).to(device)
    expected = Expected(model, {"CausalSelfAttention": of_causal})
    given = batches(4, device)
    with Recorder(model, tmp_path / "run.h5", attention=True, quiet=True) as recorder:
        for number, tokens in enumerate(recorder.track(given)):
            if device == "cuda" and number > 1:
                torch.cuda.set_sync_debug_mode("error")
            try:
                model(tokens).sum().backward()
            finally:
                if device == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
    compare(tmp_path / "run.h5", expected)
