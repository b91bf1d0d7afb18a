"""Keras and Flax: the code of docs/recipes.md, and one network in three frameworks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import replay

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "recipes.md").read_text()
pytestmark = pytest.mark.slow

DATA = """
import numpy as np
rng = np.random.default_rng(0)
x = rng.random((16, 14, 12, 3)).astype("float32")
y = rng.integers(0, 3, 16)
"""
KERAS = """
import keras
def keras_model():
    return keras.Sequential([
        keras.Input((14, 12, 3)),
        keras.layers.Conv2D(8, 3, padding="same", name="conv1"),
        keras.layers.ReLU(),
        keras.layers.Conv2D(4, 3, padding="same", name="conv2"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
    ], name="CNN")
"""


def run(folder: Path, *parts: str, needs: tuple[str, ...]) -> None:
    for name in needs:
        if find_spec(name) is None:
            pytest.skip(f"not tested: {' and '.join(needs)}, {name} is missing")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(map(textwrap.dedent, parts))],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def recipe(title: str) -> str:
    (block,) = re.findall(rf"^## {title}\n.*?^```python\n(.*?)^```", PAGE, re.M | re.S)
    return str(block)


def test_the_recipe_for_keras(tmp_path: Path) -> None:
    begin = """
    model = keras_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    """
    run(tmp_path, DATA, KERAS, begin, recipe("Keras 3"), needs=("keras", "jax"))
    with replay.open(tmp_path / "run.h5") as recording:
        assert recording.layers == ("conv1", "conv2")
        assert recording["conv2"].frames == [(e, b) for e in range(2) for b in range(2)]
        assert recording["conv2"][1, 1].shape == (4, 14, 12)


def test_the_recipe_for_flax(tmp_path: Path) -> None:
    begin = "batches = [(x[n : n + 4], y[n : n + 4]) for n in range(0, 16, 4)]"
    run(tmp_path, DATA, begin, recipe("Flax"), needs=("flax", "jax", "optax"))
    with replay.open(tmp_path / "run.h5") as recording:
        assert recording.layers == ("conv1", "conv2")
        assert recording["conv2"].frames == [(e, b) for e in range(2) for b in range(4)]
        assert recording["conv2"][1, 3].shape == (14, 12, 4)
        assert recording.inputs[0, 0].shape == (3, 14, 12)
        assert recording["conv1"].layer.axes == "HWC"


def test_one_network_in_three_frameworks_has_the_same_maps(tmp_path: Path) -> None:
    """Equal weights in torch, Keras on JAX and Flax: `compare` shows next to no difference."""
    flax = recipe("Flax").replace('"run.h5"', '"flax.h5"').partition("model = CNN")
    program = """
    import torch
    from record import Recorder
    from record.keras import RecordFeatureMaps

    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = torch.nn.Sequential()
    net.conv1 = torch.nn.Conv2d(3, 8, 3, padding=1)
    net.relu = torch.nn.ReLU()
    net.conv2 = torch.nn.Conv2d(8, 4, 3, padding=1)
    with Recorder(net, "torch.h5", quiet=True) as recorder:
        for images in recorder.track([torch.tensor(x[n : n + 4]) for n in range(0, 16, 4)]):
            net(images.permute(0, 3, 1, 2))

    model = keras_model()
    for name in ("conv1", "conv2"):
        layer = getattr(net, name)
        kernel = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        model.get_layer(name).set_weights([kernel, layer.bias.detach().numpy()])
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(True))
    record = RecordFeatureMaps("keras.h5", quiet=True)
    model.fit(record.track(x, y, batch_size=4, shuffle=False), epochs=1, verbose=0,
              callbacks=[record])
    """
    adopt = """
    import jax.numpy as jnp
    batches = [(x[n : n + 4], y[n : n + 4]) for n in range(0, 16, 4)]
    def adopt(model):
        for name in ("conv1", "conv2"):
            layer, ours = getattr(net, name), getattr(model, name)
            ours.kernel[...] = jnp.array(layer.weight.detach().numpy().transpose(2, 3, 1, 0))
            ours.bias[...] = jnp.array(layer.bias.detach().numpy())
        return model
    """
    loop = (flax[1] + flax[2]).replace("CNN(nnx.Rngs(0))", "adopt(CNN(nnx.Rngs(0)))")
    loop = loop.replace("optax.adam(1e-2)", "optax.sgd(0.0)").replace("range(2)", "range(1)")
    parts = DATA, KERAS, program, adopt, flax[0], loop
    run(tmp_path, *parts, needs=("flax", "keras", "jax", "optax"))
    runs = [replay.open(tmp_path / f"{name}.h5") for name in ("torch", "keras", "flax")]
    for name in ("conv1", "conv2"):
        for at in runs[0][name].frames:
            right = runs[0][name][at].astype(np.float32)
            assert right.std() > 0.05
            for other in runs[1:]:
                maps = other[name][at].astype(np.float32)
                if other[name].layer.axes == "HWC":
                    maps = np.moveaxis(maps, -1, 0)
                assert np.abs(maps - right).max() < 1e-3
    for recording in runs:
        recording.close()
    for other in ("keras", "flax"):
        film = tmp_path / f"{other}.gif"
        made = replay.compare(
            tmp_path / "torch.h5", tmp_path / f"{other}.h5", film, layers="conv1", difference=True
        )
        assert film.stat().st_size > 1000
        assert made.frames == 4
