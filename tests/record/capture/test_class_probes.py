"""One fixed image of each class: found beside the images, shown from then on, with their labels."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from class_activations import assert_close, field, plain_gradients, stored
from torch import nn

import record
from record import Recorder, RecordingWarning
from record.schedule import cadence
from record.session.kept_images import labels_beside
from replay.schema import OptionError

pytestmark = pytest.mark.usefixtures("quick_writers", "every_batch")


@pytest.fixture
def every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no time pass while the images are shown: they are shown at each batch."""
    monkeypatch.setattr(cadence, "now", lambda: 0.0)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3),
        nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )  # fmt: skip


def batches(classes: list[list[int]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches with these labels; the images tell by their middle which batch and row they are."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for number, labels in enumerate(classes):
        images = torch.randn(len(labels), 1, 8, 8, generator=generator)
        images[:, 0, 4, 4] = number + torch.arange(len(labels)) / 8
        found.append((images, torch.tensor(labels)))
    return found


CLASSES = [[3, 1, 1], [1, 3, 0], [4, 0, 1], [1, 1, 1]]


def train(path: Path | None, data: Any, call: Any = None, epochs: int = 2, **options: Any) -> Any:
    """Returns the model, its losses and what was said."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    options = {"probe": "classes", "cam": True, "quiet": True, **options}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        recorder = None if path is None else Recorder(model, path, **options)
        for _ in range(epochs):
            for batch in data if recorder is None else recorder.track(data):
                optimizer.zero_grad()
                loss = model(batch[0]).square().mean() if call is None else call(model, batch)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        if recorder is not None:
            recorder.close()
    return model, losses, [str(w.message) for w in said if w.category is RecordingWarning]


def test_the_first_image_of_each_class_is_shown_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    data = batches(CLASSES)
    model, losses, said = train(path, data)
    assert said == []
    plain, others, _ = train(None, data)
    assert losses == others
    for name, value in model.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])
    with h5py.File(path, "r") as file:
        assert set(file["probe"]) == {"0", "1", "2", "3"}
        assert [file[f"probe/{n}"].attrs["label"] for n in range(4)] == [1, 3, 0, 4]
        first = [float(file[f"probe/{n}/input"][0, 4, 4]) for n in range(4)]
    assert first == [0.125, 0.0, 1.25, 2.0]
    shown = np.isfinite(np.stack([field(path, f"probe{n}.prediction") for n in range(4)]))
    assert shown[:, 1].all()
    assert shown[:, 0].tolist() == [
        [True] * 4,
        [True] * 4,
        [False, *[True] * 3],
        [False, False, True, True],
    ]
    images = torch.cat([data[0][0][1:2], data[0][0][:1], data[1][0][2:], data[2][0][:1]])
    expected = plain_gradients(model, "3", images, [1, 3, 0, 4])
    for number, gradient in enumerate(expected):
        assert_close(stored(path, "cam", "3", number)[1, -1], gradient.mean((1, 2)).numpy())


def test_without_labels_it_is_the_first_image(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    data = [(images, labels.float()) for images, labels in batches(CLASSES)]
    _, _, said = train(path, data)
    assert len(said) == 1
    assert said[0].startswith("no labels, whole numbers, are beside the images")
    with h5py.File(path, "r") as file:
        assert set(file["probe"]) == {"0"}
        assert "label" not in file["probe/0"].attrs
        assert file["probe/0/cam/maps/3"].attrs["of"] == "score of the prediction"
    assert np.isfinite(stored(path, "cam", "3", 0)).all()


def test_the_label_of_the_first_image_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    train(path, batches(CLASSES), probe="first")
    with h5py.File(path, "r") as file:
        assert set(file["probe"]) == {"0"}
        assert file["probe/0"].attrs["label"] == 3
    assert (field(path, "probe0.class") == 3).all()


def test_a_probe_that_nobody_asked_classes_of_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    train(path, batches(CLASSES), probe="first", cam=False)
    with h5py.File(path, "r") as file:
        assert not dict(file["probe/0"].attrs)
        assert set(file["probe/0"]) == {"input", "maps", "ranges", "checksums"}
        assert not [name for name in file["batches"] if name.startswith("probe")]


def test_images_of_another_size_and_what_else_is_given(tmp_path: Path) -> None:
    class Takes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor, *, scale: torch.Tensor, labels: torch.Tensor) -> Any:
            return {"loss": labels.sum(), "logits": self.inner(x) * scale}

    path = tmp_path / "run.h5"
    scale = torch.ones(1)
    data = [{"x": images, "labels": labels} for images, labels in batches(CLASSES)]
    data[1]["x"] = torch.randn(3, 1, 10, 10)  # so class 0 comes in the third batch
    torch.manual_seed(0)
    model = Takes()
    with Recorder(model, path, probe="classes", cam="inner.3", quiet=True) as recorder:
        for batch in recorder.track(data):
            model(batch["x"], scale=scale, labels=batch["labels"])["logits"].sum().backward()
    with h5py.File(path, "r") as file:
        assert [file[f"probe/{n}"].attrs["label"] for n in range(4)] == [1, 3, 0, 4]
        assert float(file["probe/2/input"][0, 4, 4]) == 2.125
    assert np.isfinite(stored(path, "cam", "inner.3", 3)[0, 2:]).all()


def test_a_recording_that_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    data = batches(CLASSES)
    images = torch.cat([data[0][0][1:2], data[0][0][:1]])
    options: dict[str, Any] = {"probe": images, "labels": [1, 3]}
    train(path, data, epochs=1, **options)
    before = stored(path, "cam", "3", 0)[0]
    _, _, said = train(path, data, epochs=1, resume=True, **options)
    assert said == []
    after = stored(path, "cam", "3", 0)
    assert np.array_equal(after[0], before)
    assert np.isfinite(after[1]).all()
    train(path, data, epochs=1, resume=True)  # the images that were found are others
    assert np.isnan(stored(path, "cam", "3", 0)[2]).all()
    with h5py.File(path, "r") as file:
        assert file["probe/1"].attrs["label"] == 3


def test_labels_are_in_the_description_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    images = batches(CLASSES)[0][0]
    train(path, batches(CLASSES), probe=images, labels=torch.tensor([3, 1, 1]), cam=False)
    with h5py.File(path, "r") as file:
        assert json.loads(file.attrs["meta"])["probe"] == [{"label": 3}, {"label": 1}, {"label": 1}]
        assert file["probe/2"].attrs["label"] == 1
        assert "cam" not in file["probe/0"]
    assert np.isfinite(field(path, "probe2.label_probability")).all()


def test_thinned_recordings_keep_labels(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    train(path, batches(CLASSES * 8), epochs=3, budget="250kB")
    with h5py.File(path, "r") as file:
        assert file["probe/1"].attrs["label"] == 3
        kept = file["batches/recorded"][:] > 0
    assert 0 < kept.sum() < 3 * 32
    assert np.isfinite(stored(path, "cam", "3", 0)[kept]).all()


def test_a_plan_counts_class_activation(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    data = batches(CLASSES)
    images = torch.cat([images for images, _ in data])[:3]
    train(path, data, probe=images, layers=["0"])
    planned = record.plan(network(), (1, 8, 8), layers=["0"], probe=3, cam=True)
    with h5py.File(path, "r") as file:
        for layer in planned.layout.layers:
            assert file[f"{layer.group}maps/{layer.name}"].shape[2:] == layer.shape
        found: list[str] = []
        file.visit(lambda name: found.append(name) if "maps/" in name else None)
    assert len(found) == len(planned.layout.layers)
    with pytest.raises(OptionError, match="no layer matches"):
        record.plan(network(), (1, 8, 8), probe=1, cam="nothing")


@pytest.mark.parametrize(
    ("batch", "labels"),
    [
        ((torch.zeros(3, 1, 8, 8), torch.tensor([2, 0, 1])), [2, 0, 1]),
        ((torch.zeros(3, 1, 8, 8), torch.tensor([[2], [0], [1]])), [2, 0, 1]),
        ((torch.zeros(3, 1, 8, 8), torch.tensor([2.0, 0.0, 1.0])), None),
        ({"idx": torch.arange(3), "label": torch.tensor([5, 5, 6])}, [5, 5, 6]),
        ({"idx": torch.arange(3), "image": torch.zeros(3, 1, 8, 8)}, None),
        ((torch.zeros(3, 5), torch.zeros(3, 8, 8).long()), None),
        (
            [torch.zeros(3, 1, 8, 8), {"targets": torch.tensor([1, 2, 3], dtype=torch.int32)}],
            [1, 2, 3],
        ),
        ((torch.zeros(3, 1, 8, 8), torch.tensor([1, 2])), None),
        (None, None),
        # Of a detection: the labels of an image's boxes, where there happen to be three.
        ([torch.zeros(3, 1, 8, 8), [{"labels": torch.tensor([1, 2, 2])}] * 3], None),
        ([torch.zeros(3, 1, 8, 8), ({"labels": torch.tensor([1, 2, 2])},) * 3], None),
        ([torch.zeros(3, 1, 8, 8), [*[torch.tensor([1, 2, 2])] * 2, torch.tensor([4])]], None),
        ([torch.zeros(3, 1, 8, 8), [torch.tensor([1, 2, 2])] * 3], None),
        # Mixed or soft, of each pixel, of several tasks by their own names.
        ((torch.zeros(3, 1, 8, 8), torch.eye(3)), None),
        ((torch.zeros(3, 1, 8, 8), torch.eye(3).long()), None),
        ((torch.zeros(3, 1, 8, 8), {"age": torch.arange(3), "sex": torch.arange(3)}), None),
        ((torch.zeros(3, 1, 8, 8), torch.tensor([True, False, True])), None),
    ],
)
def test_labels_beside_images(batch: Any, labels: list[int] | None) -> None:
    assert labels_beside(batch, 3) == labels


@pytest.mark.parametrize("batch_of", [list, tuple])
def test_batches_of_as_many_parts_as_images(batch_of: Any) -> None:
    images, labels = torch.zeros(2, 1, 8, 8), torch.tensor([4, 2])
    assert labels_beside(batch_of((images, labels)), 2) == [4, 2]
    assert labels_beside(batch_of((images[:1], labels[:1])), 1) == [4]
    assert labels_beside({"x": images, "y": labels}, 2) == [4, 2]


@pytest.mark.parametrize("size", [2, 3])
def test_several_numbers_beside_each_image_are_said(tmp_path: Path, size: int) -> None:
    """Which may be its place in the data, before or behind its label."""
    model = network()
    data = [(torch.rand(size, 1, 8, 8), torch.arange(size), torch.arange(size)) for _ in range(2)]
    recorder = Recorder(model, tmp_path / "run.h5", probe="classes", probe_share=1.0, quiet=True)
    with pytest.warns(RecordingWarning, match="several whole numbers are beside each image"):
        for images, _, _ in recorder.track(data):
            model(images).sum().backward()
        recorder.close()


@pytest.mark.parametrize("size", [2, 3])
def test_labels_that_the_model_is_given_too_are_the_same(tmp_path: Path, size: int) -> None:
    """As those of Hugging Face's, in a dict."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return self.inner(pixels)

    model, path = Net(), tmp_path / "run.h5"
    data = [{"pixels": torch.rand(size, 1, 8, 8), "labels": torch.arange(size)} for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Recorder(model, path, probe="classes", probe_share=1.0, quiet=True) as recorder:
            for batch in recorder.track(data):
                model(**batch).sum().backward()
    with h5py.File(path) as file:
        assert sorted(file["probe"]) == [str(number) for number in range(size)]
