"""The errors of both packages: one tree, one message each, and the exit code that it means."""

from __future__ import annotations

import errno
import re

from replay.schema.addresses import without_secrets


class RecordingError(Exception):
    """What went wrong, in one line: what was expected, what was found, what to do.

    `exit_code` is what a command line answers with: 2 for unusable input, 1 for a failure.
    """

    exit_code = 2

    def __str__(self) -> str:
        """Returns the message, without what may be secret in addresses in it."""
        return without_secrets(super().__str__())


class FileError(RecordingError):
    """The recording cannot be read: missing, not HDF5, not ours, too new, empty or damaged."""


class UnreachableError(RecordingError):
    """The connection to a recording that is not on this machine was lost."""

    exit_code = 1


class DamagedError(FileError):
    """A frame that is not what was recorded: its checksum is wrong, or it cannot be read.

    Args:
        message: What is said of it: which frame of which file, and what to do.
        short: The same for a list that names frame and file itself; the message without it.
    """

    def __init__(self, message: str, short: str = "") -> None:
        super().__init__(message)
        self.short = short or message


class SelectionError(RecordingError):
    """A layer, channel, epoch or batch that the recording does not hold."""


class OptionError(RecordingError):
    """An option that cannot be used: a model, data set, device, pattern, range or colormap."""


class OutputError(RecordingError):
    """The target cannot be written: it exists, its folder is read-only, its suffix unknown."""


class EncodeError(RecordingError):
    """The encoder failed after it had started."""

    exit_code = 1


class ShortageError(RecordingError):
    """There is no memory, or there are no file descriptors: nothing is known of the file then."""

    exit_code = 1


NO_MEMORY = "not enough memory: close other programs, or raise the limit (ulimit -v)"
_NO_DESCRIPTORS = "too many open files: close some, or raise the limit (ulimit -n)"
_NO_MEMORY_WORDS = re.compile(
    r"annot allocate memory|failed to map segment|memory allocation failed|nable to allocate"
    r"|can't start new thread|^[Oo]ut of memory"
)


def find_shortage(error: BaseException | None) -> ShortageError | None:
    """Returns what to say of an error that a lack of memory or descriptors is behind.

    Args:
        error: Any error; libraries and their loader often hide the reason in its text.

    Returns:
        The error to raise instead, or None.
    """
    for _ in range(10):  # of a chain
        if error is None:
            break
        number, text = getattr(error, "errno", None), str(error)
        if isinstance(error, ShortageError):
            return error
        if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
            return ShortageError(_NO_DESCRIPTORS)
        memory = isinstance(error, MemoryError) or number == errno.ENOMEM
        if memory or (isinstance(error, Exception) and _NO_MEMORY_WORDS.search(text)):
            return ShortageError(NO_MEMORY)
        error = error.__cause__ or error.__context__
    return None


def why_not_written(error: OSError | RuntimeError) -> str:
    """Returns the system's words for an error, which HDF5 tells among many others.

    Raises:
        RuntimeError: The error itself, if it is none of HDF5's.
    """
    if told := re.search(r"error message = '([^']+)'", str(error)):
        return told[1]
    if not isinstance(error, OSError):
        raise error
    return error.strerror or str(error)
