"""Many random trainings, and those of them whose recording is not as it should be."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from generated.cases import Case, cases, tried
from generated.writers import quick_writers

Found = tuple[Case, list[str]]


def attempt(number: int, count: int) -> tuple[int, list[Found]]:
    """Runs so many trainings.

    Args:
        number: The seed.
        count: How many.

    Returns:
        How many were run, and those in which something was wrong, with what that was.
    """
    torch.set_num_threads(1)
    wrong: list[Found] = []
    run = 0

    with tempfile.TemporaryDirectory() as folder, quick_writers():
        path = Path(folder) / "run.h5"

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases())
        def train(case: Case) -> None:
            nonlocal run
            if run == count:
                return
            run += 1
            try:
                found = tried(case, path).differences
            except Exception as error:
                found = [f"the training broke off: {type(error).__name__}: {error}"]
            if found:
                wrong.append((case, found))

        train()
    return run, wrong
