"""What each frame of the soak holds, and what befalls each of its recordings, known beforehand.

Every frame is a function of segment (a recording), part (from one start of the recorder to its
close), epoch, batch and layer, and names the first four in its image. Imports no torch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

SHAPE = (1, 4, 4)  # of an image
CHANNELS = {"first": 2, "second": 3, "late": 1, "later": 2}
KINDS = ("plain", "resume", "replace", "budget", "drop", "arrays")
FIELD = "extra"  # a value that is logged from the middle on

Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """A recording, as it is to be made.

    Attributes:
        number: Its number, from 0.
        kind: What befalls it, one of `KINDS`.
        size: Batches that are trained, of all parts together.
        length: Batches of an epoch.
        parts: For each start of a recorder the first epoch, and the one behind the last.
        late: By layer, how many batches of the segment were trained before it fires for the first
            time; a field of its own is logged from `late["later"]` on.
        durability: As in `Recorder`.
        thinned: How many times as many batches there are as the budget has room for.
    """

    number: int
    kind: str
    size: int
    length: int
    parts: tuple[tuple[int, int], ...]
    late: dict[str, int]
    durability: str
    thinned: int

    def batches(self, part: int) -> Iterator[tuple[int, int, int]]:
        """Yields epoch, batch and the number of batches of the segment trained before each."""
        before = sum(end - start for start, end in self.parts[:part]) * self.length
        start, end = self.parts[part]
        for epoch in range(start, end):
            for batch in range(self.length):
                yield epoch, batch, before + (epoch - start) * self.length + batch

    def part_of(self, epoch: int) -> int:
        """Returns the part whose frames of an epoch are in the file at the end."""
        return max(part for part, (start, end) in enumerate(self.parts) if start <= epoch < end)

    def trained_before(self, part: int, epoch: int, batch: int) -> int:
        """Returns the number of batches of the segment trained before one of them."""
        before = sum(end - start for start, end in self.parts[:part]) * self.length
        return before + (epoch - self.parts[part][0]) * self.length + batch

    @cached_property
    def cells(self) -> set[tuple[int, int]]:
        """Every epoch and batch that is recorded where nothing is left out."""
        return {cell[:2] for part in range(len(self.parts)) for cell in self.batches(part)}


def plan(seed: int, number: int, size: int) -> Segment:
    """Decides what is to befall a recording.

    Args:
        seed: Of the whole soak.
        number: The segment's, from 0. Kinds follow each other, so that there is each of them.
        size: About how many batches are trained.
    """
    rng = random.Random(f"{seed} {number}")
    kind = KINDS[number % len(KINDS)]
    length = max(4, rng.randrange(size // 40, size // 8))
    epochs = max(4, size // length)
    cut = rng.randrange(1, epochs - 1)
    parts = {
        "resume": ((0, cut), (cut, epochs - 1), (epochs - 1, epochs)),
        "replace": ((0, cut + 1), (rng.randrange(0, cut + 1), epochs)),
        "arrays": ((0, cut), (cut, epochs)),
    }.get(kind, ((0, epochs),))
    trained = sum(end - start for start, end in parts) * length
    late = sorted(rng.sample(range(1, trained), 2))
    return Segment(
        number=number,
        kind=kind,
        size=trained,
        length=length,
        parts=parts,
        late={"first": 0, "second": 0, "late": late[0], "later": late[1]},
        durability=rng.choice(("fsync", "fsync", "flush")),
        thinned=rng.choice((3, 6, 12)),
    )


def weights(segment: int, layer: str) -> tuple[npt.NDArray[np.float32], Numbers]:
    """Returns what a layer multiplies an image by and adds to it, float32 (C,) each."""
    rng = random.Random(f"{segment} {layer}")
    factors = [rng.choice((-2, -1, 1, 2)) for _ in range(CHANNELS[layer])]
    return np.float32(factors), np.float32([rng.randrange(-40, 40) for _ in factors])


@lru_cache(maxsize=16)
def images(segment: int, part: int, epoch: int, length: int) -> Numbers:
    """Returns the images of an epoch, whole numbers below 1,000, float32 (length, 1, 4, 4)."""
    batches = np.arange(length, dtype=np.uint64)
    seed = ((segment * 64 + part) * 100_003 + epoch) * 1_000_003
    mixed = (batches[:, None] + np.uint64(seed)) * (
        np.uint64(0x9E3779B97F4A7C15) ^ np.arange(1, 17, dtype=np.uint64) * np.uint64(0x2545F491)
    )
    found = ((mixed ^ mixed >> np.uint64(29)) >> np.uint64(24)) % np.uint64(1000)
    values = found.astype(np.float32)
    values[:, :4] = segment % 1000, segment // 1000, part, epoch
    values[:, 4], values[:, 5] = batches % 1000, batches // 1000
    return values.reshape(length, *SHAPE)


@lru_cache(maxsize=64)
def maps(segment: int, part: int, epoch: int, length: int, layer: str) -> npt.NDArray[np.float16]:
    """Returns what a layer puts out in an epoch, float16 (length, C, 4, 4), exactly."""
    factors, added = (each[:, None, None] for each in weights(segment, layer))
    return (images(segment, part, epoch, length) * factors + added).astype(np.float16)


def loss(segment: int, part: int, epoch: int, batch: int) -> float:
    """Returns what is logged with a frame, exact in float32."""
    return (segment % 512) * 8192.0 + part * 2048 + (epoch % 32) * 64 + batch % 64
