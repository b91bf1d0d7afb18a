"""Data sets: photographs that need no download, and others on small files in their real format."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from record.torchvision_import import import_torchvision
from record.training import data
from record.training.data import load
from record.training.photos import PHOTOS, split_photo
from replay.schema import OptionError


def test_photos_are_deterministic_and_balanced() -> None:
    first, again, other = (load("photos", Path(), 32, seed=seed) for seed in (3, 3, 4))
    assert (len(first.train), len(first.test)) == (960, 400)
    assert first.classes == list(PHOTOS)
    for part in ("train", "test"):
        same = getattr(first, part).images, getattr(again, part).images
        assert torch.equal(*same)
        assert not torch.equal(same[0], getattr(other, part).images)
        labels = getattr(first, part).labels
        assert labels[:10] == list(range(10))  # the first few show all classes
        assert set(np.bincount(labels)) == {len(labels) // 10}
    image, label = first.train[7]
    assert (image.shape, image.dtype, label) == ((3, 32, 32), torch.float32, 7)
    restored = image * torch.tensor(first.std).view(3, 1, 1) + torch.tensor(first.mean).view(
        3, 1, 1
    )
    assert torch.allclose(restored * 255, first.train.images[7].float(), atol=1e-3)


def test_no_pixel_of_a_photograph_is_in_both_parts() -> None:
    for name in PHOTOS:
        split = split_photo(name)
        assert {part: len(found) for part, found in split.items()} == {"train": 6, "test": 3}
        widths = [cell.width for cell in split["test"]]
        heights = [cell.height for cell in split["test"]]
        assert min(sum(widths), sum(heights)) == 384  # the diagonal spans the photograph once
        assert min(*widths, *heights) >= 128  # a crop of any size fits


def test_samples_are_the_first_ones() -> None:
    few = load("photos", Path(), 16, samples=12)
    assert len(few.train) == 12
    assert [few.train[i][1] for i in range(12)] == [*range(10), 0, 1]
    assert len(few.test) == 400


def test_cifar10_in_its_real_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = {}
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        pixels[name] = random.integers(0, 256, (2, 3072), np.uint8)
        content = {"data": pixels[name], "labels": [3, 9]}
        (folder / name).write_bytes(pickle.dumps(content))
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    cifar = import_torchvision().datasets.CIFAR10
    # The sums of the real files; everything else is torchvision's own reading.
    monkeypatch.setattr(cifar, "_check_integrity", lambda self: True)
    monkeypatch.setitem(cifar.meta, "md5", None)
    loaded = load("cifar10", tmp_path, 32)
    assert (len(loaded.train), len(loaded.test), loaded.classes) == (10, 2, names)
    image, label = loaded.train[1]
    assert label == 9
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (loaded.mean, loaded.std))
    expected = torch.from_numpy(pixels["data_batch_1"][1].reshape(3, 32, 32).copy()).float()
    assert torch.allclose((image * std + mean) * 255, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")]
)
def test_mnist_in_its_real_format(tmp_path: Path, name: str, folder: str) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 5), ("t10k", 3)):
        images = np.full((count, 28, 28), 51, np.uint8)
        labels = np.arange(count, dtype=np.uint8)
        head = struct.pack(">iiii", 2051, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">ii", 2049, count) + labels.tobytes()
        )
    loaded = load(name, tmp_path, 28)
    assert (len(loaded.train), len(loaded.test), len(loaded.classes)) == (5, 3, 10)
    image, label = loaded.train[4]
    assert (image.shape, label) == ((3, 28, 28), 4)
    assert image[0, 0, 0] == pytest.approx((0.2 - loaded.mean[0]) / loaded.std[0])


@pytest.mark.parametrize("split", [True, False])
def test_image_folders(tmp_path: Path, split: bool) -> None:
    for part in ("train", "val") if split else ("",):
        for place, name in enumerate(("cat", "dog", "owl")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                colour = (80 * place, 10 * number, 0)
                Image.new("RGB", (40, 30), colour).save(folder / f"{number}.png")
    loaded = load("folder", tmp_path, 16)
    assert loaded.classes == ["cat", "dog", "owl"]
    assert (len(loaded.train), len(loaded.test)) == ((12, 12) if split else (10, 2))
    assert loaded.train[0][0].shape == (3, 16, 16)


def test_fake_data() -> None:
    loaded = load("fake", Path(), 16, seed=1)
    (image, label), (other, _) = loaded.train[0], loaded.test[0]
    assert (len(loaded.train), image.shape, type(label)) == (640, (3, 16, 16), int)
    assert not torch.equal(image, other)


def test_missing_data_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        load("cifar10", tmp_path, 32)
    assert str(tmp_path) in str(caught.value)
    assert "--download" in str(caught.value)


def test_a_failing_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def __init__(self, *args: object, **options: object) -> None:
            assert options["download"]
            raise data.URLError("no network")

    monkeypatch.setattr(import_torchvision().datasets, "MNIST", Unreachable)
    with pytest.raises(OptionError, match="cannot download MNIST into .*no network"):
        load("mnist", tmp_path, 28, download=True)
