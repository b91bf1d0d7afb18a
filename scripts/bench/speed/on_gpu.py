"""What recording costs a training on a GPU; without one each line is skipped, and says so.

Two trainings of the same network, one of them recorded, take turns in blocks of about a second:
plain, recorded, recorded, plain. What is compared is the time of the two in the middle with that
of the two around them. The recorder's queue is emptied outside the clock.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from table import Line, ratio, run
from torch import nn

from record import Recorder
from record.torchvision_import import import_torchvision
from record.training.models import Tiny

TARGET = 1.02
_RANKS = 2


@dataclass(frozen=True)
class Case:
    """A training that is measured.

    Attributes:
        words: What it is, for the table.
        model: A name of torchvision's, or `tiny`.
        size: Height and width of the images.
        batch: Images of a batch.
        target: At most so many times a plain step.
        bf16: Whether it trains under autocast to bfloat16.
        channels_last: Whether weights and images have channels last.
        compiled: The mode of `torch.compile`; empty for none.
        options: Of the recorder.
        multiple: Of so many steps a block has some.
    """

    words: str
    model: str
    size: int = 224
    batch: int = 64
    target: float | None = TARGET
    bf16: bool = False
    channels_last: bool = False
    compiled: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    multiple: int = 1


CASES = (
    Case("ResNet-50", "resnet50"),
    Case("ResNet-18", "resnet18"),
    Case("ConvNeXt-T", "convnext_tiny"),
    Case("ViT-B", "vit_b_16"),
    Case("tiny", "tiny", 128, target=None),
    Case("ResNet-50, bfloat16", "resnet50", bf16=True),
    Case("ResNet-50, bfloat16, channels last", "resnet50", bf16=True, channels_last=True),
    Case("ResNet-50, torch.compile", "resnet50", compiled="default"),
    Case("ResNet-50, torch.compile, reduce-overhead", "resnet50", compiled="reduce-overhead"),
    Case("ViT-B, attention", "vit_b_16", options={"attention": True}),
    Case(
        "ResNet-50, class activation of 10 images, every=10",
        "resnet50",
        target=1.05,
        options={"every": 10, "probe": 10, "labels": list(range(10)), "cam": True},
        multiple=10,
    ),
)


class Steps:
    """A training of random images, recorded or not.

    Args:
        case: Which.
        device: Where.
        path: The recording; None where it is not recorded.
        wrap: What is called with the model and gives what is trained, as DistributedDataParallel.
    """

    def __init__(
        self,
        case: Case,
        device: torch.device,
        path: Path | None,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> None:
        torch.manual_seed(0)
        layout = torch.channels_last if case.channels_last else torch.contiguous_format
        shape = (case.batch, 3, case.size, case.size)
        self.images = torch.rand(shape, device=device).to(memory_format=layout)
        self.labels = torch.arange(case.batch, device=device) % 10
        model = network(case).to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
        self.recorder: Recorder | None = None
        if path is not None:
            options = dict(case.options)
            if "probe" in options:
                options["probe"] = torch.rand(options["probe"], *shape[1:])
            self.recorder = Recorder(model, path, quiet=True, **options)
        trained = wrap(model)
        self._run = torch.compile(trained, mode=case.compiled) if case.compiled else trained
        self._optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        self._bf16, self._device = case.bf16, device

    def run(self, steps: int) -> float:
        """Returns the seconds of so many steps; what is queued is written outside of them."""
        self._wait()
        started = time.perf_counter()
        for _ in range(steps):
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self._device.type, torch.bfloat16, self._bf16):
                loss = nn.functional.cross_entropy(self._run(self.images), self.labels)
            loss.backward()
            self._optimizer.step()
            if self.recorder is not None:
                self.recorder.step()
        self._wait()
        taken = time.perf_counter() - started
        if self.recorder is not None:
            self.recorder.flush()
        return taken

    def close(self) -> None:
        """Ends the recording, and makes sure that there is one."""
        if self.recorder is not None:
            self.recorder.close()
            assert self.recorder.committed, "nothing was recorded"
            assert not self.recorder.lost, f"{self.recorder.lost} batches were lost"

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def network(case: Case) -> nn.Module:
    """The network of a case, with random weights."""
    if case.model == "tiny":
        return Tiny(10)
    sized = {"image_size": case.size} if case.model.startswith("vit") else {}
    models = import_torchvision().models
    return models.get_model(case.model, weights=None, num_classes=10, **sized)  # type: ignore[no-any-return]


def measure(
    case: Case, device: torch.device, seconds: float, each: float = 1.0
) -> tuple[list[float], float, float]:
    """Measures a case.

    Args:
        case: Which.
        device: Where.
        seconds: How long to go on, once all is warm.
        each: Seconds of a block, about.

    Returns:
        Ratios of recorded blocks to the plain ones around them, the seconds of a plain step, and
        the bytes of the GPU's memory by which recorded steps let it grow.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Steps(case, device, None)
        recorded = Steps(case, device, Path(folder) / "run.h5")
        for training in (plain, recorded):
            training.run(3 * case.multiple)  # what compiles does so now
        slowest = max(training.run(3) / 3 for training in (plain, recorded))
        steps = max(1, round(each / slowest / case.multiple)) * case.multiple
        for training in (plain, recorded):
            training.run(steps)
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        found, alone = [], []
        deadline = time.perf_counter() + seconds
        while len(found) < 3 or time.perf_counter() < deadline:
            taken = [one.run(steps) for one in (plain, recorded, recorded, plain)]
            found.append((taken[1] + taken[2]) / (taken[0] + taken[3]))
            alone += [taken[0] / steps, taken[3] / steps]
        grown = torch.cuda.memory_allocated(device) - before if device.type == "cuda" else 0
        recorded.close()
    return found, statistics.median(alone), max(0, grown)


def lines(
    quick: bool, device: torch.device | None = None, cases: tuple[Case, ...] = CASES
) -> Iterator[Line]:
    """A line for each case; on another device than a GPU only to try the benchmark itself."""
    device = device or (torch.device("cuda") if torch.cuda.is_available() else None)
    seconds, each = (6, 0.5) if quick else (30, 1.0)
    if device is not None and device.type == "cpu":
        seconds, each = 0, 0.0
    worst = 0
    for case in cases:
        what = (
            f"{case.words}, {case.size}×{case.size}, batch {case.batch}, GPU: recorded / plain step"
        )
        if device is None:
            yield Line(what, None, note="skipped: no CUDA device")
            continue
        with contextlib.ExitStack() as stack:
            if device.type == "cuda":
                stack.callback(torch.cuda.empty_cache)
            try:
                found, step, grown = measure(case, device, seconds, each)
            except Exception as error:  # of one line, such as too little memory
                reason = " ".join(str(error).split())[:80]
                yield Line(what, None, note=f"skipped: {type(error).__name__}: {reason}")
                continue
        worst = max(worst, grown)
        yield ratio(f"{what} ({1000 * step:.1f} ms)", found, target=case.target)
    what = f"recorded / plain step: ResNet-50 in DDP, {_RANKS} processes on one GPU"
    if device is None:
        yield Line(what, None, note="skipped: no CUDA device")
    else:
        yield from distributed(what, device, seconds, cases[0])
    what = "growth of the GPU's memory over recorded steps, the most of all"
    if device is None or device.type != "cuda":
        yield Line(what, None, note="skipped: no CUDA device")
    else:
        yield Line(what, worst / 1e6, " MB", 0)


def distributed(what: str, device: torch.device, seconds: float, case: Case) -> Iterator[Line]:
    """The line of two processes that train one network; the first of them records."""
    with tempfile.TemporaryDirectory() as folder:
        words = [device.type, str(seconds), folder, case.model, str(case.size), str(case.batch)]
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, "--rank", str(rank), *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(_RANKS)
        ]
        said = [rank.communicate() for rank in ranks]
    if any(rank.returncode for rank in ranks):
        last = (said[0][1] or said[1][1]).strip().splitlines()[-1:]
        yield Line(what, None, note=f"skipped: {' '.join(last)[:100]}")
        return
    yield ratio(what, json.loads(said[0][0].splitlines()[-1]), target=case.target)


def train_as_rank(words: list[str]) -> None:
    """One of the processes; the first one prints the ratios."""
    rank, kind, seconds, folder = int(words[0]), words[1], float(words[2]), Path(words[3])
    case = Case("", words[4], int(words[5]), int(words[6]))
    device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
    # NCCL takes no two processes on one GPU.
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=_RANKS
    )
    wrap = nn.parallel.DistributedDataParallel
    plain = Steps(case, device, None, wrap)
    recorded = Steps(case, device, folder / "run.h5", wrap)  # which of the ranks 0 alone writes
    for training in (plain, recorded):
        training.run(5)
    steps = 10 if seconds else 1
    found: list[float] = []
    began = time.perf_counter()
    while True:
        taken = [one.run(steps) for one in (plain, recorded, recorded, plain)]
        found.append((taken[1] + taken[2]) / (taken[0] + taken[3]))
        goes_on = torch.tensor(float(len(found) < 3 or time.perf_counter() < began + seconds))
        torch.distributed.broadcast(goes_on, 0)  # all do as many steps
        if not goes_on:
            break
    if rank == 0:
        recorded.close()
    elif recorded.recorder is not None:
        recorded.recorder.close()
    torch.distributed.destroy_process_group()
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        train_as_rank(sys.argv[2:])
    else:
        sys.exit(run(lines, "gpu", __doc__.splitlines()[0]))
