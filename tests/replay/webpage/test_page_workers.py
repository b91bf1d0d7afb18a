"""A page is the same whichever processes pack its frames, and whatever becomes of these."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from samples import drifting_maps, write_recording

from replay.webpage import page_workers
from replay.webpage.document import Page, page
from replay.webpage.page_workers import even_borders

Record = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    fixed = drifting_maps(2, 12, 12, seed=5)
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 12, 12), "conv2": drifting_maps(3, 9, 9, seed=3)},
        epochs=3,
        batches=9,
        probes=[(drifting_maps(3, 16, 16, seed=4)(0, 0), {"conv1": fixed})],
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has pages packed by two processes; the codes with which the others ended."""
    monkeypatch.setattr(page_workers, "_WORTH", 1e-3)
    monkeypatch.setattr(page_workers, "available_cores", lambda: 2)
    codes: list[int] = []

    class Watched(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            codes.append(super().wait(timeout))
            return codes[-1]

    monkeypatch.setattr(subprocess, "Popen", Watched)
    return codes


def alone(run: Path, out: str, **options: float) -> tuple[Page, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_workers, "available_cores", lambda: 1)
        made = page(run, run.with_name(out), **options)
    return made, made.path.read_bytes()


def test_a_page_by_two_processes_is_that_of_one(run: Path, started: list[int]) -> None:
    with h5py.File(run, "r+") as file:
        file["maps/conv1"][2, 8, 0, 0] += 1
    expected, document = alone(run, "one.html")
    assert not started
    assert any("damaged maps of 1 frame, first epoch 2 batch 8" in each for each in expected.notes)
    reports: list[tuple[int, int]] = []
    made = page(run, run.with_name("two.html"), progress=lambda *done: reports.append(done))
    assert started[0] == 0
    assert made.path.read_bytes() == document
    assert made.notes == expected.notes
    assert reports == sorted(reports)
    assert reports[-1][0] == reports[-1][1]


@pytest.mark.parametrize("program", ["/nowhere/python", sys.executable])
def test_a_process_that_fails_is_made_up_for(
    run: Path, started: list[int], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    _, document = alone(run, "one.html")
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(page_workers.pickle, "dump", lambda value, file: file.write(b"nothing"))
    assert page(run, run.with_name("two.html")).path.read_bytes() == document
    assert all(started)


def test_shares_begin_where_frames_need_no_other() -> None:
    assert even_borders(300, 2, 10) == [0, 150, 300]
    assert even_borders(25, 2, 10) == [0, 10, 25]
    assert even_borders(5, 3) == [0, 1, 3, 5]
    assert even_borders(1, 2) == [0, 0, 1]
