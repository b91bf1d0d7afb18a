"""What an address is, such as `s3://bucket/run.h5`, what of one may be shown, and what no file is.

Anything else is a path of this machine. `simplecache::s3://bucket/run.h5` is an address, too, which
fsspec reads through another one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

# Two letters at least, since C:\ and C:/ are drives; a Path has made one slash of two.
_SCHEME = "[A-Za-z][A-Za-z0-9+.-]+"
_ADDRESS = re.compile(rf"(?!file:)(?:{_SCHEME}::)*{_SCHEME}://", re.IGNORECASE)
_COLLAPSED = re.compile(rf"(?!file:)(?:{_SCHEME}::)*{_SCHEME}:/")

_FIRST = "(?<![A-Za-z0-9+.-])"  # where a scheme begins: a long name is looked through once
_USER = re.compile(rf"{_FIRST}({_SCHEME})(:/{{1,2}})([^/\s@'\"]+)@")
_END = r"[^\s'\")]*?(?=[;,.]?(?:[\s'\")]|$))"  # of a query, but for the sentence's own mark
_QUERY = re.compile(rf"{_FIRST}({_SCHEME}:/{{1,2}}[^\s?'\"]*)\?{_END}")
_PART_OF_QUERY = re.compile(rf"(?<=[^\s'\"(])\?[^\s'\"()=&?]+={_END}")
_TOKENS = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}")
_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:token|secret|passwo?r?d|pwd|credentials?|(?:api|access|secret)[-_]?key)$",
    re.IGNORECASE,
)
HIDDEN = "***"
_LONGEST = 100  # letters of a path that are said


def is_address(path: object) -> bool:
    """Returns whether something names a file that is read through fsspec."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def was_address(path: str | os.PathLike[str]) -> str | None:
    """Returns the address that a path was made of; None where it is a path of this machine."""
    text = os.fspath(path)
    if is_address(text):
        return text
    if not _COLLAPSED.match(text) or os.path.exists(text.partition("/")[0]):
        return None
    return text.replace(":/", "://", 1)


def why_not_here(path: str | os.PathLike[str]) -> str:
    """Returns why a path names no file of this machine, in a line; empty where it names one."""
    text = os.fspath(path)
    if text.startswith("file:/") and not os.path.exists("file:"):
        return f"{text}: name the path itself, {re.sub('^file:/*(localhost/)?', '/', text)}"
    if (address := was_address(path)) is not None:
        address = without_secrets(address)
        name = address.rstrip("/").rpartition("/")[2]
        return f"{address}: what is made is a file of this machine; name a path, such as {name}"
    return ""


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


def without_secrets(text: str) -> str:
    """Returns a text without what may be secret in the addresses in it.

    Those are a password, a user of a web address, who may be a token, and all that stands behind
    a `?`, where a signature stands.

    >>> without_secrets("cannot read https://me:word@host/run.h5?sign=x; try again")
    'cannot read https://host/run.h5; try again'
    """
    if "?" in text:
        text = _PART_OF_QUERY.sub("", _QUERY.sub(r"\1", text))
    if "@" in text:
        text = _USER.sub(_without_user, text)
    return _TOKENS.sub(rf"\1 {HIDDEN}", text) if "B" in text else text


def _without_user(found: re.Match[str]) -> str:
    scheme, slashes, user = found.groups()
    # github://OWNER:REPOSITORY@BRANCH/..., and abfs://CONTAINER@ACCOUNT/... are no secrets.
    secret = scheme.lower() != "github" and (":" in user or scheme.lower().startswith("http"))
    return scheme + slashes if secret else found[0]


def words_without_secrets(words: Iterable[str]) -> list[str]:
    """Returns the words of a command line without what may be secret in them.

    >>> words_without_secrets(["train.py", "--api-key", "abc", "--token=abc", "--max-tokens", "9"])
    ['train.py', '--api-key', '***', '--token=***', '--max-tokens', '9']
    """
    shown: list[str] = []
    hides = False
    for word in map(without_secrets, words):
        name, equals, _ = word.partition("=")
        if hides and not word.startswith("-"):
            shown.append(HIDDEN)
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(word)
        hides = word.startswith("-") and not equals and _SECRET_NAME.search(word) is not None
    return shown
