"""The data of the built-in training run.

The default, `photos`, needs no download: ten photographs that the scikit-image wheel carries, and
the question from which of them a crop was taken. It is a demonstration that shows a network learn,
not a benchmark: what it measures is recognising ten photographs, not generalisation.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset

from record.torchvision_import import import_torchvision
from replay.schema import OptionError

NAMES = ("photos", "cifar10", "mnist", "fashion-mnist", "folder", "fake")

Sample = tuple[torch.Tensor, int]


@dataclass(frozen=True)
class Data:
    """Training and test samples: float32 (3, size, size), normalised, and a label.

    Attributes:
        name: As on the command line.
        train: The training samples.
        test: The test samples.
        classes: Names by label.
        mean: Per channel, what is subtracted from values in 0..1.
        std: Per channel, what they are then divided by.
    """

    name: str
    train: Dataset[Sample]
    test: Dataset[Sample]
    classes: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def load(
    name: str,
    folder: Path,
    size: int,
    seed: int = 0,
    download: bool = False,
    samples: int | None = None,
) -> Data:
    """The data set of that name.

    Args:
        name: One of `NAMES`.
        folder: Where downloaded data or the image folder lies.
        size: Height and width of the images, in pixels.
        seed: Decides what is random about the samples.
        download: Fetches what is missing.
        samples: Uses only the first so many training samples.

    Raises:
        OptionError: An unknown name, data that is not there, or fewer than one sample.
    """
    if name not in NAMES:
        raise OptionError(f"unknown data {name!r}; expected one of {', '.join(NAMES)}")
    if size < 8:
        raise OptionError(f"image size {size}: expected at least 8 pixels")
    if samples is not None and samples < 1:
        raise OptionError(f"samples {samples}: expected at least 1")
    if name == "photos":
        data = _photos(size, seed)
    elif name == "fake":
        data = _fake(size, seed)
    elif name == "folder":
        data = _folder(folder, size, seed)
    else:
        data = _downloadable(name, folder, size, download)
    if samples is not None:
        first = range(min(samples, len(data.train)))  # type: ignore[arg-type]
        data = Data(
            data.name, Subset(data.train, first), data.test, data.classes, data.mean, data.std
        )
    return data


# Photographs

# File names in skimage/data; all are free to use (see the README.txt beside them).
PHOTOS = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
    "retina": "retina.jpg",
    "hubble_deep_field": "hubble_deep_field.jpg",
    "immunohistochemistry": "ihc.png",
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
}
_SHORT_SIDE = 384
_CROP = (96, 128)  # pixels: smallest and largest side of a crop
_CROPS = {"train": 96, "test": 40}  # of each photograph
_PHOTO_MEAN, _PHOTO_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Crops(Dataset[Sample]):
    """Crops that were made beforehand: uint8 (N, 3, size, size) and their labels."""

    def __init__(self, images: npt.NDArray[np.uint8], labels: list[int]) -> None:
        self.images = torch.from_numpy(images)
        self.labels = labels
        self._mean = torch.tensor(_PHOTO_MEAN).view(3, 1, 1)
        self._std = torch.tensor(_PHOTO_STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """One normalised crop and its label."""
        image = self.images[index].float().div_(255.0)
        return image.sub_(self._mean).div_(self._std), self.labels[index]


def cells(name: str) -> dict[str, list[Image.Image]]:
    """A photograph's nine cells: `test` those on the diagonal, `train` the other six.

    The photograph is resized to a short side of 384 pixels and cut into a 3x3 grid, so that no
    pixel is in both.

    Raises:
        OptionError: scikit-image is not installed, or does not carry the photograph.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise OptionError(
            "--data photos needs scikit-image, whose wheel carries the photographs; install it "
            "with pip install 'mapreel[record]'"
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / PHOTOS[name]
    try:
        photo = Image.open(path).convert("RGB")
    except OSError as error:
        raise OptionError(f"no photograph {name!r} at {path}: {error}") from error
    scale = _SHORT_SIDE / min(photo.size)
    width, height = (max(_SHORT_SIDE, round(side * scale)) for side in photo.size)
    photo = photo.resize((width, height), Image.Resampling.LANCZOS)
    split: dict[str, list[Image.Image]] = {"train": [], "test": []}
    for row in range(3):
        for column in range(3):
            box = (
                column * width // 3,
                row * height // 3,
                (column + 1) * width // 3,
                (row + 1) * height // 3,
            )
            split["test" if row == column else "train"].append(photo.crop(box))
    return split


def _photos(size: int, seed: int) -> Data:
    """Sample i is a crop of photograph i modulo 10, so that the first few show all classes."""
    count = len(PHOTOS)
    images = {
        split: np.empty((crops * count, 3, size, size), np.uint8) for split, crops in _CROPS.items()
    }
    for label, name in enumerate(PHOTOS):
        for part, (split, parts) in enumerate(cells(name).items()):
            random = np.random.default_rng((seed, label, part))
            for place in range(label, len(images[split]), count):
                cell = parts[random.integers(len(parts))]
                images[split][place] = _crop(cell, size, random)
    train, test = (
        Crops(pictures, [place % count for place in range(len(pictures))])
        for pictures in images.values()
    )
    return Data("photos", train, test, list(PHOTOS), _PHOTO_MEAN, _PHOTO_STD)


def _crop(cell: Image.Image, size: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random crop, flipped and mildly jittered: uint8 (3, size, size)."""
    side = int(random.integers(_CROP[0], _CROP[1] + 1))
    left = int(random.integers(cell.width - side + 1))
    top = int(random.integers(cell.height - side + 1))
    crop = cell.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    pixels = np.asarray(crop, np.float64)  # (size, size, 3)
    if random.random() < 0.5:
        pixels = pixels[:, ::-1]
    contrast = random.uniform(0.85, 1.15)
    brightness = random.uniform(-16, 16)
    gain = random.uniform(0.95, 1.05, 3)
    pixels = ((pixels - 128) * contrast + 128 + brightness) * gain
    channels_first = np.clip(np.rint(pixels), 0, 255).astype(np.uint8).transpose(2, 0, 1)
    return np.ascontiguousarray(channels_first)


# torchvision's data sets

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as torchvision's weights

_CLASSES = {
    "cifar10": "CIFAR10",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
}


def _transform(size: int, gray: bool = False) -> Any:
    transforms = import_torchvision().transforms
    steps = [transforms.Grayscale(3)] if gray else []
    steps += [
        transforms.Resize((size, size), antialias=True),
        transforms.ToTensor(),
        transforms.Normalize(_MEAN, _STD),
    ]
    return transforms.Compose(steps)


def _downloadable(name: str, folder: Path, size: int, download: bool) -> Data:
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
    """`train` and `val` or `test` where there are such folders, else one in five to test."""
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
    held = max(1, len(order) // 5)
    if len(order) < 2:
        raise OptionError(f"only {len(order)} image in {folder.absolute()}; expected at least 2")
    train, test = Subset(everything, order[held:]), Subset(everything, order[:held])
    return Data("folder", train, test, everything.classes, _MEAN, _STD)


def _fake(size: int, seed: int) -> Data:
    make = import_torchvision().datasets.FakeData
    shape, count = (3, size, size), 10
    transform = _transform(size)
    train = make(640, shape, count, transform, random_offset=seed * 1000)
    test = make(160, shape, count, transform, random_offset=seed * 1000 + 640)
    return Data("fake", _Ints(train), _Ints(test), [str(n) for n in range(count)], _MEAN, _STD)


class _Ints(Dataset[Sample]):
    """FakeData with plain integers as labels, as everywhere else."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """One sample."""
        image, label = self._samples[index]
        return image, int(label)
