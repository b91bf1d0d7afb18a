"""A short real training whose recorder is starved; the last line says what came of it.

    python starved.py run.h5 call N       MemoryError at the N-th array that `record` makes
    python starved.py run.h5 NOFILE N     N descriptors
    python starved.py run.h5 AS N         N more bytes of memory than there are when it begins

`right`: every batch is in the file. `counted`: what is not is in a count. `refused`: no recorder
was made, and an error of ours said why. `plain fails too`: without a recorder the training does not
get by with so little either. Everything else is an exception.
"""

from __future__ import annotations

import resource
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import nn  # noqa: E402

import replay  # noqa: E402
from record import Recorder  # noqa: E402
from replay.schema import RecordingError  # noqa: E402

BATCHES = 12
IMAGES = torch.rand(BATCHES, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
RECORD = str(ROOT / "record")
ALLOCATING = {
    *("empty", "zeros", "ones", "full", "empty_like", "zeros_like", "clone", "contiguous", "numpy"),
    *(
        "copy_",
        "to",
        "detach",
        "copy",
        "array",
        "frombuffer",
        "tobytes",
        "stack",
        "reshape",
        "view",
    ),
    *("pack", "dumps", "encode", "dup", "open", "mmap", "start_new_thread", "write", "writev"),
}


def train(
    path: Path | None, begin: Callable[[], None] = lambda: None
) -> tuple[dict[str, torch.Tensor], Recorder | None]:
    """Trains; with a recorder where there is a path, and something that is done once it is made."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    model(IMAGES[0])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = None if path is None else Recorder(model, path, quiet=True)
    batches: Any = list(IMAGES)
    begin()
    for images in batches if recorder is None else recorder.track(batches):
        optimizer.zero_grad()
        loss = model(images).square().mean()
        loss.backward()
        optimizer.step()
        if recorder is not None:
            recorder.log(loss=loss.item())
    if recorder is not None:
        recorder.close()
    return model.state_dict(), recorder


def fail_at(number: int) -> None:
    """Has the so-manieth call of something that makes arrays or copies raise MemoryError.

    Of those within `record`, in whichever thread. What a Python object takes is not tried: a
    training that cannot make another integer is at its end with or without a recorder.
    """
    calls = 0

    def count(frame: FrameType, event: str, function: Any) -> None:
        nonlocal calls
        if event != "c_call" or getattr(function, "__name__", "") not in ALLOCATING:
            return
        if frame.f_code.co_filename.startswith(RECORD):
            calls += 1
            if calls == number:
                raise MemoryError

    threading.setprofile(count)
    sys.setprofile(count)


def main() -> None:
    path, kind, value = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    plain, _ = train(None)
    train(path.with_name("usual.h5"))  # imports what there is to import
    usual = {
        name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_NOFILE", "RLIMIT_AS")
    }
    if kind == "NOFILE":
        resource.setrlimit(resource.RLIMIT_NOFILE, (value, usual["RLIMIT_NOFILE"][1]))
    elif kind == "AS":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + value
        resource.setrlimit(resource.RLIMIT_AS, (limit, usual["RLIMIT_AS"][1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            begin = (lambda: fail_at(value)) if kind == "call" else (lambda: None)
            weights, recorder = train(path, begin)
        except RecordingError:
            print("refused")
            return
        except Exception:
            sys.setprofile(None)
            try:
                train(None)
            except Exception:
                print("plain fails too")
                return
            raise
        finally:
            sys.setprofile(None)
            for name, limits in usual.items():
                resource.setrlimit(getattr(resource, name), limits)
    assert recorder is not None
    for name, tensor in plain.items():
        assert torch.equal(tensor, weights[name]), f"another {name}"
    counts = recorder.committed, recorder.lost, recorder.dropped
    assert sum(counts) >= BATCHES, f"{counts} of {BATCHES}"  # layers of a frame are counted, too
    if recorder.committed:
        assert replay.verify(path), replay.verify(path).problems[:1]
        with replay.open(path) as run:
            assert len(run.frames) == recorder.committed, "frames are not there"
    print("right" if counts == (BATCHES, 0, 0) else "counted")


if __name__ == "__main__":
    main()
