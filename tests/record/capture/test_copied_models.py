"""Copies of a model that is recorded have no hook of the recorder."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import numbered, small
from torch import nn

import replay
from record import Recorder


class Own(nn.Module):
    """Copies itself in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)

    def __deepcopy__(self, memo: Any) -> Own:
        twin = Own.__new__(Own)
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __reduce__(self) -> Any:
        return _again, (self.__dict__,)


def _again(state: dict[str, Any]) -> Own:
    twin = Own.__new__(Own)
    twin.__dict__.update(state)
    return twin


@pytest.mark.parametrize("make", [small, Own, lambda: torch.fx.symbolic_trace(small())])
@pytest.mark.parametrize("moment", ["before", "within", "behind", "between epochs"])
def test_copies_have_no_hook_of_ours(tmp_path: Path, make: Any, moment: str) -> None:
    model = make()
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    handle = first.register_forward_hook(_count_mine)
    copies: list[nn.Module] = []

    def take() -> None:
        copies.extend([copy.deepcopy(model), pickle.loads(pickle.dumps(model))])
        saved = io.BytesIO()
        torch.save(model, saved)
        assert b"nullcontext" not in saved.getvalue()

    if moment == "within":
        first.register_forward_pre_hook(_Taking(take, copies))
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for _ in range(2):
            for images in recorder.track(numbered(2)):
                if moment == "before":
                    take()
                model(images).sum().backward()
                if moment == "behind":
                    take()
            if moment == "between epochs":
                take()
    assert copies
    for twin in copies:
        for module in twin.modules():
            hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            assert all(hook is _count_mine or isinstance(hook, _Taking) for hook in hooks)
            assert len(module._forward_hooks_with_kwargs) == 0
            assert len(module._forward_hooks_always_called) == 0
            assert len(module._forward_pre_hooks_with_kwargs) == 0
    mine = [m for m in copies[-1].modules() if _count_mine in m._forward_hooks.values()]
    assert len(mine) == 1  # what the user has hooked is copied as ever
    handle.remove()
    for module in model.modules():
        assert not module._forward_hooks
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost) == (4, 0)


def _count_mine(module: nn.Module, args: Any, output: Any) -> None:
    """A hook of the user's."""


class _Taking:
    """A hook of the user's that copies the model in the middle of its forward."""

    def __init__(self, take: Callable[[], None], copies: list[nn.Module]) -> None:
        self.take, self.copies = take, copies

    def __call__(self, module: nn.Module, args: Any) -> None:
        if not self.copies:
            self.copies.append(nn.Identity())
            self.take()

    def __deepcopy__(self, memo: Any) -> _Taking:
        return self

    def __reduce__(self) -> Any:
        return _Taking, (print, [nn.Identity()])


def test_a_copy_can_be_scripted_and_loaded_with_weights_only(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    images = numbered(1)[0]
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for batch in recorder.track([images]):
            model(batch).sum().backward()
            best = copy.deepcopy(model)
        saved = io.BytesIO()
        torch.save(best, saved)
        whole = io.BytesIO()
        torch.save(model, whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(best)
            assert torch.equal(scripted(images), model(images))
            torch.jit.script(torch.optim.swa_utils.AveragedModel(model).module)
    known = [nn.Sequential, nn.Conv2d, nn.Flatten, nn.Linear]
    for buffer in (saved, whole):
        buffer.seek(0)
        with torch.serialization.safe_globals(known):
            torch.load(buffer, weights_only=True)


def test_a_copy_has_no_hook_of_ours_where_torch_has_just_made_its_class(tmp_path: Path) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in recorder.track(numbered(2)):
            model(images).sum().backward()
            if not hasattr(model[0], "parametrizations"):
                nn.utils.parametrizations.weight_norm(model[0])
            twin = copy.deepcopy(model)
            assert all(not module._forward_hooks for module in twin.modules())
