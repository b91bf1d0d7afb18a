"""The short form of scripts/bench/survive: real processes, real signals, real damage."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench" / "survival"))

import survive
from survive import EXITS, Row, many

pytestmark = pytest.mark.slow


def assert_good(row: Row, least: int) -> None:
    if row.note.startswith("skipped"):
        pytest.skip(f"{row.what}: {row.note}")
    assert row.good, row
    assert row.trials >= least


@pytest.mark.parametrize("victim", ["trainer", "writer"])
def test_kills_at_random(victim: str) -> None:
    arguments = [(victim, seed, seed % 2 == 1) for seed in range(4)]
    assert_good(many("kills", survive.kill_one, arguments), 4)


def test_kills_at_every_write() -> None:
    assert_good(survive.kills_at_every_write(frames=30, stride=29), 10)


@pytest.mark.parametrize("name", ["ENOSPC", "EIO"])
def test_writes_that_fail(name: str) -> None:
    assert_good(survive.faults_at_every_write(name, getattr(errno, name), stride=150), 8)


@pytest.mark.parametrize("kind", ["truncation", "bit flip"])
def test_damaged_files(kind: str) -> None:
    assert_good(survive.damaged_files(kind, 50), 50)


@pytest.mark.parametrize("kind", ["truncation", "bit flip"])
def test_damaged_packed_files(kind: str) -> None:
    assert_good(survive.damaged_files(kind, 50, packed=True), 50)


def test_kills_while_packing() -> None:
    assert_good(survive.killed_packing(4), 4)


def test_exits() -> None:
    assert_good(many("exits", survive.exit_one, [(kind,) for kind in EXITS]), len(EXITS))


def test_live_readers() -> None:
    assert_good(survive.live_readers(1000), 1000)
