"""The way of one recorded batch through the recorder, in the training's thread.

A batch is one turn of a usual loop in its steady state: the forward, the backward pass, the
optimizer's step, `log`, and the step of `track` to the next batch. Each file that it passes costs
a reader a look, and the training the time to fetch what is in it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

import record
from record import Recorder
from record.session.after_close import closed_models

ROOT = Path(record.__file__).parent
MAX_FILES = 12  # a batch has a file of its own, and so have what sends it off and who trains it
WARM_UP = 30  # batches, until which the layout is agreed on and every buffer has been used


class Way:
    """Notes each call of a function of the recorder, and each return to its caller."""

    def __init__(self) -> None:
        self.calls: list[str] = []  # indented by their depth
        self.files: dict[str, None] = {}  # in the order in which they are met
        self.changes = 0
        self._within = ["the training"]
        self._last = self._within[0]

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event not in ("call", "return") or ROOT not in path.parents:
            return
        if event == "call":
            file = str(path.relative_to(ROOT))
            self.calls.append(f"{'  ' * len(self._within)}{file}: {frame.f_code.co_name}")
            self.files[file] = None
            self._within.append(file)
        elif len(self._within) > 1:  # else it was called before anybody noted calls
            self._within.pop()
        self.changes += self._within[-1] != self._last
        self._last = self._within[-1]


def way_of_a_batch(folder: Path) -> Way:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    way = Way()
    closed_models._models.clear()  # of other tests, whose training might go on
    with Recorder(model, folder / "run.h5", layers="0") as recorder:
        for number, (images, labels) in enumerate(recorder.track([batch] * (WARM_UP + 2))):
            if number in (1, WARM_UP - 1):
                assert recorder.flush()  # the writer is ready, and has nothing left to do
                time.sleep(0.2)  # until which the thread that carried the first frames has ended
            if number == WARM_UP:
                sys.setprofile(way.note)
            if number == WARM_UP + 1:
                sys.setprofile(None)
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.log(loss=loss)
        assert recorder.flush()
        assert recorder.committed == WARM_UP + 2
        assert recorder.lost == recorder.dropped == 0
    return way


def test_a_batch_passes_through_few_files(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        way = way_of_a_batch(tmp_path)
    finally:
        sys.setprofile(None)
        torch.set_num_threads(threads)
    print("\n".join(way.calls))
    print(f"{len(way.files)} files, {way.changes} changes, {len(way.calls)} calls:", *way.files)
    # The hooks, the sender and the courier are on it: else nothing was counted.
    assert {"capture/layer_hook.py", "session/frame_sender.py", "recorder.py"} <= set(way.files)
    assert len(way.files) <= MAX_FILES
