"""Servers that say or send other than most do: one line that says what it is, or the right data."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import drifting_maps, write_recording
from serving import Served, running

import replay
from replay.__main__ import main
from replay.files import transfer
from replay.recording import remote_file
from replay.schema import FileError, OptionError, OutputError
from replay.schema.errors import UnreachableError

pytest.importorskip("fsspec", reason="fsspec is not installed; pip install 'mapreel[remote]'")
pytest.importorskip("aiohttp", reason="aiohttp is not installed; pip install 'mapreel[remote]'")

from fsspec.implementations.memory import MemoryFileSystem

pytestmark = pytest.mark.usefixtures("elsewhere")

MAPS = drifting_maps(4, 64, 64)
IN_MEMORY = "memory://runs/run.h5"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0))
    return write_recording(tmp_path / "run.h5", {"conv1": MAPS}, epochs=1, batches=3, image=None)


@pytest.fixture
def stored(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recording, which is at `IN_MEMORY`, too."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    MemoryFileSystem().pipe_file("/runs/run.h5", run.read_bytes())
    return run


class Request(BaseHTTPRequestHandler):
    """A request for one file.

    Attributes:
        data: The file.
    """

    protocol_version = "HTTP/1.1"
    data = b""

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    @property
    def part(self) -> tuple[int, int] | None:
        """The range that is asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        return (int(asked[1]), int(asked[2]) + 1) if asked else None

    def send(self, data: bytes, status: int = 200, **headers: str) -> None:
        """Sends an answer; of a HEAD, what comes before the data."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def send_part(self, data: bytes) -> None:
        """Sends what is said to be the range that is asked for."""
        start, stop = self.part or (0, 0)
        about = f"bytes {start}-{stop - 1}/{len(self.data)}"
        self.send(data, 206, Content_Range=about, Content_Length=str(len(data)))

    def send_whole(self, **headers: str) -> None:
        """Sends the file."""
        self.send(self.data, Content_Length=str(len(self.data)), **headers)


Answer = Callable[[Request], None]


@contextmanager
def served(path: Path, answer: Answer) -> Iterator[str]:
    """The address of a file at a server that answers so, until the end of the block."""

    class Handler(Request):
        data = path.read_bytes()
        do_GET = do_HEAD = lambda self: answer(self)  # noqa: N815

    server = Served(path.parent)
    with running(server, Handler):
        yield f"{server.address}run.h5"


def no_parts(request: Request) -> None:
    request.send_whole(Accept_Ranges="none")


def no_size(request: Request) -> None:
    request.close_connection = True
    request.send(request.data, Connection="close")


def from_the_beginning(request: Request) -> None:
    request.send_whole()


def more_than_asked(request: Request) -> None:
    if request.part is None:
        request.send_whole()
    else:
        start, stop = request.part
        request.send_part(request.data[start : stop + 7])


def less_than_asked(request: Request) -> None:
    if request.part is None:
        request.send_whole()
    else:
        request.send_part(request.data[request.part[0] :][:10])


def refusing(status: int) -> Answer:
    return lambda request: request.send(b"", status, Content_Length="0")


@pytest.mark.parametrize("answer", [no_parts, no_size, from_the_beginning, more_than_asked])
def test_a_server_that_sends_no_parts_is_fetched_from(run: Path, answer: Answer) -> None:
    with served(run, answer) as address:
        said = rf"^the server of {address} sends no parts of a file; 'replay\.fetch\('{address}'\)'"
        with pytest.raises(FileError, match=said):
            replay.open(address)
        told: list[tuple[int, int]] = []
        fetched = replay.fetch(address, progress=lambda *now: told.append(now))
        assert fetched.path.read_bytes() == run.read_bytes()
        size = run.stat().st_size
        assert told[-1] == (size, 0 if answer is no_size else size)
        assert replay.fetch(address, "again.h5").bytes == size


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            refusing(401),
            "^cannot read {}: access is denied; fsspec takes credentials from its conf",
        ),
        (
            refusing(403),
            "^cannot read {}: access is denied; fsspec takes credentials from its conf",
        ),
        (refusing(404), "^no such file: {}$"),
        (refusing(410), "^no such file: {}$"),
    ],
    ids=["401", "403", "404", "410"],
)
def test_a_refusal_is_not_tried_again(run: Path, answer: Answer, said: str) -> None:
    with served(run, answer) as address, pytest.raises(FileError, match=said.format(address)):
        replay.open(address)


@pytest.mark.parametrize("times", [1, 2, 99])
def test_an_answer_that_is_too_short_is_a_lost_connection(run: Path, times: int) -> None:
    left = [times]

    def answer(request: Request) -> None:
        left[0] -= request.part is not None
        start, stop = request.part or (0, 0)
        short = left[0] >= 0
        if request.part is None:
            request.send_whole()
        else:
            request.send_part(request.data[start : start + 10 if short else stop])

    with served(run, answer) as address:
        if times < 3:
            with replay.open(address) as far:
                assert np.array_equal(far["conv1"][0, 2], MAPS(0, 2))
        else:
            lost = rf"^the connection to {address} was lost \(EOFError: 10 of [\d,]+ bytes came\)"
            with pytest.raises(UnreachableError, match=lost):
                replay.open(address)


@pytest.mark.parametrize("times", [2, 99])
def test_a_file_that_comes_short_is_fetched_from_its_beginning(
    run: Path, elsewhere: Path, times: int
) -> None:
    left = [times]

    def answer(request: Request) -> None:
        if request.command == "HEAD":
            request.send_whole(Accept_Ranges="none")
            return
        left[0] -= 1
        request.close_connection = True
        data = request.data[: 5_000 if left[0] >= 0 else None]
        request.send(data, Connection="close")

    with served(run, answer) as address:
        left[0] += 1  # parts are asked for first
        if times < 3:
            assert replay.fetch(address, "a.h5").path.read_bytes() == run.read_bytes()
        else:
            with pytest.raises(UnreachableError, match=r"was lost \(EOFError: 5,000 of [\d,]+ b"):
                replay.fetch(address, "a.h5")
            assert not list(elsewhere.iterdir())


class NoCredentialsError(Exception):
    """As botocore calls it."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("no"), "cannot read {}: access is denied; fsspec takes credentials from"),
        (NoCredentialsError("none"), "cannot read {}: NoCredentialsError: none; fsspec takes cred"),
        (NotImplementedError("no info"), "cannot read {}: NotImplementedError: no info"),
        (ImportError("no aioquic"), "cannot read {}: ImportError: no aioquic"),
        (IsADirectoryError("a"), "cannot read {}: IsADirectoryError: a"),
        (FileNotFoundError("a"), "no such file: {}"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_file_system_raises_is_said(
    stored: Path, error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def info(self: MemoryFileSystem, path: str) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    monkeypatch.setattr(remote_file.time, "sleep", pauses.append)
    with pytest.raises(FileError, match=f"^{said.format(IN_MEMORY)}"):
        replay.open(IN_MEMORY)
    assert not pauses  # it makes no sense to try again


def test_a_copy_that_is_not_whole_there_is_no_copy(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = stored.stat().st_size
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path: {"name": path, "size": 7})
    said = f"^cannot write memory://runs/copy.h5: 7 of {size:,} bytes are there$"
    with pytest.raises(OutputError, match=said):
        transfer.upload(stored, "memory://runs/copy.h5")


def test_only_what_is_elsewhere_is_fetched(run: Path) -> None:
    with pytest.raises(OptionError, match="^fetch: expected an address such as https://..., found"):
        replay.fetch(str(run))


def test_a_folder_is_no_recording(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "memory://runs"]) == 2
    assert (
        "expected a recording such as run.h5, but memory://runs is a fo" in capsys.readouterr().err
    )


def test_a_file_system_that_knows_no_size_sends_no_parts(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path: {"name": path, "size": None})
    with pytest.raises(FileError, match=f"^the server of {IN_MEMORY} sends no parts of a file"):
        replay.open(IN_MEMORY)


def test_what_is_kept_of_a_file_is_bounded(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "_BLOCK", 1 << 10)
    monkeypatch.setattr(remote_file, "_BLOCKS", 4)
    with replay.open(IN_MEMORY) as far:
        for cell in far.frames:
            assert np.array_equal(far["conv1"][cell], MAPS(*cell))
        remote = far._file.view._remote
        assert remote is not None
        assert 0 < len(remote._blocks) <= 4
        assert remote.read > 4 << 10


def test_a_program_that_collects_no_garbage_still_collects_none(stored: Path) -> None:
    gc.disable()
    try:
        with replay.open(IN_MEMORY) as far:
            assert far["conv1"][0, 0].any()
        assert not gc.isenabled()
    finally:
        gc.enable()
    with replay.open(IN_MEMORY) as far:
        assert far["conv1"][0, 0].any()
    assert gc.isenabled()
