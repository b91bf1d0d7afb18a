"""The data set `photos`: crops of ten photographs that the scikit-image wheel carries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset

from replay.schema import OptionError

Sample = tuple[torch.Tensor, int]
"""An image, float32 (3, size, size), normalised, and its label."""


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

# The columns of the cells of the three rows that are for testing, of nine in all: one in each row
# and in each column. The astronaut's face is to be among them.
_TESTS = {"astronaut": (1, 0, 2)}
_DIAGONAL = (0, 1, 2)

# The row of the cell whose picture is shown as a fixed image, and where in the cell its middle
# lies, from 0 (left) to 1: the face, an eye of the cat, the cup.
_PORTRAITS = {"astronaut": (0, 0.5), "chelsea": (1, 0.05), "coffee": (1, 0.5)}

_SHORT_SIDE = 384  # pixels
_CROP = (96, 128)  # pixels: smallest and largest side of a crop
_CROPS = {"train": 96, "test": 40}  # of each photograph
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Crops(Dataset[Sample]):
    """Crops that were made beforehand.

    Args:
        images: uint8 (N, 3, size, size).
        labels: Their N labels.
    """

    def __init__(self, images: npt.NDArray[np.uint8], labels: list[int]) -> None:
        self.images = torch.from_numpy(images)
        self.labels = labels
        self._mean = torch.tensor(MEAN).view(3, 1, 1)
        self._std = torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """Returns one normalised crop and its label."""
        image = self.images[index].float().div_(255.0)
        return image.sub_(self._mean).div_(self._std), self.labels[index]


def split_photo(name: str) -> dict[str, list[Image.Image]]:
    """Cuts a photograph into nine parts, of which no pixel is in two.

    The photograph is resized to a short side of 384 pixels and cut into a 3x3 grid.

    Args:
        name: One of `PHOTOS`.

    Returns:
        Three parts as `test`, of each row and of each column one, from top to bottom; the other
        six as `train`.

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
            is_test = _TESTS.get(name, _DIAGONAL)[row] == column
            split["test" if is_test else "train"].append(photo.crop(box))
    return split


def load_portraits(size: int) -> Crops:
    """Makes a picture of each photograph that one recognises, if one can: a face, the cat, the cup.

    Each is a square of a part for testing, as it is: of which no pixel is trained on.

    Args:
        size: Height and width of the pictures, in pixels.
    """
    images = np.empty((len(PHOTOS), 3, size, size), np.uint8)
    for label, name in enumerate(PHOTOS):
        row, place = _PORTRAITS.get(name, (1, 0.5))
        cell = split_photo(name)["test"][row]
        side = min(cell.size)
        left = round((cell.width - side) * place)
        top = (cell.height - side) // 2
        picture = cell.resize(
            (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
        images[label] = np.asarray(picture).transpose(2, 0, 1)  # (3, size, size)
    return Crops(images, list(range(len(PHOTOS))))


def load_photos(size: int, seed: int) -> tuple[Crops, Crops]:
    """Makes the training and the test samples.

    Sample i is a crop of photograph i modulo 10, so that the first few show all classes.

    Args:
        size: Height and width of the crops, in pixels.
        seed: Decides which crops are made.
    """
    count = len(PHOTOS)
    images = {
        split: np.empty((crops * count, 3, size, size), np.uint8) for split, crops in _CROPS.items()
    }
    for label, name in enumerate(PHOTOS):
        for number, (split, parts) in enumerate(split_photo(name).items()):
            random = np.random.default_rng((seed, label, number))
            for place in range(label, len(images[split]), count):
                part = parts[random.integers(len(parts))]
                images[split][place] = _crop(part, size, random)
    train, test = (
        Crops(pictures, [place % count for place in range(len(pictures))])
        for pictures in images.values()
    )
    return train, test


def _crop(part: Image.Image, size: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Returns a random crop, flipped and mildly jittered: uint8 (3, size, size)."""
    side = int(random.integers(_CROP[0], _CROP[1] + 1))
    left = int(random.integers(part.width - side + 1))
    top = int(random.integers(part.height - side + 1))
    crop = part.resize(
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
