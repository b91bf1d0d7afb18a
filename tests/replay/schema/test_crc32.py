"""Checksums are zlib's, whichever library makes them."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

from replay.schema import checksum, crc32

WITHOUT = """
import sys
sys.modules["zlib_ng"] = None  # as where it is not installed
import replay
from replay.schema import crc32
assert crc32.crc32.__module__ == "zlib", crc32.crc32
assert not replay.verify(sys.argv[1]).problems
"""


def test_it_is_the_quick_one_where_there_are_wheels_of_it() -> None:
    if platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"):
        pytest.skip(f"no wheels for {platform.machine()}")
    assert importlib.util.find_spec("zlib_ng") is not None
    assert crc32.crc32 is not zlib.crc32


def test_it_is_that_of_zlib_at_every_length_and_place() -> None:
    data = np.random.default_rng(0).bytes(1 << 20)
    for length in [*range(300), 4095, 4096, 65_537, len(data)]:
        for start in (0, 1, 7):
            part = memoryview(data)[start : start + length]
            assert crc32.crc32(part) == zlib.crc32(part)
    assert crc32.crc32(data[:99], crc32.crc32(b"head")) == zlib.crc32(b"head" + data[:99])


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5, 7), (12, 128, 128)])
def test_a_frame_has_the_checksum_of_its_bytes(shape: tuple[int, ...]) -> None:
    frame = np.random.default_rng(1).standard_normal(shape).astype(np.float16)
    assert (
        checksum(frame)
        == checksum(frame.data.cast("B") if frame.size else frame)
        == (zlib.crc32(frame.tobytes()))
    )


def test_files_are_read_without_it(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(3, 40, 40)})

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
