"""A recording that is changed in a copy keeps its owner, its rights and the place of its link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import replay
from record import Writer
from record.writer import copies, ownership
from record.writer.recording_file import RecordingFile

ONE = {"a": np.ones((1, 2, 2))}


def _begin(path: Path) -> None:
    with Writer(path, quiet=True) as writer:
        for epoch in range(2):
            writer.write(epoch=epoch, batch=0, maps=ONE)


def _resume(path: Path) -> None:
    with Writer(path, resume=True, quiet=True) as writer:
        writer.write(epoch=2, batch=0, maps=ONE)


def _resume_earlier(path: Path) -> None:
    with Writer(path, resume=1, quiet=True) as writer:
        writer.write(epoch=1, batch=0, maps=ONE)


def _late_field(path: Path) -> None:
    with Writer(path, resume=True, quiet=True) as writer:
        writer.write(epoch=2, batch=0, maps=ONE)
        writer.write(epoch=2, batch=1, maps=ONE, accuracy=0.5)


def _late_layer(path: Path) -> None:
    with Writer(path, resume=True, quiet=True) as writer:
        writer.write(epoch=2, batch=0, maps=ONE)
        writer.write(epoch=2, batch=1, maps={**ONE, "b": np.ones(3)})


def _overwrite(path: Path) -> None:
    with Writer(path, overwrite=True, quiet=True) as writer:
        writer.write(epoch=0, batch=0, maps=ONE)


CHANGES = {_resume: 3, _resume_earlier: 2, _late_field: 4, _late_layer: 4, _overwrite: 1}
"""What changes a recording, and how many frames it has then."""


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
@pytest.mark.parametrize("change", CHANGES)
def test_the_mode_stays(tmp_path: Path, change: Callable[[Path], None], mode: int) -> None:
    path = tmp_path / "run.h5"
    _begin(path)
    path.chmod(mode)
    change(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert sorted(os.listdir(tmp_path)) == ["run.h5"]
    assert not replay.verify(path).problems


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="not tested: files of others, not root"
)
@pytest.mark.parametrize("change", CHANGES)
def test_the_owner_stays(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "run.h5"
    _begin(path)
    os.chown(path, 1234, 2345)
    change(path)
    about = path.stat()
    assert (about.st_uid, about.st_gid) == (1234, 2345)


def test_attributes_of_the_file_system_stay(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    _begin(path)
    try:
        os.setxattr(path, "user.comment", b"of the night")
    except (OSError, AttributeError):
        pytest.skip("not tested: this file system keeps no attributes")
    _resume(path)
    assert os.getxattr(path, "user.comment") == b"of the night"


@pytest.mark.parametrize("change", CHANGES)
def test_a_link_stays_and_what_it_leads_to_is_written(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    (tmp_path / "store").mkdir()
    path, link = tmp_path / "store" / "run.h5", tmp_path / "latest.h5"
    _begin(path)
    link.symlink_to(path)
    change(link)
    assert link.is_symlink()
    assert not path.is_symlink()
    with replay.open(path) as run:
        assert len(run.frames) == CHANGES[change]
    assert sorted(os.listdir(tmp_path)) == ["latest.h5", "store"]
    assert os.listdir(tmp_path / "store") == ["run.h5"]


def test_nobody_else_may_read_a_copy_before_it_has_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / "run.h5", tmp_path / "copy.h5"
    path.write_bytes(b"secret")
    path.chmod(0o640)
    before: list[int] = []

    def noted(source: str, target: str) -> None:
        before.append(stat.S_IMODE(os.stat(target).st_mode))
        ownership.keep_rights(source, target)

    monkeypatch.setattr(copies, "keep_rights", noted)
    assert copies.copy_whole_file(str(path), str(copy))
    assert before == [0o600]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640


def test_a_file_that_turned_up_just_now_is_not_written_over(tmp_path: Path) -> None:
    """Between the look of whoever begins a recording and the writer's own start."""
    path = tmp_path / "run.h5"
    path.write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        RecordingFile(str(path), False, {"format": "mapreel", "version": 1, "meta": "{}"})
    assert path.read_bytes() == b"somebody's"
    assert os.listdir(tmp_path) == ["run.h5"]


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    _begin(tmp_path / "run.h5")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "run.h5")}
    assert len(modes) == 1
