"""scripts/bench/mutants: its list is up to date, and it tells what is killed from what survives."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "bench" / "mutation"))

import mutants  # noqa: E402
from catalogue import MUTATIONS  # noqa: E402
from mutation import Mutation  # noqa: E402

SURVIVE = ROOT / "scripts" / "bench" / "survival" / "survive.py"
BY_NAME = {each.name: each for each in MUTATIONS}


def fast_tests(path: Path) -> set[str]:
    """The tests of a file that no mark calls slow."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        is_mark = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
        if is_mark and "mark.slow" in ast.unparse(node):
            return set()
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and "pytest.mark.slow" not in map(ast.unparse, node.decorator_list)
    }


def test_every_mutation_applies_and_changes_what_still_is_python() -> None:
    assert len(BY_NAME) == len(MUTATIONS) >= 60
    for each in MUTATIONS:
        text = (ROOT / each.file).read_text("utf-8")
        changed = each.mutate(text)  # which raises where the list is out of date
        assert ast.parse(changed)
        assert changed != text, each.name
        assert re.fullmatch(r"[A-Z`].*[.]", each.promise), each.name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", each.name)


def test_every_killer_is_a_fast_test_or_a_line_of_survive() -> None:
    lines = set(re.findall(r'^        "([A-Za-z ]+)": ', SURVIVE.read_text(), re.MULTILINE))
    assert "live" in lines
    known: dict[str, set[str]] = {}
    for each in MUTATIONS:
        if each.survive_line:
            assert each.survive_line in lines, each.name
            continue
        file, _, test = each.killer.partition("::")
        if file not in known:
            known[file] = fast_tests(ROOT / file)
        assert test.partition("[")[0] in known[file], (each.name, each.killer)


def test_the_document_names_every_mutation_and_no_other() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    table = page.partition("## Promises, trials, mutants\n")[2]
    named = re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", table)
    assert set(named) == set(BY_NAME)
    promises = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    assert len(promises) == len(set(promises)) > 20  # a merge that keeps both has lines twice


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one promise, a test that would notice, and one that would not."""
    (tmp_path / "adding.py").write_text("def add(one, other):\n    return one + other\n")
    (tmp_path / "test_adding.py").write_text(
        "from adding import add\n"
        "def test_strict():\n    assert add(2, 3) == 5\n"
        "def test_lax():\n    assert add(2, 0) == 2\n"
    )
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def subtracting(test: str) -> Mutation:
    killer = f"test_adding.py::{test}"
    return Mutation(test, "It adds.", "adding.py", "one + other", "one - other", killer)


@pytest.mark.slow
def test_what_is_killed_and_what_is_not(project: Path) -> None:
    tried = [subtracting("test_strict"), subtracting("test_lax")]
    verdicts = [verdict for _, verdict in mutants.try_all(tried, 1, project, (), trusted=True)]
    assert [verdict.word for verdict in verdicts] == [mutants.KILLED, mutants.SURVIVED]
    assert verdicts[0].by == ("test_adding::test_strict",)
    assert "one + other" in (project / "adding.py").read_text()


class Pytest:
    """What pytest does, by the name of the test: an exit code, and what the report says."""

    SAYS: ClassVar[dict[str, tuple[int | None, str]]] = {
        "passes": (0, "<testcase name='a'/>"),
        "fails": (1, "<testcase name='a'/><testcase name='b'><failure/></testcase>"),
        "no fixture": (1, "<testcase name='a'><error/></testcase>"),
        "skips": (0, "<testcase name='a'><skipped/></testcase>"),
        "skips some": (0, "<testcase name='a'/><testcase name='b'><skipped/></testcase>"),
        "no import": (2, "<testcase name='a'><error/></testcase>"),
        "not there": (4, ""),
        "no tests": (5, ""),
        "hangs": (None, ""),
        "crashes": (-11, ""),
    }

    def run(self, words: list[str], *_: object) -> tuple[int | None, str]:
        code, cases = self.SAYS[words[-1]]
        report = next(word for word in words if word.startswith("--junitxml="))
        Path(report.partition("=")[2]).write_text(f"<suite>{cases}</suite>")
        return code, "output"


@pytest.mark.parametrize(
    ("test", "word"),
    [
        *(("passes", "SURVIVED"), ("fails", "killed"), ("no fixture", "killed")),
        *(("skips", "skipped"), ("skips some", "SURVIVED"), ("no import", "BROKEN")),
        *(("not there", "BROKEN"), ("no tests", "BROKEN"), ("hangs", "HUNG")),
        ("crashes", "BROKEN"),
    ],
)
def test_a_mutant_is_killed_by_a_test_that_fails_and_by_nothing_else(test: str, word: str) -> None:
    fake: Any = Pytest()
    copy = mutants.Copy(ROOT, fake)
    assert mutants.run_tests(copy, [test], patience=1.0).word == word


def test_a_list_that_is_out_of_date_is_said() -> None:
    mutation = Mutation("a", "A.", "adding.py", "x", "y", "test_adding.py::test_strict")
    with pytest.raises(ValueError, match="a: expected this once in adding.py, found it 2 times"):
        mutation.mutate("x = x")


def test_some_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    names = [each.name for each in mutants.choose(["no-fsync*", "lock-off"], False)]
    assert {"no-fsync", "no-fsync-at-close", "lock-off"} <= set(names)
    assert len(names) < 12
    assert 10 < len(mutants.choose([], True)) < len(MUTATIONS) / 4
    with pytest.raises(SystemExit, match="no mutation 'x'"):
        mutants.choose(["x"], False)
    assert mutants.main(["--list", "lock-off"]) == 0
    assert "lock-off  " in (said := capsys.readouterr().out)
    assert said.endswith("  A recording has one writer.\n")
