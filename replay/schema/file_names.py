"""What no file can be called, said before anything is done with the name."""

from __future__ import annotations

import os

_LONGEST = 100  # letters of a name that are said


def why_no_file(path: str | os.PathLike[str]) -> str:
    r"""Returns why no file can be at a path, in a line; empty where one can.

    >>> why_no_file("run\0.h5")
    'no file can be called run\\x00.h5: embedded null byte'
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""  # what is there, and what may be, others ask
    except UnicodeEncodeError:
        return f"no file can be called {short_name(path)}: not in this system's encoding"
    except (OSError, ValueError) as error:
        words = (isinstance(error, OSError) and error.strerror) or str(error)
        return f"no file can be called {short_name(path)}: {words.lower()}"
    return ""


def short_name(path: str | os.PathLike[str]) -> str:
    """Returns a path as a line can show it: without its middle, and with what can be printed."""
    text = str(os.fspath(path))
    try:
        text = ascii(text)[1:-1] if "\0" in text else text
        os.fsencode(text)
    except UnicodeEncodeError:
        text = ascii(text)[1:-1]
    return text if len(text) <= _LONGEST else f"{text[:60]}...{text[-30:]}"
