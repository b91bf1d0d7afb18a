"""Every value beside the maps has its checksum, whatever became of the file meanwhile."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

import replay
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.writer.recording_file import RecordingFile
from replay.schema import Layer

CONV, GRADIENT = (
    Layer("conv", "Conv2d(3, 2, 3)", (2, 4, 5)),
    Layer("conv", "Conv2d(3, 2, 3)", (2, 4, 5), kind="gradients", scaled=True, of="loss"),
)
LATE = Layer("late", "Conv2d(3, 2, 3)", (3, 2, 2))
FIRST, SECOND = BatchLayout((), (CONV, GRADIENT)), BatchLayout((), (CONV, GRADIENT, LATE))
BATCHES = 4
ATTRIBUTES = {"format": "mapreel", "version": 1, "run_id": "x", "created": "now", "meta": "{}"}
FIELDS = 8 * 7 + 4  # recorded, step, time, nan, inf, missing, loss of all, and what is logged late
RANGES = 8 * 3 + 3  # of maps, gradients and their exponents, and of the late layer
WITHOUT = ("maps", "kernels", "inputs", "checksums", "kernel_checksums", "state")


def check_checksums(path: Path) -> int:
    """Compares all checksums of values with what docs/format.md says; returns how many there are."""
    count = 0
    seen = path.with_name("seen.h5")  # which this process does not write
    shutil.copyfile(path, seen)
    with h5py.File(seen, "r", libver="latest", swmr=True) as file:
        state = file["state"][:]
        assert state[4] == zlib.crc32(state[:4].tobytes())
        whole = (file["batches/recorded"][:] >= 1) & (file["batches/recorded"][:] <= state[0])

        def check(name: str, values: h5py.Group | h5py.Dataset) -> None:
            nonlocal count
            *_, group, layer = ["", *name.split("/")]
            if not isinstance(values, h5py.Dataset) or name.startswith("value_checksums/"):
                return
            if group in WITHOUT or layer in WITHOUT:
                return
            sums = file[f"value_checksums/{name}"]
            if layer == "input":
                assert sums[0] == zlib.crc32(values[()].tobytes())
                return
            there = whole
            if group in ("ranges", "exponents"):
                there = whole & (file[name.replace(group, "checksums")][:] > 0)
            if group == "batches":  # of what was not logged there is none
                there = whole & ((sums[:] > 0) | ~np.isin(values[:], [values.fillvalue]))
                there &= ~np.isnan(values[:]) | (sums[:] > 0)
            assert ((sums[:] > 0) == there).all(), name
            for cell in map(tuple, np.argwhere(there)):
                assert zlib.crc32(values[cell].tobytes()) == sums[cell], (name, cell)
                count += 1

        file.visititems(check)
    return count


def write(file: RecordingFile, layout: BatchLayout, epoch: int, values: dict[str, float]) -> None:
    """Writes an epoch, in two goes, of which one leaves a gap, and without the late layer once."""
    random = np.random.default_rng(epoch)
    for batches in ((1, 3), (0, 2)):
        frames = random.standard_normal((2, layout.size)).astype(np.float16)
        slot = layout.exponent_slots[1]
        assert slot is not None
        frames[:, slot.start] = -3
        late = len(layout.layers) > 2
        headers = [
            FrameHeader(
                epoch, b, 4 * epoch + b, 1.5, values=values, missing=(2,) * (late and b == 3)
            )
            for b in batches
        ]
        file.write(headers, frames)
        file.commit()


def begin(path: Path, resume: int | None = None) -> RecordingFile:
    return RecordingFile(str(path), False, ATTRIBUTES, resume, durability="flush")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    file = begin(path)
    file.set_probes((1, 3, 4, 5), memoryview(np.ones(60, np.float16).tobytes()), [3])
    file.set_layout(FIRST, None)
    write(file, FIRST, 0, {"loss": 1.0})
    file.set_layout(SECOND, None)
    write(file, SECOND, 1, {"loss": 0.5, "late": 7.0})
    assert check_checksums(path) == FIELDS + RANGES  # not closed
    file.close(0, 0)
    return path


def test_every_value_has_its_checksum(run: Path) -> None:
    assert check_checksums(run) == FIELDS + RANGES
    assert replay.verify(run)


def test_a_recording_that_is_thinned_and_gone_on_with(run: Path) -> None:
    file = begin(run, resume=1)
    file.set_layout(SECOND, BATCHES)
    write(file, SECOND, 1, {"loss": 0.5})
    file.thin(2)
    write(file, SECOND, 2, {"loss": 0.5, "other": 1.0})
    file.close(0, 0)
    assert check_checksums(run) == 8 * 7 + 4 + 8 * 3 + 5
    assert replay.verify(run)


def test_an_older_file_is_read_in_silence_and_gone_on_with(run: Path) -> None:
    with h5py.File(run, "r+") as file:
        del file["value_checksums"]
        state = file["state"][:4]
        del file["state"]
        file["state"] = state
        file["batches/loss"][0, 0] = np.inf  # nothing vouches for it
    assert replay.verify(run)
    with replay.open(run) as old:
        assert old.committed == 8
        assert np.isinf(old.batches["loss"][0, 0])
    file = begin(run, resume=1)
    file.set_layout(SECOND, BATCHES)
    write(file, SECOND, 1, {"loss": 0.5})
    file.close(0, 0)
    assert replay.verify(run)
    with h5py.File(run, "r") as again:
        assert again["state"].shape == (5,)
        sums = again["value_checksums/batches/loss"][:]
        assert ((sums > 0).sum(axis=1) == [0, BATCHES]).all()
        assert (again["value_checksums/ranges/late"][1] > 0).sum() == BATCHES - 1


def test_packed_unpacked_and_repaired_recordings(run: Path, tmp_path: Path) -> None:
    for number, options in enumerate(({}, {"layers": "conv"}, {"batches": [0, 3], "bits": 8})):
        packed, back = tmp_path / f"packed{number}.h5", tmp_path / f"back{number}.h5"
        replay.pack(run, packed, **options)
        replay.unpack(packed, back)
        for path in (packed, back):
            assert check_checksums(path) > 30
        assert replay.verify(packed)
    repaired = tmp_path / "repaired.h5"
    replay.repair(run, repaired)
    assert check_checksums(repaired) == 8 * 12 + RANGES
    assert replay.verify(repaired)


def test_repair_and_resume_with_a_damaged_counter_and_number(run: Path, tmp_path: Path) -> None:
    with h5py.File(run, "r+") as file:
        file["state"][0] = 3
        file["batches/recorded"][0, 2] = 99
    with replay.open(run) as damaged:
        assert damaged.committed == 8
        assert damaged.order[0, 2] == 4  # the one that is missing
    found = {(p.what, p.epoch, p.batch) for p in replay.verify(run).problems}
    assert ("state", None, None) in found
    assert ("values", 0, 2) in found
    repaired = tmp_path / "repaired.h5"
    assert replay.repair(run, repaired).frames == 8
    assert replay.verify(repaired)
