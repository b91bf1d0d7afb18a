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
from values_in_file import find_value

import replay
from record import Recorder
from replay.schema import DamagedError

EPOCHS, BATCHES = 2, 3


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
            for epoch, batch in np.argwhere(file["batches/recorded"][:EPOCHS, :BATCHES] > 0):
                yield Place(name, (cell := (int(epoch), int(batch))), *find_value(values, *cell))


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


def check_flips(path: Path, flips: list[tuple[Place, int]], before: dict[str, np.ndarray]) -> None:
    """Flips a bit of a value of each of some datasets, looks at everything, and puts them back."""

    def flip() -> None:
        with path.open("r+b") as raw:
            for place, bit in flips:
                raw.seek(place.start + bit // 8)
                byte = raw.read(1)[0]
                raw.seek(place.start + bit // 8)
                raw.write(bytes([byte ^ 1 << bit % 8]))

    flip()
    named = [(str(p), p.epoch, p.batch) for p in replay.verify(path).problems]
    with replay.open(path) as run:
        after = facts(run)
    flip()
    for place, bit in flips:
        checked = place.path.removeprefix("value_checksums/")
        group, _, name = checked.rpartition("/")
        about = [text for text, *cell in named if tuple(cell) == place.cell and name in text]
        assert about, f"{place} bit {bit}: {named}"
        if group.endswith("ranges") or name in ("recorded", "input_checksum"):
            continue  # is known otherwise, or is what an image is held against
        assert is_unset(after[checked][place.cell], checked), f"{place} bit {bit}"
        after[checked][place.cell] = before[checked][place.cell]
    after.pop("batches/input_checksum")
    for path_of, values in after.items():
        same = np.array_equal(values, before[path_of], equal_nan=values.dtype.kind == "f")
        assert same, f"{flips} changed {path_of}"


@pytest.mark.parametrize("state", ["closed", "unfinished"])
@pytest.mark.parametrize("times", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_named_and_not_shown(
    state: str, times: int, files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    shutil.copyfile(files[state], path)
    assert replay.verify(path)
    with replay.open(path) as run:
        before = facts(run)
    random = np.random.default_rng(times)
    of_values: dict[str, list[Place]] = {}
    of_checksums: dict[str, list[Place]] = {}
    for place in places(path):
        found = of_checksums if place.path.startswith("value_checksums/") else of_values
        found.setdefault(place.path, []).append(place)
    assert len(of_values) == len(of_checksums) == 20  # 12 fields, 6 ranges, 2 exponents
    for number in range(times):
        flips = []
        for of_path in (of_checksums if number % 2 else of_values).values():
            place = of_path[random.integers(len(of_path))]
            flips.append((place, int(random.integers(8 * place.size))))
        check_flips(path, flips, before)
    assert replay.verify(path)


def test_a_damaged_range_scales_no_picture_and_a_damaged_loss_is_a_gap(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path, gap = tmp_path / "damaged" / "run.h5", tmp_path / "gap" / "run.h5"
    for copy in (path, gap):
        copy.parent.mkdir()
        shutil.copyfile(files["closed"], copy)
    with h5py.File(path, "r+") as file:
        for group in ("", "probe/0/", "gradients/"):
            file[f"{group}ranges/conv1"][0, 1] = [-3e38, np.inf]
        file["batches/loss"][0, 1] = np.inf
        file["batches/step"][1, 0] = 1 << 60
        del file["probe/0/input"]
        file["probe/0/input"] = np.full((3, 10, 10), 9, np.float16)
    with h5py.File(gap, "r+") as file:
        file["batches/loss"][0, 1] = np.nan
        file["value_checksums/batches/loss"][0, 1] = zlib.crc32(np.float64(np.nan).tobytes())
    pictures = []
    for copy in (path, gap):
        out = copy.with_name("pictures")
        replay.animate(copy, f"{out}/", layers="conv1", scale="run")
        pictures.append({file.name: file.read_bytes() for file in out.rglob("*.png")})
    assert len(pictures[0]) > 5
    assert pictures[0] == pictures[1]
    with replay.open(path) as run, pytest.raises(DamagedError, match="its checksum is wrong"):
        run.probe(0).inputs[0, 0]
    problems = {(p.what, p.layer, p.epoch, p.batch) for p in replay.verify(path).problems}
    assert ("input", "fixed image 0", None, None) in problems
    assert ("ranges", "fixed image 0: conv1", 0, 1) in problems
    assert replay.repair(path, tmp_path / "repaired.h5").left_out
    assert replay.verify(tmp_path / "repaired.h5")
    with replay.open(tmp_path / "repaired.h5") as run:
        assert np.isnan(run.batches["loss"][0, 1])
        assert run.batches["step"][1, 0] == -1
        assert run.lost == 0


def lose(path: Path, epoch: int) -> None:
    """Has the values of an epoch, and their checksums, read as 0: what a disk may leave of them."""
    with h5py.File(path, "r+") as file:
        for name in file["batches"]:
            if name != "recorded":
                file[f"batches/{name}"][epoch] = 0
            file[f"value_checksums/batches/{name}"][epoch] = 0


def test_values_that_are_lost_with_their_checksums_are_not_shown(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    shutil.copyfile(files["closed"], path)
    lose(path, 1)
    with replay.open(path) as run:
        assert (run.batches["step"][1, :BATCHES] == -1).all()
        for name in ("loss", "time", "lr", "own"):
            assert np.isfinite(run.batches[name][0, :BATCHES]).all()
            assert np.isnan(run.batches[name][1, :BATCHES]).all()
    said = [str(problem) for problem in replay.verify(path).problems]
    assert any("time: its checksum is wrong" in each for each in said), said


BESIDE = ("ranges", "gradients/ranges", "probe/0/ranges", "probe/0/gradients/ranges")


def lose_beside(path: Path, paths: list[str], epoch: int) -> None:
    """Has datasets and their checksums read as 0 in an epoch."""
    with h5py.File(path, "r+") as file:
        for name in paths:
            file[name][epoch] = 0
            file[f"value_checksums/{name}"][epoch] = 0


def test_ranges_that_are_lost_with_their_checksums_are_those_of_the_frames(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    shutil.copyfile(files["closed"], path)
    with h5py.File(path) as file:
        paths = [f"{group}/conv1" for group in BESIDE if group in file]
    assert len(paths) >= 3
    with replay.open(path) as run:
        before = facts(run)
    lose_beside(path, paths, 1)
    with replay.open(path) as run:
        after = facts(run)
    for name, values in before.items():
        assert np.array_equal(after[name], values, equal_nan=values.dtype.kind == "f"), name
    said = [(p.what, p.layer) for p in replay.verify(path).problems if p.epoch == 1]
    assert said.count(("ranges", "conv1")) >= BATCHES
    assert len([each for each in said if each[0] == "ranges"]) == len(paths) * BATCHES


def test_an_exponent_that_is_lost_with_its_checksum_is_none(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    shutil.copyfile(files["closed"], path)
    lose_beside(path, ["gradients/exponents/conv1"], 1)
    with replay.open(path) as run:
        gradients = run.beside("gradients").scaled("conv1")
        assert np.isfinite(gradients[0, 0]).all()
        with pytest.raises(DamagedError, match="its checksum is wrong"):
            gradients[1, 0]
        assert np.isnan(gradients.ranges()[1, :BATCHES]).all()
    assert sum(p.epoch == 1 for p in replay.verify(path).problems) == BATCHES


def test_counts_that_are_lost_with_their_checksums_are_not_believed(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """A lost count is 0, as it is where all values are finite: then nothing is known of them."""
    path = tmp_path / "run.h5"
    shutil.copyfile(files["closed"], path)
    lose_beside(path, ["batches/nan", "batches/inf"], 1)
    with replay.open(path) as run:
        unfinite = run["conv1"].unfinite()
        assert unfinite is not None
        assert unfinite[1, :BATCHES].all()
        assert not unfinite[0].any()
    named = {p.text.split(":")[0] for p in replay.verify(path).problems}
    assert named == {"nan", "inf"}


def test_a_fixed_image_that_is_lost_with_its_checksum_is_not_shown(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    shutil.copyfile(files["closed"], path)
    with h5py.File(path, "r+") as file:
        file["probe/0/input"][...] = 0
        file["value_checksums/probe/0/input"][...] = 0
    with replay.open(path) as run, pytest.raises(DamagedError, match="its checksum is wrong"):
        run.probe(0).inputs[0, 0]
    assert [p.layer for p in replay.verify(path).problems] == ["fixed image 0"]


def test_frames_of_8_bits_whose_ranges_are_lost_are_not_shown(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "small.h5"
    replay.pack(files["closed"], path, bits=8)
    lose_beside(path, ["ranges/conv1"], 1)
    with replay.open(path) as run:
        assert np.isfinite(run["conv1"][0, 0]).all()
        with pytest.raises(DamagedError, match="the ranges"):
            run["conv1"][1, 0]
    assert not replay.verify(path)


def test_values_from_before_there_were_checksums_are_believed(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    shutil.copyfile(files["closed"], path)
    with h5py.File(path, "r+") as file:  # as where a later version went on with an older file
        for name in file["batches"]:
            file[f"value_checksums/batches/{name}"][0] = 0
        for name in ("ranges/conv1", "gradients/ranges/conv1", "gradients/exponents/conv1"):
            file[f"value_checksums/{name}"][0] = 0
    assert replay.verify(path)
    with replay.open(path) as run:
        assert np.isfinite(run.beside("gradients").scaled("conv1")[0, 0]).all()
        assert run.batches["step"][:, :BATCHES].ravel().tolist() == list(range(EPOCHS * BATCHES))
        assert np.isfinite(run.batches["loss"][:EPOCHS, :BATCHES]).all()
