"""The command line: `python -m replay COMMAND run.h5`.

Parses, calls, and turns the one error type into one line on stderr and an exit code.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

try:
    from replay.cli.console import say
    from replay.cli.parser import parse, spell_out
    from replay.formatting import clean
    from replay.schema import RecordingError
    from replay.schema.errors import NO_MEMORY, ShortageError, find_shortage
    from replay.schema.faces import (
        AtOnce,
        command_line,
        give_up_stdout,
        leave,
        own_process,
        remember_caller,
        speak,
    )
except KeyboardInterrupt:  # Ctrl-C while Python reads all that
    sys.exit(130)

# What is wrong with a name that the user gave, wherever it is first looked at.
_OF_A_NAME = (errno.ENAMETOOLONG, errno.EACCES, errno.ELOOP, errno.ENOTDIR)
_LAST_WORDS = f"error: {NO_MEMORY}\n".encode()


def entry() -> NoReturn:
    """The console script."""
    remember_caller()
    own_process()
    leave(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Its words; those of the process if None.

    Returns:
        The exit code: 0, 1 (failed), 2 (usage or unusable input) or 130 (Ctrl-C).
    """
    # A filter that HDF5 does not know would be looked for among the plug-ins of this computer.
    os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")
    try:
        with command_line():
            return speak(lambda: _run(spell_out(sys.argv[1:] if argv is None else argv)))
    except MemoryError:  # also while that is being said
        os.write(2, _LAST_WORDS)
        return AtOnce(1)


def _run(words: Sequence[str]) -> int:
    debug = "--debug" in words
    try:
        options = parse(words)
        code = options.call(options)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse has said what there is to say
        return stop.code if isinstance(stop.code, int) else 2
    except RecordingError as error:
        if debug:
            raise
        say("error", str(error))
        short = isinstance(error, ShortageError)
        return AtOnce(error.exit_code) if short else error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        return 130
    except Exception as error:
        if debug and not isinstance(error, BrokenPipeError):
            raise
        if (shortage := find_shortage(error)) is not None:
            say("error", str(shortage))
            return AtOnce(shortage.exit_code)
        if (problem := give_up_stdout(error)) is not None:
            if problem:
                say("error", problem)
            return 1
        if not isinstance(error, OSError) or error.errno not in _OF_A_NAME:
            raise
        say("error", f"{clean(str(error.filename), 100)}: {error.strerror}")
        return 2
    return code or 0


if __name__ == "__main__":
    entry()
