"""What a GPU is asked for: no synchronisation, and no way through the pipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hazard_trainings.networks import LAYERS, Net
from hazard_trainings.table import batches
from processes import shared_memory
from torch import nn

import replay
from record import Recorder

pytestmark = pytest.mark.usefixtures("deterministic", "poisoned_buffers")


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no CUDA device: not tested that recording adds no synchronisation of a GPU",
)
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize(("probe", "cam"), [(None, False), ("first", False), ("first", True)])
def test_no_synchronisation_is_added(tmp_path: Path, probe: str | None, cam: bool) -> None:
    model = Net().cuda()
    # Net.encode looks at a value to find out whether to break, which is a synchronisation.
    model.forward = lambda x: model.decode(  # type: ignore[method-assign]
        model.relu(model.norm(model.conv1(x)))
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    data = [images.cuda() for images in batches(4, 4, 4, 4, 4, 4)]
    target = torch.zeros(4, 3, device="cuda")
    options: dict[str, Any] = {"layers": LAYERS, "probe": probe, "cam": cam}
    with Recorder(model, tmp_path / "run.h5", **options) as recorder:
        try:
            for number, images in enumerate(recorder.track(data)):
                if number == 2:  # what the first batches set up is there
                    torch.cuda.set_sync_debug_mode("error")
                loss = nn.functional.mse_loss(model(images), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recorder.log(loss=loss, lr=0.05)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost, run.dropped) == (6, 0, 0)
        assert recorder._checks.why_no_probe == ""
        assert run.probes == (probe is not None)
        assert ("probe0.class" in run.batches) == cam
        assert np.isfinite(run.batches["loss"]).all()


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no CUDA device: not tested that a GPU's maps go straight into the shared memory",
)
@pytest.mark.parametrize("side", [12, 300])  # few bytes, which leave it at once, and many
def test_maps_go_from_the_gpu_into_the_memory_that_the_writer_reads(
    tmp_path: Path, side: int
) -> None:
    model = nn.Conv2d(3, 8, 3).cuda()
    data = [torch.randn(4, 3, side, side, device="cuda") for _ in range(12)]
    found = []
    before = shared_memory()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in recorder.track(data):
            found.append(model(images)[0].detach().half().cpu().numpy())
        assert len(shared_memory().keys() - before) == 1  # and not through the pipe
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 12
        for at, expected in zip(run.frames, found, strict=True):
            assert run["Conv2d"][at].tobytes() == expected.tobytes()
