"""scripts/bench/hazards, over a few rows: it finds nothing of mapreel, and something of a hook."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "scripts" / "bench" / "hazard_bench"
ROWS = ("inplace", "evaluation", "last-batch", "convlstm", "pickle", "spectral")


@pytest.fixture(scope="module")
def hazards() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("hazards")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def table(hazards: ModuleType) -> dict[str, Any]:
    about, rows = hazards.fill(["mapreel", "hook"], list(ROWS))
    return {"tools": about, "rows": rows}


def words(table: dict[str, Any], tool: str) -> dict[str, str]:
    return {row: cells[tool]["word"] for row, cells in table["rows"].items()}


def test_mapreel_is_right_in_each_row(table: dict[str, Any]) -> None:
    notes = {row: cells["mapreel"]["note"] for row, cells in table["rows"].items()}
    assert words(table, "mapreel") == dict.fromkeys(ROWS, "right"), notes


def test_the_table_can_tell_what_is_wrong(table: dict[str, Any]) -> None:
    """A plain hook keeps what an in-place ReLU has left of it, and so on."""
    found = words(table, "hook")
    assert found["inplace"] == found["evaluation"] == "wrong in silence"
    assert found["pickle"] == "training changed"
    assert found["convlstm"] == found["last-batch"] == found["spectral"] == "right"
    assert "12 of 12 frames differ" in table["rows"]["inplace"]["hook"]["note"]


def test_what_is_printed(hazards: ModuleType, table: dict[str, Any], tmp_path: Path) -> None:
    named = {row: hazards.ALL[row].what for row in ROWS}
    lines = list(hazards.show(["mapreel", "hook"], named, table["tools"], table["rows"]))
    assert "| in-place ReLU behind a layer | right | wrong in silence |" in lines
    assert "| **wrong in silence** | 0 | 2 |" in lines
    json.dumps(table)
    page = tmp_path / "page.md"
    page.write_text(f"above\n{hazards.MARKS[0]}\nold\n{hazards.MARKS[1]}\nbelow\n")
    hazards.put_into(page, ["new"])
    assert page.read_text() == f"above\n{hazards.MARKS[0]}\nnew\n{hazards.MARKS[1]}\nbelow\n"


def test_what_is_printed_has_no_folders_of_the_machine(hazards: ModuleType) -> None:
    seen = "RecordingWarning: /tmp/a1/b.c/run.h5: see https://pytorch.org/docs/x.html"
    assert hazards.without_paths(seen) == (
        "RecordingWarning: .../run.h5: see https://pytorch.org/docs/x.html"
    )


def test_usage(hazards: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        hazards.main(["--only", "no-such-row"])
    assert stopped.value.code == 2
    assert "found 'no-such-row'" in capsys.readouterr().err
    assert hazards.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(row in listed for row in ("inplace", "killed", "torchlens"))


def test_the_document_has_every_row_and_nothing_wrong_of_mapreel(hazards: ModuleType) -> None:
    lines = (FOLDER.parents[2] / "docs" / "faithful.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    mapreels = {cells[0]: cells[1] for cells in rows if len(cells) == 1 + len(hazards.TOOLS)}
    assert mapreels["**wrong in silence**"] == "0"
    for row in hazards.ALL.values():
        assert mapreels[row.what] in hazards.GOOD, row.what
