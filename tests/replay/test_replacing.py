"""Results take their place when they are whole; what stood there before stays until then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from replay.output import replacing


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_all_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "film.gif"
    path.write_bytes(b"the one before")
    with pytest.raises(error), replacing(path) as unfinished:
        unfinished.write_bytes(b"half of")
        assert path.read_bytes() == b"the one before"
        raise error
    assert path.read_bytes() == b"the one before"
    assert os.listdir(tmp_path) == ["film.gif"]


def test_a_folder_that_fails_leaves_none(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        replacing(tmp_path / "frames", folder=True) as unfinished,
    ):
        (unfinished / "0.png").write_bytes(b"one of two")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_what_is_whole_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    path.write_bytes(b"the one before")
    with replacing(path) as unfinished:
        unfinished.write_bytes(b"all of it")
    assert path.read_bytes() == b"all of it"
    assert os.listdir(tmp_path) == ["film.gif"]
