"""Loads the data of the built-in training run.

The default, `photos`, needs no download: ten photographs that the scikit-image wheel carries, and
the question from which of them a crop was taken. It is a demonstration that shows a network learn,
not a benchmark: what it measures is recognising ten photographs, not generalisation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
from torch.utils.data import Dataset, Subset

from record.torchvision_import import import_torchvision
from record.training import photos
from record.training.photos import Sample
from replay.schema import OptionError
from replay.schema.suggestions import unknown

_MOST_CLASSES = 64  # that have a fixed image
NAMES = ("photos", "cifar10", "mnist", "fashion-mnist", "folder", "fake")


@dataclass(frozen=True)
class Data:
    """Training and test samples, each an image, float32 (3, size, size), and its label.

    Attributes:
        name: The name on the command line.
        train: The training samples.
        test: The test samples.
        classes: The names of the labels.
        mean: Per channel, what is subtracted from values in 0..1.
        std: Per channel, what they are then divided by.
        portraits: Samples that one recognises, to be shown as fixed images; None where there are
            none but those for testing.
    """

    name: str
    train: Dataset[Sample]
    test: Dataset[Sample]
    classes: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    portraits: Dataset[Sample] | None = None

    def fixed(self, count: int | str) -> list[Sample]:
        """Returns samples to be shown as fixed images, as many as there are.

        Args:
            count: How many of the first ones; or `classes`, the first one of each class.
        """
        samples: Any = self.test if self.portraits is None else self.portraits
        if isinstance(count, int):
            return [samples[place] for place in range(min(count, len(samples)))]
        first: dict[int, int] = {}
        wanted = len(self.classes)
        for place in range(len(samples)):
            first.setdefault(_label(samples, place), place)
            if len(first) == wanted:
                break
        return [samples[first[label]] for label in sorted(first)[:_MOST_CLASSES]]


def load(
    name: str,
    folder: Path,
    size: int,
    seed: int = 0,
    download: bool = False,
    samples: int | None = None,
) -> Data:
    """Loads a data set.

    Args:
        name: One of `NAMES`.
        folder: Where downloaded data or the image folder lies.
        size: Height and width of the images, in pixels.
        seed: Decides what is random about the samples.
        download: Fetches what is missing.
        samples: Uses only the first so many training samples.

    Raises:
        OptionError: The name is unknown, the data is not there, or no sample is asked for.
    """
    if name not in NAMES:
        raise OptionError(unknown("data", name, NAMES))
    if size < 8:
        raise OptionError(f"image size {size}: expected at least 8 pixels")
    if samples is not None and samples < 1:
        raise OptionError(f"samples {samples}: expected at least 1")
    if name == "photos":
        train, test = photos.load_photos(size, seed)
        portraits = photos.load_portraits(size)
        data = Data("photos", train, test, list(photos.PHOTOS), photos.MEAN, photos.STD, portraits)
    elif name == "fake":
        data = _fake(size, seed)
    elif name == "folder":
        data = _folder(folder, size, seed)
    else:
        data = _downloadable(name, folder, size, download)
    if samples is not None:
        first = range(min(samples, len(data.train)))  # type: ignore[arg-type]
        data = replace(data, train=Subset(data.train, first))
    return data


def _label(samples: Any, place: int) -> int:
    """Returns the label of a sample, without its image where that can be."""
    if isinstance(samples, Subset):
        return _label(samples.dataset, int(samples.indices[place]))
    targets = getattr(samples, "targets", None)
    return int(samples[place][1] if targets is None else targets[place])


# torchvision's data sets

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as torchvision's weights

_CLASSES = {
    "cifar10": "CIFAR10",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
}


def _transform(size: int, gray: bool = False) -> Any:
    """Returns what makes an image a normalised tensor, float32 (3, size, size)."""
    transforms = import_torchvision().transforms
    steps = [transforms.Grayscale(3)] if gray else []
    steps += [
        transforms.Resize((size, size), antialias=True),
        transforms.ToTensor(),
        transforms.Normalize(_MEAN, _STD),
    ]
    return transforms.Compose(steps)


def _downloadable(name: str, folder: Path, size: int, download: bool) -> Data:
    """Loads a data set that torchvision can download; as for `load`."""
    make = getattr(import_torchvision().datasets, _CLASSES[name])
    transform = _transform(size, gray=name != "cifar10")
    try:
        train, test = (
            make(folder, train=part, download=download, transform=transform)
            for part in (True, False)
        )
    except (URLError, TimeoutError, ConnectionError) as error:
        raise OptionError(f"cannot download {_CLASSES[name]} into {folder}: {error}") from error
    except (RuntimeError, OSError) as error:
        if download:
            raise OptionError(f"cannot download {_CLASSES[name]} into {folder}: {error}") from error
        raise OptionError(
            f"no {_CLASSES[name]} in {folder.absolute()}; name its folder with --data-dir, or "
            "fetch it with --download"
        ) from error
    return Data(name, train, test, [str(c) for c in train.classes], _MEAN, _STD)


def _folder(folder: Path, size: int, seed: int) -> Data:
    """Loads a folder of images, with a folder for each class.

    It has folders `train` and `val` or `test` of that kind, or one image in five is for testing.
    """
    make = import_torchvision().datasets.ImageFolder
    transform = _transform(size)
    tests = [folder / part for part in ("val", "test") if (folder / part).is_dir()]
    try:
        if (folder / "train").is_dir() and tests:
            train, test = make(folder / "train", transform), make(tests[0], transform)
            return Data("folder", train, test, train.classes, _MEAN, _STD)
        everything = make(folder, transform)
    except (OSError, RuntimeError) as error:
        raise OptionError(
            f"no image folder at {folder.absolute()}: expected a folder a class with images in it, "
            f"or train/ and val/ with such folders (name it with --data-dir): {error}"
        ) from error
    order = np.random.default_rng(seed).permutation(len(everything)).tolist()
    test_size = max(1, len(order) // 5)
    if len(order) < 2:
        raise OptionError(f"only {len(order)} image in {folder.absolute()}; expected at least 2")
    train, test = Subset(everything, order[test_size:]), Subset(everything, order[:test_size])
    return Data("folder", train, test, everything.classes, _MEAN, _STD)


def _fake(size: int, seed: int) -> Data:
    """Makes random images of ten classes."""
    make = import_torchvision().datasets.FakeData
    shape, count = (3, size, size), 10
    transform = _transform(size)
    train = make(640, shape, count, transform, random_offset=seed * 1000)
    test = make(160, shape, count, transform, random_offset=seed * 1000 + 640)
    return Data(
        "fake",
        _IntegerLabels(train),
        _IntegerLabels(test),
        [str(n) for n in range(count)],
        _MEAN,
        _STD,
    )


class _IntegerLabels(Dataset[Sample]):
    """FakeData with plain integers as labels, as everywhere else."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """Returns one sample."""
        image, label = self._samples[index]
        return image, int(label)
