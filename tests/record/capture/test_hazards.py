"""The table of hazards: what has been seen to break the recording of feature maps, row by row.

Each row is trained three times from the same seed: untouched, with plain hooks that clone, and
recorded. The recorded frames have to equal those of the plain hooks to the bit, and the weights,
the buffers and the random state after the recorded training those of the untouched one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hazard_trainings.reported import REPORTS
from hazard_trainings.table import HAZARDS
from hazard_trainings.training import check_frames, holds_signal, recorded, train

pytestmark = pytest.mark.usefixtures("deterministic", "poisoned_buffers")

ROWS = HAZARDS | REPORTS

# The row, and what torch itself says about it.
NOISE = {
    name: "ignore:None of the inputs have requires_grad" for name in ROWS if "checkpoint" in name
}
NOISE["sparse_and_nested_tensors"] = "ignore:The PyTorch API of nested tensors is in prototype"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.filterwarnings(NOISE[name])] if name in NOISE else [])
        for name in ROWS
    ],
)
def test_hazard(tmp_path: Path, name: str, device: str) -> None:
    row, path = ROWS[name], tmp_path / "run.h5"
    plain = train(row, device)
    outcome = recorded(row, device, path)
    assert outcome.state == plain.state
    assert torch.equal(outcome.random, plain.random)
    assert not holds_signal(path)
    reference = train(row, device, watched=True)
    assert len(reference.frames) == 2 * (len(row.data()) - len(row.lost))
    check_frames(path, reference.frames, reference.images)
