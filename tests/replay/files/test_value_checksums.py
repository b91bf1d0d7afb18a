"""Values beside the maps: a flipped bit in any of them is named, and never shown as a value."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder

EPOCHS, BATCHES = 2, 3
OF_LAYERS = ("ranges", "exponents")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(torch.relu(self.conv1(x))).mean((2, 3))


def record(path: Path, copy: Path) -> None:
    """Records with all kinds of values; `copy` is the file in the middle of the last epoch."""
    torch.manual_seed(0)
    model = Net()
    data = [(torch.randn(2, 3, 10, 10), torch.tensor([1, 0])) for _ in range(BATCHES)]
    probe = torch.rand(1, 3, 10, 10)
    with Recorder(model, path, layers="conv*", probe=probe, gradients=True) as recorder:
        for epoch in range(EPOCHS):
            for images, labels in recorder.track(data):
                loss = nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                recorder.log(loss=loss, label=labels[0], prediction=1, lr=0.1, own=epoch)
        recorder.flush()
        shutil.copyfile(path, copy)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("values")
    made = {name: folder / f"{name}.h5" for name in ("closed", "unfinished")}
    record(made["closed"], made["unfinished"])
    return made


@dataclass(frozen=True)
class Place:
    """Bytes of one value in a file.

    Attributes:
        path: The dataset.
        cell: The epoch and batch of the value.
        start: The first of its bytes in the file.
        size: How many there are.
    """

    path: str
    cell: tuple[int, int]
    start: int
    size: int


def places(path: Path) -> Iterator[Place]:
    """Yields every value of a frame that has a checksum, and every such checksum."""
    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        found: list[str] = []
        file["value_checksums"].visit(
            lambda name: (
                found.append(name)
                if isinstance(file["value_checksums"][name], h5py.Dataset)
                else None
            )
        )
        of_frames = [name for name in found if not name.endswith("/input")]
        for name in (*of_frames, *(f"value_checksums/{name}" for name in of_frames)):
            values = file[name]
            size = values.dtype.itemsize * int(np.prod(values.shape[2:]))
            for epoch, batch in np.argwhere(file["batches/recorded"][:EPOCHS, :BATCHES] > 0):
                wide = values.chunks[1]
                origin = (int(epoch), int(batch) // wide * wide, *(0,) * (values.ndim - 2))
                start = values.id.get_chunk_info_by_coord(origin).byte_offset
                at = start + int(batch) % wide * size
                yield Place(name, (int(epoch), int(batch)), at, size)


def facts(run: replay.Recording) -> dict[str, np.ndarray]:
    """Returns every number that a picture or an export could show."""
    found = {f"batches/{name}": run.batches[name] for name in run.batches}
    for view, group in ((run, ""), (run.probe(0), "probe/0/")):
        for name in view.layers:
            found[f"{group}ranges/{name}"] = view[name].ranges()
        beside = view.beside("gradients")
        for name in beside.layers:
            true = beside.scaled(name)
            found[f"{group}gradients/ranges/{name}"] = true.stored.ranges()
            found[f"{group}gradients/exponents/{name}"] = true.exponents
    return found


def is_unset(value: np.ndarray, path: str) -> bool:
    """Returns whether a value says that there is none."""
    if "exponents/" in path:
        return int(value) > 200
    return bool(np.isnan(value).all()) if value.dtype.kind == "f" else int(value) in (-1, 0)


def check_flip(path: Path, place: Place, bit: int, before: dict[str, np.ndarray]) -> None:
    """Flips one bit, looks at everything, and puts it back."""
    at, mask = place.start + bit // 8, 1 << bit % 8
    with path.open("r+b") as raw:

        def flip() -> None:
            raw.seek(at)
            byte = raw.read(1)[0]
            raw.seek(at)
            raw.write(bytes([byte ^ mask]))
            raw.flush()

        flip()
        try:
            named = [(str(p), p.epoch, p.batch) for p in replay.verify(path).problems]
            with replay.open(path) as run:
                after = facts(run)
        finally:
            flip()
    epoch, batch = place.cell
    checked = place.path.removeprefix("value_checksums/")
    kind, _, name = checked.rpartition("/")
    about = [text for text, *cell in named if cell == [epoch, batch] and name in text]
    assert about, f"{place} bit {bit}: {named}"
    for path_of, values in before.items():
        same = np.array_equal(values, after[path_of], equal_nan=values.dtype.kind == "f")
        if path_of != checked or kind.endswith("ranges") or name == "recorded":
            assert same, f"{place} bit {bit} changed {path_of}"
            continue
        if name == "input_checksum":
            continue  # which the image is held against
        assert is_unset(after[path_of][place.cell], path_of), f"{place} bit {bit}"
        after[path_of][place.cell] = values[place.cell]
        assert np.array_equal(values, after[path_of], equal_nan=values.dtype.kind == "f")


@pytest.mark.parametrize("state", ["closed", "unfinished"])
@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_named_and_not_shown(
    state: str, times: int, files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    shutil.copyfile(files[state], path)
    assert replay.verify(path)
    with replay.open(path) as run:
        before = facts(run)
    random = np.random.default_rng(times)
    by_path: dict[str, list[Place]] = {}
    for place in places(path):
        by_path.setdefault(place.path, []).append(place)
    assert {p.split("/")[0] for p in by_path} == {
        *("batches", "ranges", "gradients", "probe", "value_checksums")
    }
    for of_path in by_path.values():
        if times == 1 and of_path[0].path.startswith("value_checksums/probe"):
            continue
        for _ in range(times):
            place = of_path[random.integers(len(of_path))]
            check_flip(path, place, int(random.integers(8 * place.size)), before)
    assert replay.verify(path)
