"""Checkpoints of the built-in training: whole or not there, of this training, and only data."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from record.training import checkpoint
from record.training.checkpoint import StatefulParts, check_replaceable, load, restore, save
from record.training.settings import Settings
from replay.schema import OptionError, OutputError


def parts() -> StatefulParts:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return StatefulParts(model, optimizer, schedule, scaler, torch.Generator())


SETTINGS = Settings()


class Command:
    """What makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path, trace = tmp_path / "run.pt", tmp_path / "executed"
    save(path, SETTINGS, 1, parts())
    state = torch.load(path, weights_only=True)
    torch.save({**state, "python": Command(trace)}, path)
    with pytest.raises(OptionError, match="cannot be read as a checkpoint"):
        load(path, SETTINGS)
    assert not trace.exists()
    with pytest.raises(OutputError, match="is no checkpoint of record train"):
        check_replaceable(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it would have been
    assert trace.exists()


def test_an_older_one_stays_until_the_new_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    save(path, SETTINGS, 1, parts())
    before, done = path.read_bytes(), list[tuple[str, int]]()
    real_fsync, real_replace, real_save = os.fsync, os.replace, torch.save

    def fsync(descriptor: int) -> None:
        done.append(("fsync", os.fstat(descriptor).st_size))
        real_fsync(descriptor)

    def move(source: Path, target: Path) -> None:
        done.append(("replace", source.stat().st_size))
        assert path.read_bytes() == before
        real_replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "replace", move)
        save(path, SETTINGS, 2, parts())
    size = path.stat().st_size
    assert done == [("fsync", size), ("replace", size)]
    before = path.read_bytes()

    def fill_the_disk(state: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", fill_the_disk)
    with pytest.raises(OutputError, match="No space left"):
        save(path, SETTINGS, 3, parts())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.pt"]
    monkeypatch.setattr(checkpoint.torch, "save", real_save)
    assert restore(load(path, SETTINGS), parts()) == 2


def test_one_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    save(path, SETTINGS, 1, parts())
    with pytest.raises(OptionError, match=r"belongs to another training: it has .*seed 0, not 1"):
        load(path, replace(SETTINGS, seed=1))
    torch.save({"format": "another"}, path)
    with pytest.raises(OptionError, match="is no checkpoint of record train"):
        load(path, SETTINGS)
    with pytest.raises(OptionError, match="no checkpoint"):
        load(tmp_path / "nowhere.pt", SETTINGS)


def test_what_is_recorded_may_differ(tmp_path: Path) -> None:
    save(tmp_path / "run.pt", SETTINGS, 1, parts())
    other = replace(
        SETTINGS, layers=("conv1",), gradients=True, attention="cls", cam=True, max_map=8, every=2
    )
    load(tmp_path / "run.pt", replace(other, batch_axis={"conv1": 0}))


def test_it_replaces_nothing_but_its_kind(tmp_path: Path) -> None:
    mine, empty, text = (tmp_path / name for name in ("mine.pt", "empty.pt", "text.pt"))
    save(mine, SETTINGS, 1, parts())
    empty.touch()
    text.write_text("precious")
    check_replaceable(mine)
    check_replaceable(empty)
    check_replaceable(tmp_path / "new.pt")
    with pytest.raises(OutputError, match="is no checkpoint of record train"):
        check_replaceable(text)
    assert text.read_text() == "precious"
