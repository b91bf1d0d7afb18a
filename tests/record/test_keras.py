"""The Keras callback, on JAX and on torch: the right maps, and the same weights to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import replay

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
BACKENDS = ["jax", "torch"]

PROGRAM = """
import json, sys, warnings
import numpy as np
import keras

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).random((20, 12, 10, 3)).astype("float32")
y = np.arange(20) % 3

def make():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12, 10, 3))
    h = keras.layers.Conv2D(4, 3, name="conv1", activation="relu")(inputs)
    h = keras.layers.BatchNormalization(name="bn")(h)
    h = keras.layers.Dropout(0.5)(h)
    h = keras.layers.Conv2D(5, 3, strides=2, name="conv2")(h)
    h = keras.layers.GlobalAveragePooling2D()(h)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(h), name="small")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    return model

class Batches(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
    def __len__(self):
        return 5
    def __getitem__(self, number):
        return x[number * 4 : number * 4 + 4], y[number * 4 : number * 4 + 4]

class Check(keras.callbacks.Callback):
    \"\"\"Computes by itself what the layers put out for the first image of each batch.\"\"\"
    def __init__(self, first):
        super().__init__()
        self.first, self.maps, self.after = first, [], []
        self.seen = iter(first)
    def on_train_batch_begin(self, batch, logs=None):
        image = next(self.seen)[None]
        sub = keras.Model(self.model.inputs, self.model.get_layer("conv2").output)
        self.maps.append(np.asarray(keras.ops.convert_to_numpy(sub(image, training=False)))[0])
    def on_train_batch_end(self, batch, logs=None):
        sub = keras.Model(self.model.inputs, self.model.get_layer("conv2").output)
        self.after.append(np.asarray(keras.ops.convert_to_numpy(sub(x[:2], training=False))))

def weights(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.weights]

out = {}
"""


def run(backend: str, code: str, folder: Path, **variables: str) -> dict[str, Any]:
    for name in {"keras", backend}:
        if find_spec(name) is None:
            pytest.skip(f"not tested: Keras on {backend}, {name} is missing")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(code) + "\nprint(json.dumps(out))"],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {"stderr": done.stderr, **json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_maps_are_those_of_each_batch_and_the_weights_are_the_same(
    tmp_path: Path, backend: str
) -> None:
    run(
        backend,
        """
        from record.keras import RecordFeatureMaps
        plain = make()
        plain.fit(Batches(), epochs=2, shuffle=False, verbose=0, validation_data=(x, y))
        model = make()
        record = RecordFeatureMaps("run.h5", layers=["conv*", "Dense"], probe=x[:2], quiet=True)
        check = Check([x[n * 4] for n in range(5)] * 2)
        history = model.fit(record.track(Batches(), shuffle=False), epochs=2, shuffle=False, verbose=0,
                            validation_data=(x, y), callbacks=[record, check])
        for left, right in zip(weights(plain), weights(model), strict=True):
            np.testing.assert_array_equal(left, right)
        np.savez("check.npz", maps=check.maps, after=check.after,
                 first=[x[n * 4] for n in range(5)] * 2)
        """,
        tmp_path,
    )
    right = np.load(tmp_path / "check.npz")
    with replay.open(tmp_path / "run.h5") as recording:
        assert recording.layers == ("conv1", "conv2", "head")
        assert recording.meta["model"] == "small"
        assert recording["conv2"].layer.module == "Conv2D(5, 3x3)"
        frames = recording["conv2"].frames
        assert frames == [(epoch, batch) for epoch in range(2) for batch in range(5)]
        for number, at in enumerate(frames):
            maps = np.moveaxis(right["maps"][number], -1, 0)
            np.testing.assert_allclose(recording["conv2"][at], maps, atol=2e-3)
            image = np.moveaxis(right["first"][number], -1, 0)
            np.testing.assert_array_equal(recording.inputs[at], image.astype(np.float16))
            fixed = np.moveaxis(right["after"][number][1], -1, 0)
            np.testing.assert_allclose(recording.probe(1)["conv2"][at], fixed, atol=2e-3)
            assert recording["conv1"].kernels(*at).shape == (4, 3, 3, 3)
    assert not replay.verify(tmp_path / "run.h5").problems


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_loaders_and_fits_that_go_on(tmp_path: Path, backend: str) -> None:
    out = run(
        backend,
        """
        from record.keras import RecordFeatureMaps
        model = make()
        record = RecordFeatureMaps("run.h5", every=2, quiet=True)
        model.fit(record.track(x, y, batch_size=8), epochs=1, verbose=0, callbacks=[record])
        model.fit(record.track([(x[:4], y[:4]), (x[4:8], y[4:8])]), epochs=2, verbose=0,
                  callbacks=[record])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            bare = RecordFeatureMaps("other.h5", layers="none*")
            model.fit(bare.track(x, y), epochs=1, verbose=0, callbacks=[bare])
            without = RecordFeatureMaps("other.h5")
            model.fit(x, y, epochs=1, verbose=0, callbacks=[without])
            only = RecordFeatureMaps("probe.h5", probe=x[3:4], quiet=True)
            model.fit(x, y, batch_size=10, epochs=1, verbose=0, callbacks=[only])
        out["warned"] = [str(w.message) for w in caught if w.category.__name__ == "RecordingWarning"]
        """,
        tmp_path,
    )
    with replay.open(tmp_path / "run.h5") as recording:
        assert recording["conv1"].frames == [(0, 0), (0, 2), (1, 0), (2, 0)]
    warned = out["warned"]
    assert len(warned) == 2
    assert "no layer matches 'none*'; the model has" in warned[0]
    assert "expected the images to record" in warned[1]
    assert not (tmp_path / "other.h5").exists()
    with replay.open(tmp_path / "probe.h5") as recording:
        assert recording["conv1"].frames == [(0, 0), (0, 1)]
        np.testing.assert_array_equal(recording.inputs[0, 0], recording.inputs[0, 1])


def test_several_steps_in_one_execution_keep_the_images_in_step(tmp_path: Path) -> None:
    run(
        "jax",
        """
        from record.keras import RecordFeatureMaps
        model = make()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True),
                      steps_per_execution=2)
        record = RecordFeatureMaps("run.h5", quiet=True)
        model.fit(record.track(Batches(), shuffle=False), epochs=2, shuffle=False, verbose=0, callbacks=[record])
        np.save("first.npy", x[::4])
        """,
        tmp_path,
    )
    first = np.load(tmp_path / "first.npy")
    with replay.open(tmp_path / "run.h5") as recording:
        for epoch, batch in recording["conv1"].frames:
            image = np.moveaxis(first[batch], -1, 0).astype(np.float16)
            np.testing.assert_array_equal(recording.inputs[epoch, batch], image)
        assert {batch for _, batch in recording["conv1"].frames} == {0, 2, 4}


def test_without_keras_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['keras'] = None; import record.keras"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "record.keras needs Keras 3" in done.stderr
    assert "pip install keras jax" in done.stderr
