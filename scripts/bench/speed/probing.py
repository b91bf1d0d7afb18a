"""What the fixed image costs a training that is shown by default.

Each network is trained in one process, recorded with the first image as a probe and without, by
turns: some steps of one, then as many of the other. The processor's own time is compared, all
threads of the process together, since other programs on the machine do not count into it.

    python scripts/bench/speed/probing.py [--steps N] [--turns N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from record import Recorder
from record.schedule import cadence
from record.training.models import Tiny


def small() -> nn.Module:
    """A network whose step takes few milliseconds."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 900, 10)
    )


def residual() -> nn.Module:
    """torchvision's ResNet-18."""
    from torchvision.models import resnet18

    return resnet18(num_classes=10)  # type: ignore[no-any-return]


CASES = {
    "small, 16 of 32x32": (small, (16, 3, 32, 32)),
    "tiny, 16 of 128x128": (lambda: Tiny(10), (16, 3, 128, 128)),
    "resnet18, 16 of 64x64": (residual, (16, 3, 64, 64)),
}


class OwnTime:
    """A clock that goes on only while the training with the probe does.

    Else the turns of the other one would count as time that its batches take.
    """

    def __init__(self) -> None:
        self._before, self._since = 0.0, 0.0

    def __call__(self) -> float:
        return self._before + time.perf_counter() - self._since

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._before = self()


class Training:
    """A training that is recorded, some steps at a time.

    Args:
        make: Makes the network.
        shape: Of a batch.
        path: The recording.
        probe: As for `Recorder`.
    """

    def __init__(self, make: Any, shape: tuple[int, ...], path: Path, probe: Any) -> None:
        torch.manual_seed(0)
        self.model = make().train()
        self.images = torch.randn(shape)
        self.labels = torch.zeros(shape[0], dtype=torch.long)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.001)
        self.recorder = Recorder(self.model, path, probe=probe, quiet=True)
        self.recorder.epoch(0)

    def run(self, steps: int) -> float:
        """Returns the processor's seconds of so many steps."""
        began = time.process_time()
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(self.images), self.labels)
            loss.backward()
            self.optimizer.step()
            self.recorder.log(loss=loss)
            self.recorder.step()
        return time.process_time() - began


def measure(name: str, steps: int, turns: int) -> list[float]:
    """Returns ratios of the processor's time with a probe to that without, on one core.

    Args:
        name: Of the case.
        steps: Of a turn.
        turns: Of each.
    """
    torch.set_num_threads(1)
    make, shape = CASES[name]
    clock, usual = OwnTime(), cadence.now
    cadence.now = clock
    try:
        with tempfile.TemporaryDirectory() as folder:
            plain = Training(make, shape, Path(folder) / "plain.h5", None)
            shown = Training(make, shape, Path(folder) / "shown.h5", "first")
            plain.run(20)
            with clock:
                shown.run(20)  # until the costs are known
            ratios = []
            for _ in range(turns):
                before = plain.run(steps)
                with clock:
                    ratios.append(shown.run(steps) / before)
            for training in (plain, shown):
                training.recorder.close()
    finally:
        cadence.now = usual
    layers = {layer.probe for layer in shown.recorder.layout.layers}
    assert 0 in layers, "no probe was shown"
    return ratios


def main() -> None:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="of a turn (default: 60)")
    parser.add_argument("--turns", type=int, default=9, help="of each (default: 9)")
    asked = parser.parse_args()
    for name in CASES:
        ratios = measure(name, asked.steps, asked.turns)
        print(
            f"{name:<22} with a probe {statistics.median(ratios):.3f} of the time without, "
            f"{min(ratios):.3f} to {max(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
