"""Whether a recording can be written where it was asked for."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from record.locking.own_recordings import check_own
from replay.schema import OptionError, OutputError
from replay.schema.addresses import (
    short_name,
    was_address,
    why_no_file,
    why_not_here,
    without_secrets,
)
from replay.schema.faces import call, refuse_existing
from replay.schema.holders import holder_of


def recording_path(path: str | os.PathLike[str]) -> Path:
    """Returns the path of a recording to write, as it was given.

    Raises:
        OptionError: It is no path.
        OutputError: No file can be called so.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise OptionError(f"path: expected a path such as 'run.h5', found {path!r}")
    if was_address(path) is None and (why := why_no_file(path)):  # else `check_here` refuses it
        raise OutputError(why)
    if not Path(path).name:  # "", "." and "/", to which no number of a rank could be added
        raise OutputError(f"expected a file such as run.h5, but {Path(path)} is a folder")
    return Path(path)


def check_target(path: Path, overwrite: bool) -> None:
    """Refuses, before any work, a target that cannot be written.

    Raises:
        OutputError: The file exists, is not a file, this process records into it already, or its
            folder is missing or read-only.
    """
    check_here(path)
    if why := why_no_file(path):
        raise OutputError(why)
    check_own(path)
    if path.is_dir():
        raise OutputError(f"expected a file such as run.h5, but {path} is a folder")
    if path.exists() and not path.is_file():
        raise OutputError(f"expected a file such as run.h5, but {path} is not a regular file")
    if path.exists() and not overwrite and holder_of(path) is None:  # else its writer looks into it
        raise OutputError(refuse_existing(path))
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"no such folder: {folder}; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into the folder {folder}")
    _try_beside(path)


def _try_beside(path: Path) -> None:
    """Refuses a file beside which no other can be made, as its writer needs them.

    Raises:
        OutputError: None can.
    """
    trial = path.with_name(f"{path.name}.{secrets.token_hex(4)[:7]}")  # as long as run.h5.copying
    try:
        os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.unlink(trial)
    except OSError as error:
        raise OutputError(
            f"no files can be made beside {short_name(path)}, as a recording needs them: "
            f"{str(error.strerror or error).lower()}"
        ) from error


def check_here(path: str | os.PathLike[str]) -> None:
    """Refuses an address: HDF5 appends to files of this machine only.

    Raises:
        OutputError: It is one.
    """
    if (address := was_address(path)) is not None:
        address = without_secrets(address)
        name = address.rpartition("/")[2] or "run.h5"
        push = call("push", name, to=address)
        raise OutputError(
            f"{address}: a recording is written to a file of this machine, {name}, say; then "
            f"'{push}' copies it there"
        )
    if elsewhere := why_not_here(path):
        raise OutputError(elsewhere)


def check_source(path: Path) -> None:
    """Refuses, before any work, to go on with a recording that is not there.

    Raises:
        OutputError: The recording is missing, not a file, cannot be written, or this process
            records into it already.
    """
    check_here(path)
    check_own(path)
    if not path.is_file():
        raise OutputError(f"cannot resume {path}: there is no such file")
    if not os.access(path, os.W_OK) or not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot resume {path}: it or its folder is read-only")
