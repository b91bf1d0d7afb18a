"""A recording from an address to this machine, whole, and from this machine to an address."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from replay.formatting import format_bytes
from replay.output import replacing
from replay.recording.address import Address, read_path
from replay.recording.remote_file import (
    PAUSES,
    NoRangesError,
    RemoteFile,
    describe_error,
    find_file,
)
from replay.schema import FileError, OptionError, OutputError
from replay.schema.errors import UnreachableError
from replay.schema.faces import spell
from replay.value_kinds import check_kinds

_PIECE = 8 << 20  # bytes


@dataclass(frozen=True)
class Fetched:
    """What `fetch` wrote.

    Attributes:
        path: The file.
        bytes: Its size.
        seconds: How long it took.
    """

    path: Path
    bytes: int
    seconds: float

    def __repr__(self) -> str:
        return f"<Fetched {str(self.path)!r}: {format_bytes(self.bytes)}>"


def fetch(
    address: str,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Fetched:
    """Downloads a recording whole, also from a server that sends no parts of a file.

        fetch("https://example.org/run.h5")

    Args:
        address: Such as `https://...`, `s3://...`, `gs://...` or `hf://...`.
        out: Where to; by default a file of the same name in the working folder.
        overwrite: Whether it may replace another file.
        progress: Called with (bytes done, bytes in all); 0 in all where the server does not say.

    Returns:
        What was written.

    Raises:
        FileError: There is no such file, or it may not be read.
        OutputError: The file exists, or cannot be written.
        UnreachableError: The connection was lost.
    """
    check_kinds(locals())
    started = time.monotonic()
    path = read_path(address)
    if not isinstance(path, Address):
        raise OptionError(f"fetch: expected an address such as https://..., found {address}")
    target = Path(path.name) if out is None else Path(out)
    if target.exists() and not overwrite:
        allow = spell("overwrite", True)
        raise OutputError(f"{target} exists; name another file ({spell('out')}) or allow {allow}")
    with replacing(target) as unfinished, unfinished.open("wb") as file:
        try:
            _fetch_parts(path.connect(), file, progress)
        except NoRangesError:
            _fetch_stream(address, str(path), file, progress)
    return Fetched(target, target.stat().st_size, time.monotonic() - started)


def _fetch_parts(
    remote: RemoteFile, file: BinaryIO, progress: Callable[[int, int], None] | None
) -> None:
    """Writes a file piece by piece; a lost connection costs a piece."""
    try:
        for start in range(0, remote.size, _PIECE):
            file.write(remote.fetch(start, min(start + _PIECE, remote.size)))
            if progress is not None:
                progress(file.tell(), remote.size)
    finally:
        remote.close()


def _fetch_stream(
    address: str, name: str, file: BinaryIO, progress: Callable[[int, int], None] | None
) -> None:
    """Writes a file as it comes, from the beginning again where the connection is lost."""
    pauses = list(PAUSES)
    while True:
        file.seek(0)
        file.truncate()
        try:
            system, path = find_file(address, name)
            size = system.info(path).get("size") or 0
            with system.open(path, "rb", block_size=0) as source:
                while piece := source.read(_PIECE):
                    file.write(piece)
                    if progress is not None:
                        progress(file.tell(), size)
            if size and file.tell() != size:
                raise EOFError(f"{file.tell():,} of {size:,} bytes came")
            return
        except FileError:
            raise
        except Exception as error:
            if not pauses:
                why = describe_error(error)
                raise UnreachableError(f"the connection to {name} was lost ({why})") from error
            time.sleep(pauses.pop(0))


def upload(
    path: Path, address: str, progress: Callable[[int, int], None] | None = None
) -> tuple[str, int]:
    """Copies a recording to an address.

    Args:
        path: The recording, a file of this machine.
        address: Where to; into a folder if it ends in a slash.
        progress: Called with (bytes done, bytes in all), as often as the file system tells.

    Returns:
        The address of the copy, and its bytes.

    Raises:
        OptionError: The recording is not on this machine.
        OutputError: It cannot be written there.
    """
    if isinstance(path, Address):
        raise OptionError(f"{path} is not on this machine; fetch it first")
    whole = f"{address}{path.name}" if address.endswith("/") else address
    name = str(Address(whole))
    size = path.stat().st_size
    try:
        system, there = find_file(whole, name)
        told = {} if progress is None else {"callback": _callback(size, progress)}
        system.put_file(str(path), there, **told)
        system.invalidate_cache()
        found: Any = system.info(there).get("size")
    except FileError:
        raise
    except NotImplementedError as error:
        raise OutputError(f"cannot write {name}: nothing can be put there by fsspec") from error
    except Exception as error:  # whatever a file system may raise
        raise OutputError(f"cannot write {name}: {describe_error(error)}") from error
    if found != size:
        raise OutputError(f"cannot write {name}: {found} of {size:,} bytes are there")
    return name, size


def _callback(size: int, progress: Callable[[int, int], None]) -> Any:
    """Returns what fsspec tells of its progress, and passes that on."""
    callbacks: Any = import_module("fsspec.callbacks")

    class Told(callbacks.Callback):  # type: ignore[misc]
        """Passes on how many bytes were sent."""

        def call(self, *_: object, **__: object) -> None:
            """Is called whenever that has changed."""
            progress(min(self.value, size), size)

    return Told(size=size)
