"""A recording that is packed in its own place: only by what is whole, and of what nobody changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from samples import drifting_maps, write_recording

import replay
from replay.files import in_place
from replay.files.in_place import pack_in_place
from replay.files.verification import Problem, Report

MAPS = {"conv": drifting_maps(4, 32, 32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "run.h5", MAPS, epochs=1)


def test_it_takes_the_place_of_the_recording(path: Path) -> None:
    size = path.stat().st_size
    path.chmod(0o640)
    assert pack_in_place(path)
    assert path.stat().st_size < size
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == ["run.h5"]
    assert replay.verify(path)


def test_what_does_not_verify_takes_nothings_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    wrong = Report(path, problems=[Problem("maps", "another value")])
    monkeypatch.setattr(in_place, "verify", lambda small: wrong)
    assert not pack_in_place(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["run.h5"]


def test_a_recording_that_was_changed_meanwhile_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(small: Path) -> bool:
        path.write_bytes(b"another one")  # while the copy is looked at
        return True

    monkeypatch.setattr(in_place, "verify", verify)
    assert not pack_in_place(path)
    assert path.read_bytes() == b"another one"
    assert os.listdir(path.parent) == ["run.h5"]


def test_a_recording_that_is_still_written_stays(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", MAPS, epochs=1, closed=False)
    before = path.read_bytes()
    assert not pack_in_place(path)
    assert path.read_bytes() == before
