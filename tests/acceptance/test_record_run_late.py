"""`record run`: what is trained behind the end of the script is not recorded, and it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from script_runs import record, spoken, write

pytestmark = pytest.mark.slow

LATE = """
    import atexit, sys, torch
    from torch import nn

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 1))

    def train():
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            model(torch.rand(2, 1, 8, 8)).sum().backward()
            optimizer.step()
        print("trained")

    if "first" in sys.argv:
        train()
    if "atexit" in sys.argv:
        atexit.register(train)
    if "excepthook" in sys.argv:
        sys.excepthook = lambda *error: train()
        raise ValueError
"""


@pytest.mark.parametrize(
    ("words", "trained", "recorded"),
    [("atexit", 1, 0), ("excepthook", 1, 0), ("first atexit", 2, 1), ("first", 1, 1)],
)
def test_it_is_said_once(tmp_path: Path, words: str, trained: int, recorded: int) -> None:
    write(tmp_path, LATE)
    done = record("script.py", *words.split(), cwd=tmp_path)
    assert done.stdout == "trained\n" * trained
    assert done.returncode == ("excepthook" in words)
    late = [line for line in spoken(done) if "behind the end of the script" in line]
    assert len(late) == trained - recorded
    assert [path.name for path in tmp_path.glob("*.h5")] == ["run.h5"] * recorded
    assert "Traceback" not in done.stderr
