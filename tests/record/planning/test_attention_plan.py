"""A plan counts the attention that will be recorded, and leaves torch and the model as they are."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch
from attention_models import TinyGPT
from torch.nn import functional

import record


@pytest.mark.parametrize(("asked", "frame"), [("cls", "2x7"), ("full", "2x7x7")])
def test_attention_in_a_plan(tmp_path: Path, asked: str, frame: str) -> None:
    model, tokens = TinyGPT(), torch.randint(0, 11, (2, 7))
    fused = functional.scaled_dot_product_attention
    plan = record.plan(model, batch=tokens, attention=asked)
    assert functional.scaled_dot_product_attention is fused
    assert plan.layer_lines()[-1].startswith(f"attention, 2 of up to {frame}, ")
    assert f"attention, 2 of up to {frame}" in plan.tree()
    assert [layer.name for layer in plan.layers] == ["h.0", "h.1"]
    with record.Recorder(model, tmp_path / "run.h5", attention=asked, quiet=True) as recorder:
        model(tokens)
        recorder.step()
    assert recorder.layout.layers == plan.layout.layers
    with h5py.File(tmp_path / "run.h5") as file:
        found = file["attention/maps/h.1.attn"].shape[2:]
    assert "x".join(map(str, found)) == frame
