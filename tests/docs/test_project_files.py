"""What people expect who carry on the work: files that are named exist, and checks agree."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from documents import ROOT

GUIDES = [ROOT / name for name in ("CONTRIBUTING.md", "ARCHITECTURE.md")]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_file_that_a_guide_names_exists(guide: Path) -> None:
    text = guide.read_text().replace("\\_", "_")
    folders = r"(?:record|replay|tests|scripts|docs|\.ci|\.github)"
    named = re.findall(rf"(?<![\w./-]){folders}/[\w./-]*\w", text)
    named += re.findall(r"`([\w.-]+\.(?:md|toml|yml|yaml|txt))`", text)
    assert len(named) > 3
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_drawing_has_every_room_and_no_other() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().replace("\\_", "_")
    drawing = text.split("```")[1]
    drawn = set(re.findall(r"(?:^ |  |> )([a-z_]+)/ ", drawing, re.MULTILINE)) - {
        "record",
        "replay",
    }
    rooms = {
        path.parent.name
        for name in ("record", "replay")
        for path in ROOT.glob(f"{name}/*/__init__.py")
    }
    assert drawn == rooms


def test_pre_commit_runs_what_ci_runs() -> None:
    """All that CI runs but for its tests, which take minutes."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    run = [" ".join([hook["entry"], *hook.get("args", [])]) for hook in hooks]
    lines = (ROOT / ".ci" / "run").read_text().split("\nfi\n")[-1].splitlines()
    slow = ("scripts/test --covered", "scripts/release --check")
    checks = [line for line in lines if line.strip() and line not in slow]
    assert len(checks) > 3
    assert run == checks
    assert all(hook["language"] == "system" for hook in hooks)  # nothing is fetched


def test_what_scripts_coverage_has_run_is_left_out_and_nothing_else(
    request: pytest.FixtureRequest,
) -> None:
    tests = request.config.pluginmanager.getplugin(str(ROOT / "tests" / "conftest.py"))
    told: list[Any] = []
    config = SimpleNamespace(
        getoption={"done": ["tests/replay", "tests/test_contracts.py"]}.__getitem__,
        invocation_params=SimpleNamespace(dir=ROOT),
        hook=SimpleNamespace(pytest_deselected=lambda items: told.extend(items)),
    )
    names = ("replay/test_faces.py", "test_contracts.py", "record/test_way.py")
    items = [
        SimpleNamespace(path=ROOT / "tests" / name, get_closest_marker={"slow": slow}.get)
        for name in names
        for slow in (True, False)
    ]
    before = list(items)
    tests.leave_out_what_is_done(config, items)
    assert told == [before[1], before[3]]
    assert items == [before[0], before[2], before[4], before[5]]


@pytest.mark.parametrize("check", ["scripts/check", ".ci/run"])
def test_what_a_change_has_to_pass(check: str) -> None:
    text = (ROOT / check).read_text()
    for command in (
        "ruff check .",
        "ruff format --check .",
        "lint-imports",
        "mypy",
        "scripts/docs",
        "scripts/test",
    ):
        assert re.search(rf"^(?:\.venv/bin/)?{re.escape(command)}(?: |$)", text, re.MULTILINE), (
            command
        )
    assert "scripts/release --check" in text
    assert "check-replay-alone" not in text  # which scripts/release calls


def test_issue_templates_say_what_they_are_for() -> None:
    templates = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"))
    assert len(templates) >= 3
    for template in templates:
        head = yaml.safe_load(template.read_text().split("---\n")[1])
        assert head["name"]
        assert head["about"]


def test_the_changelog_keeps_its_form() -> None:
    """That of Keep a Changelog: Unreleased first, then versions, the newest first."""
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    for heading in headings[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d|in preparation)", heading)
    kinds = re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    unreleased = CHANGELOG.split("## [Unreleased]")[1].split("\n## ")[0]
    assert len(unreleased.splitlines()) <= 110, "say it shorter, for users"


def test_the_changelog_says_nothing_of_files_that_users_never_see() -> None:
    assert not re.findall(r"\btests/", CHANGELOG)
    assert len(CHANGELOG.splitlines()) < 200


def test_no_file_of_the_packages_is_long() -> None:
    files = [path for name in ("record", "replay") for path in (ROOT / name).rglob("*.py")]
    assert len(files) > 150
    lengths = {path: len(path.read_text().splitlines()) for path in files}
    assert {str(path): length for path, length in lengths.items() if length > 400} == {}
