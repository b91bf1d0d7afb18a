"""Of which kind the value of each option is, for callers in Python: one table, and its check.

A command line reads its words itself. In Python a layer's number, a size in quotes or a mean with a
fraction would end in a TypeError far below.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from replay.schema import FileError, OptionError, OutputError, RecordingError
from replay.schema.addresses import was_address, why_no_file
from replay.schema.faces import spell

_SAID = 60  # letters of a value
_A_RECORDING = "the path or the address of a recording"


def check_kinds(given: Mapping[str, Any], needed: str = "") -> None:
    """Makes sure that each option has a value of its kind; None is what an option has by default.

    Args:
        given: What a public function was called with, by the names of the options; what is no
            option is passed over.
        needed: Those that have no default, with spaces between them.

    Raises:
        OptionError: One of them has another; the message says what was expected.
        FileError: No file can be called as a recording is.
        OutputError: No file can be called as what is made.
    """
    for name, value in given.items():
        if name not in _KINDS or (
            value is None and name not in _NEVER_NONE and name not in needed.split()
        ):
            continue
        fits, expected = _KINDS[name]
        if not fits(value):
            found = repr(value)
            found = found if len(found) <= _SAID else f"{found[:_SAID]}..."
            raise OptionError(f"{spell(name)}: expected {expected}, found {found}")
        is_path = name in _NAMED and _is_path(value) and was_address(value) is None
        if is_path and (why := why_no_file(value)):
            raise _NAMED[name](why)


def as_path(path: str | os.PathLike[str]) -> Path:
    """Returns the path of a recording on this machine.

    Raises:
        OptionError: It is none.
    """
    check_kinds({"path": path})
    return Path(path)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike))


def _are_recordings(value: object) -> bool:
    if isinstance(value, (bytes, Mapping)) or hasattr(value, "dtype"):
        return False
    return _is_path(value) or isinstance(value, Iterable) or hasattr(value, "require_frames")


def _is_flag(value: object) -> bool:
    return isinstance(value, (bool, int)) or type(value).__name__ in ("bool", "bool_")


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_limit(value: object) -> bool:
    return _is_number(value) or (isinstance(value, str) and value in ("auto", "none"))


def _is_range(value: Any) -> bool:
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, dict, set)):
        return False
    ends = list(value)
    return len(ends) == 2 and all(isinstance(end, numbers.Real) for end in ends)


def _are_names(value: object) -> bool:
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        return False
    if isinstance(value, Iterator):  # which can be read but once
        return True
    return isinstance(value, str) or all(isinstance(each, str) for each in value)


def _are_words(value: object) -> bool:
    return _are_names(value) and not hasattr(value, "dtype")


def _are_numbers(value: object) -> bool:
    if isinstance(value, slice):
        ends = (value.start, value.stop, value.step)
        return all(end is None or _is_whole(end) for end in ends)
    if isinstance(value, Iterable):
        return not isinstance(value, (bytes, Mapping))
    return _is_whole(value)


def _is_token(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return len(value) == 2 and all(_is_whole(each) for each in value)
    return isinstance(value, str) or _is_whole(value)


def _is_probe(value: object) -> bool:
    return _is_whole(value) or value is False


_Kind = tuple[Callable[[Any], bool], str]

_FLAGS = (
    "symmetric input captions grid_of_probes difference overwrite alt poster kernels numbers "
    "follow gif"
)
_OF: dict[str, _Kind] = {
    "scale cmap theme tokens order view cam_method difference_cmap title codec preset filter": (
        _is_text,
        "a text",
    ),
    "recording a b": (_are_recordings, f"{_A_RECORDING}, or an open one"),
    "path address": (_is_path, _A_RECORDING),
    "out": (_is_path, "a path"),
    "progress sending": (callable, "a function that is called with two numbers"),
    "ax": (lambda value: hasattr(value, "imshow"), "axes of matplotlib"),
    _FLAGS: (_is_flag, "True or False"),
    "zoom columns crf jobs dpi rows bits": (_is_whole, "a whole number"),
    "probe": (_is_probe, "the number of a fixed image"),
    "fps": (_is_number, "a number"),
    "max_mb": (_is_limit, "a number, 'auto' or None"),
    "clip": (_is_range, "two numbers (low, high)"),
    "layers layer": (_are_names, "the name of a layer, or several"),
    "only": (_are_words, "what is pushed, one word or several"),
    "show": (_are_words, "what is shown beside the maps, one word or several"),
    "channels epochs epoch batches batch slices": (
        _are_numbers,
        "numbers: one, several, a slice, or a text such as '0,3,8-11'",
    ),
    "query": (_is_token, "a token: its number, (row, column), 'class', 'mean' or 'all'"),
}

_KINDS = {name: kind for names, kind in _OF.items() for name in names.split()}
"""By option, what tells whether a value is of its kind, and what that is in words."""
_NEVER_NONE = {*_FLAGS.split(), "dpi", "rows", "recording", "path", "a", "b", "address"}
_NAMED: dict[str, type[RecordingError]] = {
    "out": OutputError,
    **dict.fromkeys(("recording", "path", "a", "b"), FileError),
}
