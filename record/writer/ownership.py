"""Gives a copy of a file the owner and the rights that the file has."""

from __future__ import annotations

import contextlib
import os
import stat


def create_file(path: str, like: str | None = None, *, private: bool = False) -> None:
    """Creates an empty file.

    Args:
        path: The file.
        like: The file whose rights it has; None for those that a new file has.
        private: Whether nobody else may read it until it gets its rights.

    Raises:
        FileExistsError: There is one.
        OSError: It cannot be created.
    """
    mode = 0o600 if private or like is not None else 0o666
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
    if like is not None:
        keep_rights(like, path)


def keep_rights(source: str, target: str) -> None:
    """Gives a file the owner, the group, the mode and the access list of another one.

    Where the system does not let it have that group, the group gets no rights either: they would
    be those of another one.

    Args:
        source: The file that is to be replaced.
        target: The file that takes its place.
    """
    about = os.stat(source)
    mode = stat.S_IMODE(about.st_mode)
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):  # root alone may give files away
            os.chown(target, about.st_uid, -1)
        try:
            os.chown(target, -1, about.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG
    with contextlib.suppress(OSError):
        os.chmod(target, mode)
    if hasattr(os, "listxattr"):  # access lists, labels, comments: what the file system has
        with contextlib.suppress(OSError):
            for name in os.listxattr(source):
                with contextlib.suppress(OSError):
                    os.setxattr(target, name, os.getxattr(source, name))
