"""The short form of scripts/bench/soak: recordings of each kind, followed, watched and read again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench" / "survival"))

import soak
from soak_content import KINDS
from soak_measures import Measures

pytestmark = pytest.mark.slow


def test_what_is_read_live_is_what_the_file_has(tmp_path: Path) -> None:
    found = soak.Soak(1000, 3, tmp_path, size=200)
    found.run()
    assert not found.problems
    assert found.trained >= 1000
    assert {each.kind for each in found.plans} == set(KINDS)
    counts = found.counts
    known = ("acknowledged", "lost", "dropped", "left out by a budget")
    assert sum(counts[name] for name in known) == found.trained
    for who in ("live", "file"):
        assert found.read[who]["wrong"] == 0
        assert found.read[who]["frames"] > 500
    assert found.clients is not None
    assert found.clients.good, found.clients.answers


def test_what_grows_is_noticed() -> None:
    measures = Measures()
    for step in range(100):
        at = step / 100
        measures.add(at, "training", "descriptors", 12 + step // 10, 2, False)
        measures.add(at, "training", "memory, MB", 200 + 0.01 * step, 8.0, False)
    grown = {what: measure.good for (_, what), measure in measures.by_name.items()}
    assert grown == {"descriptors": False, "memory, MB": True}
    assert not measures.good
