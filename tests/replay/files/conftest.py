from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def no_threads_stay() -> Iterator[None]:
    """Ends those of zarr 3: beside threads a `Recorder` shows no image that nobody asked for."""
    yield
    sync = sys.modules.get("zarr.core.sync")
    if sync is not None:
        sync.cleanup_resources()
