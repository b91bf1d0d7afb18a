"""What a reader promises of any file, each by the smallest file that would break it."""

from __future__ import annotations

import itertools
import os
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay import schema
from replay.recording import remote_file
from replay.recording.chunk_filters import GZIP, Pipeline
from replay.recording.remote_file import RemoteFile, describe_error
from replay.recording.safe_file import SafeFile, retried
from replay.recording.tree import walk
from replay.schema import FileError
from replay.schema.errors import UnreachableError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(2, 6, 5)})


@pytest.fixture
def unfinished(path: Path) -> Path:
    """A recording whose writer was killed long ago."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["state"][3] = 0
        file.swmr_mode = True
        file.flush()
        image = path.read_bytes()
    path.write_bytes(image)
    os.utime(path, (0, 0))
    return path


def test_a_flipped_bit_in_the_superblock_is_never_passed_over(unfinished: Path) -> None:
    image = unfinished.read_bytes()
    with replay.open(unfinished) as run:
        assert run.frames
    for bit in range(0, 48 * 8, 3):
        damaged = bytearray(image[:48])
        damaged[bit // 8] ^= 1 << bit % 8
        with unfinished.open("r+b") as file:
            file.write(damaged)
        os.utime(unfinished, (0, 0))
        with pytest.raises(FileError):
            replay.open(unfinished)


def test_the_counter_is_read_before_what_it_vouches_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, real = list[str](), SafeFile.read_numbers

    def noted(self: SafeFile, place: str, *more: Any) -> Any:
        read.append(place)
        return real(self, place, *more)

    with replay.open(path) as run:
        monkeypatch.setattr(SafeFile, "read_numbers", noted)
        run.refresh()
        assert run["conv1"][0, 0].any()
    assert read[:2] == [schema.STATE, f"{schema.BATCHES}/recorded"]
    assert read.count(schema.STATE) == 1


class BeingWritten(SafeFile):
    """A file that a writer changes in the middle of the first look at it."""

    looks = 0

    @retried
    def look(self) -> str:
        self.looks += 1
        if self.looks == 1:
            raise FileError("half of it is written")
        return "right"


def test_what_a_writer_has_changed_meanwhile_is_read_again(unfinished: Path) -> None:
    os.utime(unfinished)  # the writer is at work
    with BeingWritten(unfinished) as file:
        assert file.look() == "right"
    os.utime(unfinished, (0, 0))  # it was killed: what is wrong stays so
    with BeingWritten(unfinished) as file, pytest.raises(FileError, match="half of it"):
        file.look()


def test_no_more_cells_than_a_file_can_hold(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["batches/recorded"]
        file.create_dataset("batches/recorded", (2000, 2500), "<i8", chunks=(1, 100))
    with pytest.raises(FileError, match="declares 5,000,000 values"):
        replay.open(path)


def test_no_text_is_larger_than_those_of_a_recording(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["created"]
        file.attrs["created"] = "x" * 5_000_000
    with pytest.raises(FileError, match="'created' .* has 5,000,000 bytes"):
        replay.open(path)


def test_groups_in_circles_are_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["maps/round"] = file["maps"]
    with SafeFile(path) as file, pytest.raises(FileError, match="leads round in circles"):
        list(itertools.islice(walk(file), 1000))


def test_a_chunk_is_not_expanded_beyond_its_shape() -> None:
    pipeline, bomb = Pipeline(((GZIP, (4,)),), 1), zlib.compress(bytes(20 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expands to more than the 100 bytes"):
            pipeline.decode(bomb, 0, 100)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_description_that_is_nested_without_end_is_none() -> None:
    assert schema.decode_meta("[" * 200_000) == {}
    assert schema.decode_meta('{"a":' * 200_000) == {}
    assert schema.decode_meta("[1]") == {}
    assert schema.decode_meta('{"a": 1}') == {"a": 1}


def test_errors_of_other_packages_show_nothing_secret() -> None:
    for words in (
        "cannot reach http://me:secret@host/run.h5 now",
        "403: https://host/a/run.h5?X-Amz-Signature=secret",
        "no such bucket: s3://key:secret@bucket/run.h5",
    ):
        said = describe_error(OSError(words))
        assert "secret" not in said
        assert "host/" in said or "bucket/" in said


def test_a_lost_connection_is_tried_again_thrice(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()
    monkeypatch.setattr(remote_file.time, "sleep", pauses.append)
    for failures in range(5):
        file = RemoteFile.__new__(RemoteFile)  # which has no server
        file.name, file.failure, file._patient = "http://host/run.h5", None, False
        left = [failures]

        def read(left: list[int] = left) -> str:
            left[0] -= 1
            if left[0] >= 0:
                raise ConnectionResetError("reset by peer")
            return "data"

        pauses.clear()
        if failures <= 3:
            assert file._try(read) == "data"
            assert pauses == list(remote_file.PAUSES[:failures])
        else:
            with pytest.raises(UnreachableError, match="was lost"):
                file._try(read)
            with pytest.raises(UnreachableError):  # which is said once, and not waited for again
                file._try(read)
            assert pauses == list(remote_file.PAUSES)


def test_a_frame_that_was_changed_is_not_shown_whatever_it_is(path: Path) -> None:
    """Maps, kernels and images alike: the values are others, and so is what reads them."""
    with h5py.File(path, "r+") as file:
        frames = file["maps/conv1"]
        frames[0, 0, 0, 0, 0] = np.float16(7)
    with replay.open(path) as run:
        with pytest.raises(schema.DamagedError, match="conv1 maps of epoch 0 batch 0"):
            run["conv1"][0, 0]
        assert run["conv1"][0, 1].shape == (2, 6, 5)
