"""Gradients that vanish or explode, and heads that look at one token or at all, and since when."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from looking import write_frames, write_looking
from PIL import Image
from samples import drifting_maps, write_recording
from torch import nn

import replay
from record import Recorder
from replay.__main__ import main
from replay.diagnosis.attention_heads import focus_and_entropy
from replay.diagnosis.report import Finding, Health

SHAPES = {"a": (2, 16, 16), "b": (2, 8, 8), "c": (2, 4, 4)}
Powers = Callable[[int, int], int]
NEW = {"vanishing", "exploding", "one-token", "uniform"}


def recording(path: Path, powers: dict[str, Powers], epochs: int = 4, batches: int = 10) -> Path:
    """Three layers with gradients of such powers of two, on top of sizes that are alike."""
    maps = {name: drifting_maps(*shape) for name, shape in SHAPES.items()}
    write_recording(path, maps, epochs=epochs, batches=batches)
    cells = [(e, b) for e in range(epochs) for b in range(batches)]
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        for name, power in powers.items():
            wave = drifting_maps(*SHAPES[name], seed=3)
            scale = 512 / math.sqrt(math.prod(SHAPES[name]))

            def frames(e: int, b: int, wave=wave, scale=scale) -> np.ndarray:
                return (wave(e, b) * scale).astype("<f2")

            about = {"axes": "CHW", "module": "Conv2d(1, 2, 3)", "of": "loss"}
            write_frames(file, "gradients/", name, frames, cells, about, power)
    return path


def even(epoch: int, batch: int) -> int:
    return -20 - 3 * (batch % 4)  # of some pictures there is less to learn


def new(found: Health) -> list[Finding]:
    return [one for one in found.all_findings if one.kind in NEW]


def test_gradients_that_are_alike_are_no_finding(tmp_path: Path) -> None:
    path = recording(tmp_path / "run.h5", dict.fromkeys(SHAPES, even))
    found = replay.health(path)
    assert new(found) == []
    layer = found.layers[0]
    with replay.open(path) as run:
        right = np.abs(run.gradient("a")[2, 3]).max() * math.sqrt(512)
    assert layer.gradients[2, 3] == pytest.approx(right)
    assert len(layer.gradients) == 40
    assert "  gradient    size, over the run: " in str(found)
    document = json.loads(found.to_json())
    assert document["layers"][0]["gradients"][0] == {
        "epoch": 0,
        "batch": 0,
        "size": layer.gradients[0, 0],
    }


def test_vanishing_since_a_batch(tmp_path: Path) -> None:
    def less(epoch: int, batch: int) -> int:
        return even(epoch, batch) - (15 if (epoch, batch) >= (1, 4) else 5)

    path = recording(tmp_path / "run.h5", {"a": less, "b": even, "c": even})
    (found,) = new(replay.health(path))
    assert (found.kind, found.layer, found.channel) == ("vanishing", "a", None)
    assert (found.epoch, found.batch, found.frames) == (1, 4, 26)
    assert found.value == pytest.approx(2**-15, rel=0.2)
    assert "times smaller than behind it since epoch 1 batch 4, the last 26 of 40" in found.text
    assert "residual connections" in found.advice


def test_exploding_from_layer_to_layer_and_in_time(tmp_path: Path) -> None:
    def more(epoch: int, batch: int) -> int:
        return even(epoch, batch) + 16

    def later(epoch: int, batch: int) -> int:
        return even(epoch, batch) + (14 if (epoch, batch) >= (2, 0) else 0)

    path = recording(tmp_path / "run.h5", {"a": more, "b": even, "c": even})
    (found,) = new(replay.health(path))
    assert (found.kind, found.layer, found.epoch, found.frames) == ("exploding", "a", 0, 40)
    assert "larger than behind it in all 40 batches" in found.text
    path = recording(tmp_path / "later.h5", dict.fromkeys(SHAPES, later))
    last = [one for one in new(replay.health(path)) if one.layer == "c"]
    assert [one.kind for one in last] == ["exploding"]
    assert "larger than at first" in last[0].text


def test_a_gradient_that_explodes_once(tmp_path: Path) -> None:
    def once(epoch: int, batch: int) -> int:
        return even(epoch, batch) + (24 if (epoch, batch) == (2, 4) else 0)

    path = recording(tmp_path / "run.h5", dict.fromkeys(SHAPES, once))
    found = new(replay.health(path))
    assert {one.layer for one in found} == {"a", "b", "c"}
    for one in found:
        assert (one.kind, one.epoch, one.batch, one.frames) == ("exploding", 2, 4, 1)
        assert "larger than at first in 1 of 40 batches, first in epoch 2 batch 4" in one.text


def test_a_real_network_of_sigmoids_and_one_without(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = {}
    for act in (nn.Sigmoid, nn.ReLU):
        parts: list[nn.Module] = []
        for place in range(8):
            parts += [nn.Conv2d(8 if place else 3, 8, 3, padding=1), act()]
        model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        path = tmp_path / f"{act.__name__}.h5"
        with Recorder(model, path, gradients=True, quiet=True) as recorder:
            for _ in recorder.track(range(6)):
                optimizer.zero_grad()
                output = model(torch.randn(2, 3, 8, 8))
                nn.functional.cross_entropy(output, torch.tensor([0, 1])).backward()
                optimizer.step()
        found[act] = [one for one in new(replay.health(path)) if one.kind == "vanishing"]
    assert [one.layer for one in found[nn.Sigmoid]][:3] == ["0", "2", "4"]
    assert all("in all 6 batches" in one.text for one in found[nn.Sigmoid])
    assert found[nn.ReLU] == []


def heads(path: Path, full: bool, group: str = "") -> Path:
    """Head 0 looks about, head 1 at one token since (1, 2), head 2 at all, head 3 is masked."""
    write_looking(path, epochs=3, batches=6, attention=False, gradients=False)
    rng = np.random.default_rng(0)
    tokens = 16

    def rows(e: int, b: int) -> np.ndarray:
        made = rng.random((4, tokens, tokens)) ** 4
        if (e, b) >= (1, 2):
            made[1] = 0.01 / tokens
            made[1, :, 5] = 1
        made[2] = 1 + 0.01 * rng.random((tokens, tokens))
        made[3] = np.tril(made[3])  # the first query has nothing but itself
        made = made / made.sum(axis=2, keepdims=True)
        return (made if full else made[:, 8]).astype("<f2")

    cells = [(e, b) for e in range(3) for b in range(6)]
    axes, queries = ("CQT", "all") if full else ("CT", "class")
    about = {"axes": axes, "queries": queries, "module": "Attention()"}
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        write_frames(file, f"{group}attention/", "blocks.0.attn", rows, cells, about)
    return path


@pytest.mark.parametrize("full", [False, True])
def test_heads_that_look_at_one_token_or_at_all(tmp_path: Path, full: bool) -> None:
    found = replay.health(heads(tmp_path / "run.h5", full))
    one, uniform = new(found)
    assert (one.kind, one.layer, one.channel) == ("one-token", "blocks.0.attn", 1)
    assert (one.epoch, one.batch, one.frames) == (1, 2, 10)
    assert "% on one token, since epoch 1 batch 2, the last 10 of 18 batches" in one.text
    assert (uniform.kind, uniform.channel) == ("uniform", 2)
    assert "of the largest entropy, in all 18 batches" in uniform.text
    layer = found.layers[-1]
    assert (layer.kind, layer.title) == ("attention", "attention of blocks.0.attn")
    text = str(found)
    assert "attention of blocks.0.attn" in text
    assert "head 1: 99" in text
    assert "  one-token " in text


def test_of_a_compiled_model_the_fixed_image_tells(tmp_path: Path) -> None:
    found = replay.health(heads(tmp_path / "run.h5", False, "probe/0/"))
    assert [(one.kind, one.channel) for one in new(found)] == [("one-token", 1), ("uniform", 2)]
    assert found.layers[-1].remarks == ["of fixed image 0"]


def test_what_a_causal_mask_leaves_is_no_finding() -> None:
    rows = np.tril(np.ones((2, 16, 16)))
    rows /= rows.sum(axis=2, keepdims=True)
    focus, even_share = focus_and_entropy(rows.astype(np.float16))
    assert (focus < 0.25).all()
    np.testing.assert_allclose(even_share, 1, rtol=1e-4)


def test_focus_and_entropy_of_known_rows() -> None:
    rows = np.zeros((3, 8), np.float16)
    rows[0], rows[1, 2], rows[2, :4] = 1 / 8, 1, 1 / 4
    focus, even_share = focus_and_entropy(rows)
    np.testing.assert_allclose(focus, [1 / 8, 1, 1 / 4])
    np.testing.assert_allclose(even_share, [1, 0, 1])
    rows[1] = np.nan
    focus, even_share = focus_and_entropy(rows)
    assert np.isnan(focus[1])
    assert np.isnan(even_share[1])


def test_the_figure_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def less(epoch: int, batch: int) -> int:
        return even(epoch, batch) - 15

    path = recording(tmp_path / "run.h5", {"a": less, "b": even, "c": even})
    out = tmp_path / "health.png"
    assert main(["health", str(path), "-o", str(out), "--quiet"]) == 0
    assert "vanishing" in capsys.readouterr().out
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    green = np.array([0x4D, 0x7C, 0x0F])
    assert (np.abs(pixels.astype(int) - green).max(axis=1) < 3).sum() > 3000
    plain = write_recording(tmp_path / "plain.h5", {"a": drifting_maps(2, 8, 8)})
    assert "gradient" not in replay.health(plain).to_json()


def test_exponents_that_cannot_be_read_are_a_remark(tmp_path: Path) -> None:
    path = recording(tmp_path / "run.h5", dict.fromkeys(SHAPES, even))
    with h5py.File(path, "r+") as file:
        del file["gradients/exponents/a"]
        file.create_dataset("gradients/exponents/a", (3, 2), "<f4")
    found = replay.health(path)
    assert "its gradients cannot be read" in found.layers[0].remarks[0]
    assert new(found) == []
