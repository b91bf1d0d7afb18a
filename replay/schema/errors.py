"""The errors of both packages: one tree, one message each, and the exit code that it means."""

from __future__ import annotations

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
    """A frame that is not what was recorded: its checksum is wrong, or it cannot be read."""


class SelectionError(RecordingError):
    """A layer, channel, epoch or batch that the recording does not hold."""


class OptionError(RecordingError):
    """An option that cannot be used: a model, data set, device, pattern, range or colormap."""


class OutputError(RecordingError):
    """The target cannot be written: it exists, its folder is read-only, its suffix unknown."""


class EncodeError(RecordingError):
    """The encoder failed after it had started."""

    exit_code = 1
