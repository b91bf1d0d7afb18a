"""What users see is what was frozen, case by case; never freeze anew to make a change pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from .cases import GROUPS, Case
from .frozen import differences, load, run, versions
from .recordings import build

CASES = [(group, case) for group, cases in GROUPS.items() for case in cases()]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("golden") / "recordings")


@pytest.mark.parametrize(
    ("group", "case"), [pytest.param(g, c, id=f"{g}: {c.name}") for g, c in CASES]
)
def test_is_as_it_was_frozen(group: str, case: Case, recordings: Path, tmp_path: Path) -> None:
    made_with, results = load(group)
    installed = versions(group)
    if not results:
        pytest.skip(f"nothing was frozen with {installed}")
    if made_with != installed:
        pytest.skip(f"frozen with {made_with}, installed are {installed}")
    if not case.possible:
        pytest.skip(f"{case.needs} is not installed")
    found, seen = run(case, recordings, tmp_path / "case")
    differing = differences(results.get(case.name), found)
    kept = []
    for place in differing:
        for digest in re.findall(r"found '([0-9a-f]{64})'", place):
            if digest in seen.pictures:
                path = tmp_path / f"differs-{len(kept)}.png"
                Image.fromarray(seen.pictures[digest]).save(path)
                kept.append(f"{place.split(':')[0]} is {path}")
    if differing:
        more = f"\nand {len(differing) - 8} more places" if len(differing) > 8 else ""
        said = "\n".join([*differing[:8], *kept[:8]])
        pytest.fail(f"{group}: {case.name} is not as it was frozen\n{said}{more}", pytrace=False)


def test_every_result_has_a_case() -> None:
    for group, cases in GROUPS.items():
        names = [case.name for case in cases()]
        assert len(names) == len(set(names)), group
        assert set(load(group)[1]) <= set(names), group
