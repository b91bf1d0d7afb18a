"""The rules of the house: which package and which room may know what."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from record import wire
from replay.schema import Layer

ROOT = Path(__file__).parents[1]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return found


def modules(package: str) -> dict[str, set[str]]:
    return {path.name: imports(path) for path in sorted((ROOT / package).glob("*.py"))}


def test_one_arrow_between_the_packages() -> None:
    for name, found in modules("record").items():
        reached = {i for i in found if i.split(".")[0] == "replay"}
        assert all(i == "replay" or i.startswith("replay.schema") for i in reached), (name, reached)
    for name, found in modules("replay").items():
        tops = {i.split(".")[0] for i in found}
        assert not tops & {"record", "torch", "torchvision"}, name


def test_third_party_objects_stay_in_their_room() -> None:
    users = {name for name, found in modules("record").items() if "h5py" in found}
    assert users == {"recordingfile.py", "copies.py"}
    users = {name for name, found in modules("replay").items() if "h5py" in found}
    assert users == {"hdf5.py", "copying.py"}
    users = {name for name, found in modules("replay").items() if "imageio_ffmpeg" in found}
    assert users == {"encode.py"}


def test_the_writer_needs_no_torch() -> None:
    code = "import record.writer, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_messages_come_back_as_they_went() -> None:
    layout = wire.Layout(
        ((3, 4, 5), (3, 8, 8)),
        (Layer("a", "Conv2d", (2, 4, 5), (2, 3, 1, 1)), Layer("b#1", "ReLU", (2, 4, 5))),
    )
    assert wire.Layout.decode(layout.encode()) == layout
    assert layout.size == 60 + 192 + 40 + 6 + 40
    assert [slot.start for slot in layout.places.values()] == [0, 60, 252, 292, 298]
    header = wire.FrameHeader(1, 2, 3, 4.5, {"loss": float("nan")}, (1, 70), 0, 1, 5, 6, 7)
    plain = wire.FrameHeader(1 << 40, 2, 3, 4.5)
    assert wire.FrameHeader.decode(plain.encode({}, 0, 0, None)) == plain
    text = header.encode(header.values, header.dropped, header.lost, header.slot)
    message = wire.pack(wire.FRAME, text, 4) + b"data"

    def read(data: bytes) -> wire.Message | None:
        out, into = os.pipe()
        os.write(into, data)
        os.close(into)
        stream = wire.Stream(out, bytearray)
        try:
            return stream.next()
        finally:
            stream._file.close()

    received = read(message)
    assert received is not None
    assert (received.kind, bytes(received.payload)) == (wire.FRAME, b"data")
    assert repr(received.header) == repr(header)
    for cut in range(len(message)):
        assert read(message[:cut]) is None
    with pytest.raises(ValueError, match="expected a message of kind"):
        read(b"WHAT" + bytes(12))
