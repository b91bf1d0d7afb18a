"""Reads ranges of a file by its address, through fsspec, and no more of it than is asked for.

HDF5 reads its own tables in many small pieces that lie close together: those go through a cache of
blocks. Frames are read whole, as one range each. A lost connection is tried again, then said once.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from replay.schema import FileError, RecordingError
from replay.schema.addresses import without_secrets
from replay.schema.errors import UnreachableError
from replay.schema.faces import call

_T = TypeVar("_T")

PAUSES = (0.5, 1.0, 2.0)  # seconds before it is tried again
_BLOCK = 1 << 16  # bytes
_BLOCKS = 1024  # that are kept: 64 MiB
_LARGE = 1 << 13  # bytes from which a read is a range of its own
_PATIENT = {"gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
"""Packages that try again by themselves for half a minute, and say so in many lines."""
_PACKAGES = {
    **_PATIENT,
    **dict.fromkeys(("az", "abfs"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "smb": "smbprotocol",
    "github": "requests",
}
_FINAL = (IsADirectoryError, NotImplementedError, ImportError)


class NoRangesError(FileError):
    """A server sends no parts of a file.

    Args:
        name: What the file is called in messages.
    """

    def __init__(self, name: str) -> None:
        way = call("fetch", name)
        super().__init__(
            f"the server of {name} sends no parts of a file; '{way}' downloads it whole"
        )


class RemoteFile:
    """A file that is opened by its address.

    Args:
        address: As fsspec takes it.
        name: What to call it in a message.

    Raises:
        FileError: It is not there, may not be read, or its server reads no ranges.
        UnreachableError: There is no connection.

    Attributes:
        size: Bytes of the file.
        read: Bytes that were transferred so far.
        failure: Why it cannot be read any more; None as long as it can.
        closed: Whether it was closed.
        version: What tells one state of the file from another, as far as its server says.
    """

    def __init__(self, address: str, name: str) -> None:
        self.name, self._address = name, address
        self.read, self.closed = 0, False
        self.failure: RecordingError | None = None
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._patient = _PATIENT.get(address.partition("://")[0].rpartition("::")[2], "")
        # Some connect already when they are made.
        self._system, self._path = self._try(lambda: find_file(address, name))
        self._system.invalidate_cache()  # of what another one of its kind has seen before
        chained = "::" in address  # whose first part may know of no size, and reads its own way
        about = self._try(lambda: self._info(chained))
        if about.get("type") == "directory":
            raise FileError(f"expected a recording such as run.h5, but {name} is a folder")
        if about.get("size") is None and not chained:
            raise NoRangesError(self.name)
        keys = ("ETag", "etag", "mtime", "LastModified", "created")
        how = {} if chained else {"cache_type": "none", "block_size": _BLOCK}
        self._file: Any = self._try(lambda: self._system.open(self._path, "rb", **how))
        # What was listed may be a pointer to the file, or nothing.
        self.size = int(getattr(self._file, "size", None) or about.get("size") or 0)
        self.version = (self.size, *(str(about[key]) for key in keys if key in about))
        seekable = getattr(self._file, "seekable", lambda: True)()
        if not seekable or about.get("partial") is False:
            raise NoRangesError(self.name)

    def _info(self, chained: bool) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._system.info(self._path)
        except FileNotFoundError:
            if not chained:
                raise
            return {}
        return found

    def read_into(self, buffer: Any, start: int) -> int:
        """Fills a buffer from a place on, as far as the file goes; returns how much it was.

        Raises:
            UnreachableError: The connection was lost.
        """
        view = memoryview(buffer).cast("B")
        stop = min(start + len(view), self.size)
        with _no_collection():
            return self._fill(view, start, max(start, stop))

    def _fill(self, view: memoryview, start: int, stop: int) -> int:
        if stop - start >= _LARGE:
            view[: stop - start] = self.fetch(start, stop)
            return stop - start
        at = start
        while at < stop:
            number, offset = divmod(at, _BLOCK)
            part = self._block(number)[offset : offset + stop - at]
            view[at - start : at - start + len(part)] = part
            at += len(part)
        return stop - start

    def head(self, size: int) -> bytes:
        """Returns the first bytes of the file, as far as it goes."""
        return self._block(0)[:size] if self.size else b""

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            start = number * _BLOCK
            block = self._blocks[number] = self.fetch(start, min(start + _BLOCK, self.size))
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return block

    def fetch(self, start: int, stop: int) -> bytes:
        """Returns a range of the file.

        Raises:
            FileError: The server reads no ranges, or the file is not what it was.
            UnreachableError: The connection was lost.
        """

        def read() -> bytes:
            self._file.seek(start)
            data: bytes = self._file.read(stop - start)
            if len(data) > stop - start:
                raise NoRangesError(self.name)
            if len(data) != stop - start:
                raise EOFError(f"{len(data):,} of {stop - start:,} bytes came")
            return data

        data = self._try(read)
        self.read += len(data)
        return data

    def close(self) -> None:
        """Closes it; a second call does nothing."""
        if not self.closed:
            self.closed = True
            self._blocks.clear()
            self._file.close()

    def _try(self, work: Callable[[], _T]) -> _T:
        """Returns what some work with the file gives, which is tried again where it fails."""
        if self.failure is not None:
            raise self.failure
        pauses = [] if self._patient else list(PAUSES)
        while True:
            try:
                with _silent(self._patient):
                    return work()
            except RecordingError as error:
                self.failure = error
                raise
            except Exception as error:
                found = self._understand(error)
                if found is None and not pauses:
                    why = describe_error(error.__cause__ or error)
                    found = UnreachableError(f"the connection to {self.name} was lost ({why})")
                if found is not None:
                    self.failure = found
                    raise found from error
                time.sleep(pauses.pop(0))

    def _understand(self, error: Exception) -> RecordingError | None:
        """Returns what an error means for which it makes no sense to try again; else None."""
        cause = error if error.__cause__ is None else error.__cause__
        status = getattr(cause, "status", None)  # of aiohttp; requests and httpx have a response
        if status is None:
            status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(error, PermissionError) or status in (401, 403):
            ways = _credentials(self.name)
            return FileError(f"cannot read {self.name}: access is denied; {ways}")
        if status in (404, 410):
            return FileError(f"no such file: {self.name}")
        if isinstance(error, FileNotFoundError):  # which some raise where nobody answers, too
            answered = not isinstance(cause, Exception) or "Connect" not in type(cause).__name__
            return FileError(f"no such file: {self.name}") if answered else None
        if "Credentials" in type(error).__name__:
            why = describe_error(error)
            return FileError(f"cannot read {self.name}: {why}; {_credentials(self.name)}")
        if "range request" in str(error):
            return NoRangesError(self.name)
        if isinstance(error, _FINAL):
            return FileError(f"cannot read {self.name}: {describe_error(error)}")
        return None


@contextmanager
def _silent(package: str) -> Iterator[None]:
    """Keeps a package from saying that it tries again, until the end of the block."""
    logger = logging.getLogger(package or "mapreel")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps garbage from being collected while HDF5 waits for bytes, until the end of the block.

    This thread has h5py's lock then, and others fetch the bytes. A collection may end an object of
    h5py in one of those, which would wait for the lock, and this thread for it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def describe_error(error: BaseException) -> str:
    """Returns the first line of an error of another package, without what may be secret in it."""
    words = without_secrets((str(error).strip().splitlines() or [""])[0])
    return f"{type(error).__name__}: {words}".removesuffix(": ")


def find_file(address: str, name: str) -> tuple[Any, str]:
    """Returns the file system of an address, and the path in it.

    Args:
        address: As fsspec takes it.
        name: What to call it in a message.

    Raises:
        FileError: What reads such addresses is not installed, or there is no such thing.
    """
    scheme = address.partition("://")[0].rpartition("::")[2]
    try:
        core: Any = import_module("fsspec.core")
        found: tuple[Any, str] = core.url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(scheme.lower(), "'mapreel[remote]'")
        raise FileError(f"{scheme}://: not installed; pip install {package}") from error
    except ValueError as error:
        raise FileError(f"cannot read {name}: {describe_error(error)}") from error
    return found


def _credentials(name: str) -> str:
    google = "GOOGLE_APPLICATION_CREDENTIALS"
    ways = {"s3": "AWS_PROFILE or AWS_ACCESS_KEY_ID", "gs": google, "gcs": google, "hf": "HF_TOKEN"}
    scheme = name.partition("://")[0].rpartition("::")[2]
    return f"fsspec takes credentials from {ways.get(scheme, 'its configuration')}"
