"""What no recording can be called is refused in one line, before anything is begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from record import Recorder, Writer
from replay.schema import OptionError, OutputError

FACES: dict[str, Callable[[Any], Any]] = {
    "Recorder": lambda path: Recorder(nn.Conv2d(1, 2, 3), path),
    "Recorder(resume=True)": lambda path: Recorder(nn.Conv2d(1, 2, 3), path, resume=True),
    "Recorder(overwrite=True)": lambda path: Recorder(nn.Conv2d(1, 2, 3), path, overwrite=True),
    "Writer": Writer,
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a\0b.h5", r"no file can be called a\x00b.h5: embedded null byte"),
        ("a\ud800b.h5", r"no file can be called a\ud800b.h5: not in this system's encoding"),
        (f"{'x' * 300}.h5", "xxx.h5: file name too long"),
        ("", "expected a file such as run.h5, but . is a folder"),
    ],
)
def test_no_file_can_be_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face: str, name: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError) as told:
        FACES[face](name)
    text = str(told.value)
    assert text.endswith(expected)
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("value", [3, None, b"run.h5", ["run.h5"]])
def test_what_is_no_path_is_said(face: str, value: Any) -> None:
    with pytest.raises(OptionError, match="path: expected a path such as 'run.h5', found "):
        FACES[face](value)
