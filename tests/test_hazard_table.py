"""scripts/bench/hazards, over a few rows: it finds nothing of mapreel, and something of a hook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
HAZARDS = ROOT / "scripts" / "bench" / "hazard_bench" / "hazards.py"
ROWS = ("inplace", "evaluation", "last-batch", "convlstm", "pickle", "spectral", "killed")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HAZARDS), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    done = run("--tools", "mapreel,hook", "--json", "--only", *ROWS)
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def words(table: dict[str, Any], tool: str) -> dict[str, str]:
    return {row: cells[tool]["word"] for row, cells in table["rows"].items()}


def test_mapreel_is_right_in_each_row(table: dict[str, Any]) -> None:
    assert words(table, "mapreel") == dict.fromkeys(ROWS, "right")


def test_the_table_tells_what_is_wrong(table: dict[str, Any]) -> None:
    """A plain hook gives what an in-place ReLU left; the table has to be able to say so."""
    found = words(table, "hook")
    assert found["inplace"] == "wrong in silence"
    assert found["evaluation"] == "wrong in silence"
    assert found["pickle"] == "training changed"
    assert found["convlstm"] == found["last-batch"] == "right"
    assert found["killed"] == "not offered"
    assert "12 of 12 frames differ" in table["rows"]["inplace"]["hook"]["note"]


def test_what_is_printed() -> None:
    done = run("--tools", "mapreel", "--only", "inplace")
    assert done.returncode == 0, done.stderr
    assert "| in-place ReLU behind a layer | right |" in done.stdout
    assert "| **wrong in silence** | 0 |" in done.stdout


def test_unknown_rows_and_tools_are_usage_errors() -> None:
    done = run("--only", "no-such-row")
    assert done.returncode == 2
    assert "found 'no-such-row'" in done.stderr
