"""Random small models in random loops: a recording is right to the bit, or says what it lacks.

`--hypothesis-profile=long` tries thousands; `scripts/bench/trainings` counts and times them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from generated.cases import Case, cases, differences
from generated.writers import quick_writers
from hypothesis import given


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where each recording is made in its turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with quick_writers():
        yield tmp_path_factory.mktemp("property") / "run.h5"
    torch.set_num_threads(threads)


@given(case=cases())
def test_a_recording_is_right_or_says_what_it_lacks(path: Path, case: Case) -> None:
    assert differences(case, path) == []
