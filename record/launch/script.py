"""Runs a training script that nobody changed, and records it: `python -m record run script.py`.

The script runs as Python itself would run it: a fresh `__main__`, its own arguments, its folder
first on the path, its output, its exit code, its Ctrl-C. torch is watched from the moment at
which the script imports it, not before: what a script sets up ahead of that import still counts.
"""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import io
import json
import os
import sys
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from record.launch.arguments import OPTIONS, RunCommand, UsageError, check, parse, usage
from record.launch.closing_lines import RecordingCount
from record.launch.misplaced_options import explain, misplaced_options, without_the_word
from record.launch.script_recording import ScriptRecording
from record.launch.spawned_children import OPTIONS_VARIABLE, record_spawned_children
from record.reporting import say
from replay.schema.faces import command_line
from replay.schema.suggestions import near_files

_PACKAGE = Path(__file__).resolve().parents[1]  # the folder `record`
_ROOT = str(_PACKAGE.parent)


def launch(words: Sequence[str]) -> int:
    """Runs `record run`; what the script raises, SystemExit included, passes through.

    Args:
        words: The command line behind `run`.

    Returns:
        The exit code: 0 once the script has run to its end, 2 for a command line that cannot be
        used.
    """
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0 if words else 2
    from replay.schema import RecordingError

    behind: list[str] = []  # options of ours that the script gets
    try:
        with command_line():
            command = parse(words)
            require_script(command)
            behind = misplaced_options(command.arguments, OPTIONS)
            check(command)
            module, code = load_script(command)
    except (UsageError, RecordingError) as error:
        meant = "--overwrite" in behind and "--overwrite" in str(error)
        more = f"; {explain(command, ['--overwrite'])}" if meant else ""
        print(f"error: {error}{more}", file=sys.stderr)
        return 2
    plain = without_the_word(behind, _source(module))
    if plain and os.environ.get("RANK", "0") == "0":
        say(explain(command, plain))
    try:
        run_script(command, module, code)
    except SystemExit as stop:
        if behind and not plain and stop.code not in (None, 0):
            say(explain(command, behind))
        raise
    return 0


def require_script(command: RunCommand) -> None:
    """Makes sure that the script or module is there, before anything else is looked at.

    Raises:
        UsageError: It is not.
    """
    if not command.is_module:
        if not os.path.exists(command.target):
            missing = os.strerror(errno.ENOENT)
            near = near_files(command.target)
            raise UsageError(f"cannot read the script {command.target}: {missing}{near}")
        return
    top = command.target.partition(".")[0]
    before, sys.path[0] = sys.path[0], os.getcwd()
    try:
        found = top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        found = False
    finally:
        sys.path[0] = before
    if not found:
        raise UsageError(f"-m {command.target}: no module named {top!r}")


def _source(module: types.ModuleType) -> str:
    """Returns the text of the script; empty where there is none to read."""
    try:
        with open(module.__file__ or "", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def load_script(command: RunCommand) -> tuple[types.ModuleType, types.CodeType]:
    """Loads the script, and sets sys.argv and sys.path as Python sets them.

    Returns:
        Its module `__main__`, still empty, and its code.

    Raises:
        UsageError: There is no such script or module.
    """
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    if command.is_module:
        sys.path[0] = os.getcwd()
        spec = _find_module(command.target)
        assert spec.loader is not None
        code = spec.loader.get_code(spec.name)  # type: ignore[attr-defined]
        if code is None:
            raise UsageError(f"-m {command.target}: it has no Python code")
        module.__spec__, module.__loader__ = spec, spec.loader
        module.__package__, module.__file__ = spec.parent, spec.origin
        sys.argv = [spec.origin or command.target, *command.arguments]
    else:
        path = command.target
        if os.path.isdir(path):
            raise UsageError(f"{path} is a folder; expected a script")
        try:
            with io.open_code(os.path.abspath(path)) as file:
                source = file.read()
        except OSError as error:
            raise UsageError(f"cannot read the script {path}: {error.strerror}") from error
        folder = os.path.dirname(os.path.realpath(path))
        for name in ("record", "replay"):
            own = os.path.join(folder, name)
            if folder != _ROOT and (os.path.isfile(f"{own}.py") or os.path.isdir(own)):
                raise UsageError(
                    f"{folder} has a {name!r} of its own, which mapreel's would hide from the "
                    "script: rename it, or use record.Recorder in the script"
                )
        sys.path[0] = folder
        sys.argv = [path, *command.arguments]
        whole = os.path.abspath(path)
        module.__file__ = whole
        module.__dict__["__cached__"] = None
        loader = importlib.machinery.SourceFileLoader("__main__", whole)
        module.__loader__ = loader
        try:
            code = compile(source, whole, "exec", dont_inherit=True)
        except SyntaxError:
            _hide_frames_of_mapreel()
            raise
    return module, code


def run_script(command: RunCommand, module: types.ModuleType, code: types.CodeType) -> None:
    """Runs the script and records what it trains.

    Args:
        command: The parsed command line.
        module: The script's `__main__`.
        code: The script's code.
    """
    command.options["command"] = tuple(sys.argv)
    os.environ[OPTIONS_VARIABLE] = json.dumps(command.options)
    recording = ScriptRecording(command.options, command.debug, count=RecordingCount.begin())
    record_spawned_children()
    sys.modules["__main__"] = module
    _hide_frames_of_mapreel()
    recording.start()
    try:
        exec(code, module.__dict__)
    finally:
        recording.finish_when_done()


def _find_module(name: str) -> ModuleSpec:
    """Finds the module that `python -m` would run.

    Raises:
        UsageError: There is none.
    """
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise UsageError(f"-m {name}: {error}") from error
    if spec is None or spec.loader is None:
        raise UsageError(f"-m {name}: no such module, or a package without __main__")
    return spec


def _hide_frames_of_mapreel() -> None:
    """Has a traceback of the script begin with the script, as it does without mapreel."""
    shown = sys.excepthook
    folder = str(_PACKAGE) + os.sep

    def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        while traceback is not None:
            name = traceback.tb_frame.f_code.co_filename
            if not (name.startswith((folder, "<frozen ")) or "runpy" in os.path.basename(name)):
                break
            traceback = traceback.tb_next
        shown(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = hook
