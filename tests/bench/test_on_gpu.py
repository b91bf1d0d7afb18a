"""The benchmark of GPUs skips each line openly without one; its trainings run on a processor."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SPEED = Path(__file__).parents[2] / "scripts" / "bench" / "speed"


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SPEED))
    spec = importlib.util.spec_from_file_location("on_gpu", SPEED / "on_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "on_gpu", module)  # where its dataclass looks for its names
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_each_line_is_skipped_and_says_so(
    on_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = list(on_gpu.lines(True))
    assert len(lines) == len(on_gpu.CASES) + 2
    assert {(line.verdict, line.note) for line in lines} == {("skipped", "skipped: no CUDA device")}
    words = " ".join(line.what for line in lines)
    for kind in ("ResNet-50", "ConvNeXt", "ViT-B", "tiny", "bfloat16", "channels last", "DDP"):
        assert kind in words


@pytest.mark.slow
def test_its_trainings_are_recorded(on_gpu: ModuleType) -> None:
    wanted = {"tiny", "ResNet-50, bfloat16, channels last", "ViT-B, attention"}
    wanted.add("ResNet-50, class activation of 10 images, every=10")
    cases = [
        dataclasses.replace(
            case,
            model=case.model if "vit" in case.model else "tiny",
            size=32,
            batch=2,
        )
        for case in on_gpu.CASES
        if case.words in wanted
    ]
    assert len(cases) == 4
    *lines, of_memory = on_gpu.lines(True, torch.device("cpu"), tuple(cases))
    for line in lines:  # one for each case, and that of two processes
        assert line.value is not None, line.note
        assert line.value > 0
    assert len(lines) == 5
    assert of_memory.note == "skipped: no CUDA device"
