"""Several recorders of one model: each has what it would have alone, whichever ends first."""

from __future__ import annotations

import contextlib
import threading
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from gradient_trainings import Residual, Transformer, images, loss_of
from torch import nn

from record import Recorder
from record.capture.hidden_hooks import copy_guard

FIXED = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
EVERYTHING: dict[str, Any] = {
    "attention": "full",
    "gradients": True,
    "probe": FIXED,
    "labels": [1, None],
    "cam": True,
}
GROUPS = ("maps", "gradients", "attention", "probe", "input")


class Both(nn.Module):
    """Convolutions beside a transformer, which has a fast path in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.tokens = Residual(), Transformer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maps(x) + self.tokens(x)


def step(model: nn.Module, batch: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(model(batch)).backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        model(batch)
    model.train()


def fit(paths: dict[Path, tuple[int, int]], batches: int = 6) -> nn.Module:
    """Trains; each recorder is there from a batch to before another one."""
    torch.manual_seed(0)
    model = Both()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    recorders: dict[Path, Recorder] = {}
    for number, batch in enumerate(images(batches)):
        for path, (first, _) in paths.items():
            if number == first:
                recorders[path] = Recorder(model, path, quiet=True, **EVERYTHING)
        step(model, batch, optimizer)
        for path, (_, end) in paths.items():
            if path in recorders:
                recorders[path].step()
                if number == end - 1:
                    recorders.pop(path).close()
    return model


def contents(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.split("/")[0] in GROUPS:
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


@pytest.mark.parametrize(
    "spans",
    [
        ((0, 6), (2, 4)),  # within the other one
        ((0, 4), (2, 6)),  # one behind the other, and both in between
        ((0, 6), (0, 6)),
        ((0, 2), (0, 6)),
        ((0, 3), (3, 6)),
    ],
)
def test_each_has_what_it_would_have_alone(
    tmp_path: Path, spans: tuple[tuple[int, int], ...]
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*given up")
        warnings.filterwarnings("ignore", message="attention of every query")
        together = {tmp_path / f"{n}.h5": span for n, span in enumerate(spans)}
        model = fit(together)
        for path, span in together.items():
            alone = tmp_path / f"alone of {path.name}"
            assert all(map(torch.equal, fit({alone: span}).parameters(), model.parameters()))
            expected, found = contents(alone), contents(path)
            assert found.keys() == expected.keys()
            assert any(name.startswith("probe/1/cam") for name in found)
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values, err_msg=name)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_layer_that_is_replaced_is_for_both(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, paths = Residual(), (tmp_path / "0.h5", tmp_path / "1.h5")
    with contextlib.ExitStack() as stack:
        recorders = [
            stack.enter_context(Recorder(model, path, ["conv1", "conv2"], quiet=True))
            for path in paths
        ]
        stack.enter_context(pytest.warns(match="layers replaced: conv2"))
        for number, batch in enumerate(images(4)):
            if number == 2:
                model.conv2 = nn.Conv2d(6, 6, 3, padding=1)
            model(batch).sum().backward()
            for recorder in recorders:
                recorder.step()
    one, other = map(contents, paths)
    for name in ("maps/conv1", "maps/conv2"):
        assert np.isfinite(one[name]).all()
        np.testing.assert_array_equal(one[name], other[name])


def test_hooks_of_the_script_keep_their_place(tmp_path: Path) -> None:
    """Behind evaluation on a fast path, for which each recorder takes its hooks out."""
    model, order = Both(), []
    before = Recorder(model, tmp_path / "0.h5", quiet=True)
    model.tokens.patches.register_forward_hook(lambda *_: None)
    behind = Recorder(model, tmp_path / "1.h5", quiet=True)
    for _ in range(2):
        order.append(list(model.tokens.patches._forward_hooks))
        model.eval()
        model(FIXED)
        model.train()
    assert order[0] == order[1]
    assert len(order[0]) == 3
    before.close()
    assert list(model.tokens.patches._forward_hooks) == order[0][1:]
    behind.close()
    assert list(model.tokens.patches._forward_hooks) == order[0][1:2]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_grad_scalers_are_as_they_were(tmp_path: Path, order: tuple[int, int]) -> None:
    original = torch.amp.GradScaler.scale
    recorders = [
        Recorder(Residual(), tmp_path / f"{number}.h5", gradients=True, quiet=True)
        for number in range(2)
    ]
    for number in order:
        assert torch.amp.GradScaler.scale is not original
        recorders[number].close()
    assert torch.amp.GradScaler.scale is original


def test_a_recording_that_begins_while_the_last_one_ends_leaves_torch_as_it_was() -> None:
    before = vars(nn.Module)["__getstate__"]
    others: list[threading.Thread] = []

    class Watched(type):
        def __setattr__(cls, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if value is own_state:  # as it is put back
                others.append(threading.Thread(target=copy_guard.begin, args=(nn.Conv2d(3, 3, 1),)))
                others[0].start()
                others[0].join(0.2)  # longer only where it waits for the end of this one

    def own_state(model: nn.Module) -> Any:
        return nn.Module.__getstate__(model)

    model = Watched("Model", (nn.Sequential,), {"__getstate__": own_state})()
    copy_guard.begin(model)
    copy_guard.end()
    others[0].join()
    assert vars(nn.Module)["__getstate__"] is not before  # the other one goes on
    copy_guard.end()
    assert vars(nn.Module)["__getstate__"] is before
