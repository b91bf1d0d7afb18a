"""The address of a recording that is not on this machine, `s3://bucket/run.h5`, as a path.

All of `replay` asks a recording's path for its name, its size and what lies beside it. An address
answers as a path does; only what lies beside it is in the working folder, where results go.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from replay.recording.remote_file import RemoteFile
from replay.schema import RecordingError
from replay.schema.addresses import is_address, without_secrets
from replay.value_kinds import as_path

if TYPE_CHECKING:
    from pathlib import Path as _Path
else:
    _Path = type(Path())  # that of this system, which alone can be made


class Address(_Path):
    """An address that fsspec understands.

    Args:
        address: The address. What may be secret in it, a password or the signature behind a `?`,
            is used, and not shown.
    """

    _address: str
    _open: RemoteFile | None = None

    def __new__(cls, address: str) -> Address:
        """Makes the path: before Python 3.12 that is done here, later in `__init__`."""
        made: Address = super().__new__(cls, _shown_path(address))
        made._address = address
        return made

    def __init__(self, address: str) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(_shown_path(address))

    def __reduce__(self) -> tuple[Any, ...]:
        return Address, (self._address,)

    def __str__(self) -> str:
        return without_secrets(self._address)

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __hash__(self) -> int:
        return hash(self._address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and other._address == self._address

    def connect(self) -> RemoteFile:
        """Returns the file, opened; the same one until it is closed.

        Raises:
            RecordingError: It cannot be opened.
        """
        if self._open is None or self._open.closed:
            self._open = RemoteFile(self._address, str(self))
        return self._open

    @property
    def failure(self) -> RecordingError | None:
        """Why the last read failed, where the connection was lost."""
        return None if self._open is None else self._open.failure

    def trace(self) -> tuple[int, int, int]:
        """Returns what tells the state that was opened from others, as far as the server says."""
        try:
            found = self.connect()
        except RecordingError:
            return 0, 0, 0
        return hash(found.version), found.size, 0

    # What a path is asked for

    @property
    def parent(self) -> Any:
        """The folder, by name only."""
        return PurePosixPath(_shown_path(self._address)).parent

    def absolute(self) -> Address:
        """Returns the address itself."""
        return self

    def resolve(self, strict: bool = False) -> Address:
        """Returns the address itself."""
        return self

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Returns True: whether it is there is seen when it is opened."""
        return True

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Returns True, likewise."""
        return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Returns False."""
        return False

    def samefile(self, other_path: Any) -> bool:
        """Returns whether the other is the same address."""
        return bool(self == other_path)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Returns the file's size; the rest is made up."""
        size = self.connect().size if self._open is None else self._open.size
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def with_name(self, name: str) -> Path:  # type: ignore[override]
        """Returns a path of that name in the working folder."""
        return Path(name)

    def with_suffix(self, suffix: str) -> Path:  # type: ignore[override]
        """Returns a path of the recording's name with another suffix, in the working folder."""
        return Path(self.name).with_suffix(suffix)


def read_path(path: str | os.PathLike[str]) -> Path:
    """Returns a path of this machine, or an `Address`; `file://` is a path, too.

    Raises:
        OptionError: It is neither.
    """
    if isinstance(path, Address):
        return Address(path._address)  # with a connection of its own
    if is_address(path):
        return Address(str(path))
    if isinstance(path, str) and path.lower().startswith("file://"):
        from urllib.request import url2pathname  # loads much, for this alone

        return Path(url2pathname(urlsplit(path).path))
    return as_path(path)


def _shown_path(address: str) -> str:
    """Returns what stands for the address as a path: the host, the folders and the name.

    Of addresses that are read through one another, it is the first that has a path.
    """
    links = [link for link in without_secrets(address).split("::") if "://" in link]
    parts = urlsplit(links[0])
    path = unquote(parts.path).strip("/")
    if not path and "." in parts.netloc:  # zip://run.h5::..., memory://run.h5
        return parts.netloc
    return f"{parts.netloc.rpartition('@')[2]}/{path or 'recording'}"
