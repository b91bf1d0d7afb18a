"""How the user speaks to this program: in Python or in the words of a command line.

A message names an option as whoever reads it has to spell it: `overwrite=True` in Python,
`--overwrite` on a command line (`spell`). A command that a message offers begins as the user's own
did, so that it works as typed: `mapreel replay`, `mapreel-replay`, `.venv/bin/python -m replay`
(`command`). The entries of the command lines say which it is: `remember_caller`, `command_line`.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

_FLAGS = {"layers": "--layer", "layer": "--layer", "out": "-o", "show": "--with", "view": "--show"}
_PYTHONS = ("python", "python3")
# What is wrong with where stdout goes: files are named with what is wrong with them.
_OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

is_own_process = False
"""Whether this process is one command of `replay`, and nobody else's."""

_on_command_line = False
_caller: tuple[str, ...] = ()  # the words before the package's name, such as ("mapreel",)


class AtOnce(int):
    """An exit code with which a process ends at once: without memory Python's own end fails."""


def leave(code: int) -> NoReturn:
    """Ends a process with the exit code of a command line."""
    if isinstance(code, AtOnce):
        os._exit(code)
    sys.exit(code)


@contextmanager
def command_line() -> Iterator[None]:
    """Has messages speak of options as a command line spells them, until the end of the block."""
    global _on_command_line
    before, _on_command_line = _on_command_line, True
    try:
        yield
    finally:
        _on_command_line = before


def spell(name: str, value: Any = None, flag: str | None = None) -> str:
    """Returns an option as the user has to spell it.

    Args:
        name: Its name in Python.
        value: Its value; none is named if None.
        flag: How a command line spells it, if not as the name says.

    Returns:
        `fps=6` in Python and `--fps 6` on a command line; of `input` and False `input=False` and
        `--no-input`.
    """
    if not _on_command_line:
        return name if value is None else f"{name}={value!r}"
    words = name.replace("_", "-")
    if value is False:
        return f"--no-{words}"
    spelled = flag or _FLAGS.get(name, f"--{words}")
    return spelled if value is None or value is True else f"{spelled} {shlex.quote(str(value))}"


def choose(on_command_line: str, in_python: str) -> str:
    """Returns one of two texts: that for a command line, or that for Python."""
    return on_command_line if _on_command_line else in_python


def call(name: str, *arguments: object, **options: Any) -> str:
    """Returns what to do next with `replay`: a call in Python, or a command that can be typed.

    Args:
        name: The function's name, which is the command's.
        *arguments: Paths.
        **options: By their names in Python.
    """
    if _on_command_line:
        words = [*arguments]
        for option, value in options.items():
            words += shlex.split(spell(option, str(value)))
        return command("replay", name, *words)
    given = [repr(str(each)) for each in arguments]
    given += [f"{option}={str(value)!r}" for option, value in options.items()]
    return f"replay.{name}({', '.join(given)})"


def give_up_stdout(error: BaseException) -> str | None:
    """Has nothing more written to stdout, also not at the end, by Python, if it takes no more.

    Returns:
        What there is to say: nothing where whoever read it has seen enough; None of any other
        error, behind which stdout is as it was.
    """
    gone = isinstance(error, BrokenPipeError)
    full = isinstance(error, OSError) and error.errno in _OF_A_DISK and error.filename is None
    if not gone and not full:
        return None
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    assert isinstance(error, OSError)
    return "" if gone else f"cannot write what there is to say: {error.strerror}"


def speak(call: Callable[[], int]) -> int:
    """Runs what prints, and returns its exit code: 1 where stdout takes no more, which is said."""
    try:
        try:
            return call()
        finally:
            sys.stdout.flush()
    except OSError as error:
        problem = give_up_stdout(error)
        if problem is None:
            raise
        if problem:
            print(f"error: {problem}", file=sys.stderr)
        return 1


def own_process() -> None:
    """Notes that this process is one command of `replay`, which may end it as it has to.

    It opens no window of matplotlib, so that none is looked for, whatever the user has set.
    """
    global is_own_process
    is_own_process = os.name == "posix"
    os.environ["MPLBACKEND"] = "agg"


def refuse_existing(path: object) -> str:
    """Returns why a file is not written over, and what to do."""
    return f"{path} exists; choose another name or allow overwriting ({spell('overwrite', True)})"


def remember_caller() -> None:
    """Notes how this process was called; a console script and a `__main__` do so first of all.

    What is printed may have any letter, and where it goes may know few of them: a file on Windows,
    say. Those are then written as Python spells them, as on stderr.
    """
    global _caller
    _open_streams()
    with suppress(AttributeError, OSError):  # there may be none, or another object in its place
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    name = os.path.basename(sys.argv[0])
    name = name.removesuffix(".exe").removesuffix("-script.py")
    if name == "mapreel" or name.startswith("mapreel-"):
        _caller = (sys.argv[0],)
    elif os.path.basename(os.path.dirname(sys.argv[0])) == "mapreel":  # python -m mapreel
        _caller = (python(), "-m", "mapreel")
    else:
        _caller = ()


def _open_streams() -> None:
    """Opens the standard streams that this process was started without, onto nothing.

    Else the next file that is opened, such as a recording, bears the number of one of them, and
    gets what libraries and other programs write there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # the first free number


def program(package: str = "") -> str:
    """Returns what help calls a command line: `mapreel replay` or `python -m replay`.

    Args:
        package: `record` or `replay`; empty for the command `mapreel` itself.
    """
    if not _caller:
        return f"python -m {package or 'mapreel'}"
    if len(_caller) > 1:
        return f"python -m mapreel {package}".rstrip()
    name = os.path.basename(_caller[0])
    if name.startswith("mapreel-"):
        return f"mapreel-{package}" if package else "mapreel"
    return f"mapreel {package}".rstrip()


def command(package: str, *words: object) -> str:
    """Returns a command that can be typed as it is, in the folder in which the user stands.

    Args:
        package: `record` or `replay`.
        *words: What follows; paths may have spaces.
    """
    if not _caller:
        start = [python(), "-m", package]
    elif len(_caller) > 1:
        start = [*_caller, package]
    else:
        folder, name = os.path.split(_caller[0])
        if name.startswith("mapreel-"):
            start = [_typed(os.path.join(folder, f"mapreel-{package}"))]
        else:
            start = [_typed(_caller[0]), package]
    return shlex.join([*start, *map(str, words)])


def python() -> str:
    """Returns the word by which the user has called Python, or one that calls the same."""
    called = sys.orig_argv[0] if sys.orig_argv else ""
    if os.path.basename(called).startswith("python"):
        return _typed(called)
    for name in _PYTHONS:
        found = shutil.which(name)
        if found and os.path.dirname(found) == os.path.dirname(sys.executable):
            return name
    return sys.executable or _PYTHONS[0]


def _typed(path: str) -> str:
    """Returns a program's name alone where the shell finds that very program by it."""
    name = os.path.basename(path)
    found = shutil.which(name)
    return name if found and os.path.abspath(found) == os.path.abspath(path) else path
