"""A recorder that is closed leaves nothing in its process: a notebook makes one after the other."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from processes import shared_memory, writers_of

from record import Writer

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="nothing tells of it")


def record(path: Path, **options: bool) -> None:
    with Writer(path, quiet=True, **options) as writer:
        for batch in range(40):
            maps = {"a": np.full((1, 2, 2), batch)}
            if batch > 20:
                maps["late"] = np.full((2, 2, 2), batch)
            writer.write(epoch=writer.next_epoch, batch=batch, maps=maps)


def left() -> tuple[int, ...]:
    """Descriptors, threads, writers and pieces of shared memory of this process."""
    gc.collect()
    counts = len(os.listdir("/proc/self/fd")), threading.active_count()
    return *counts, len(writers_of(os.getpid())), len(shared_memory())


def test_no_descriptor_thread_or_memory_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    before = left()
    record(path)
    record(path, overwrite=True)
    record(path, resume=True)
    assert left() == before
    assert os.listdir(tmp_path) == ["run.h5"]
