"""Records a training script that nobody changed: `python -m record run script.py`.

The script runs as Python itself would run it: a fresh `__main__`, its own arguments, its folder
first on the path, its output, its exit code, its Ctrl-C. torch is watched from the moment at
which the script imports it, not before: what a script sets up ahead of that import still counts.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import json
import os
import sys
import tempfile
import threading
import time
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from record.launch.arguments import USAGE, Launch, UsageError, check, parse
from record.launch.closing_lines import Tally
from record.launch.import_hooks import AfterImport
from record.reporting import say

_ENVIRONMENT = "MAPREEL_RUN"


def launch(words: Sequence[str]) -> int:
    """Runs `record run`; what the script raises, SystemExit included, passes through.

    Args:
        words: The command line behind `run`.

    Returns:
        The exit code: 0 once the script has run to its end, 2 for a command line of no use.
    """
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if words else 2
    from replay.schema import RecordingError

    try:
        asked = parse(words)
        check(asked)
        module, code = load(asked)
    except (UsageError, RecordingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    run(asked, module, code)
    return 0


def load(asked: Launch) -> tuple[types.ModuleType, types.CodeType]:
    """The script's `__main__` and its code, sys.argv and sys.path set as Python sets them.

    Raises:
        UsageError: There is no such script or module.
    """
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    if asked.is_module:
        sys.path[0] = os.getcwd()
        spec = _find_module(asked.target)
        assert spec.loader is not None
        code = spec.loader.get_code(spec.name)  # type: ignore[attr-defined]
        if code is None:
            raise UsageError(f"-m {asked.target}: it has no Python code")
        module.__spec__, module.__loader__ = spec, spec.loader
        module.__package__, module.__file__ = spec.parent, spec.origin
        sys.argv = [spec.origin or asked.target, *asked.arguments]
    else:
        path = asked.target
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
            if folder != _HOME and (os.path.isfile(f"{own}.py") or os.path.isdir(own)):
                raise UsageError(
                    f"{folder} has a {name!r} of its own, which mapreel's would hide from the "
                    "script: rename it, or use record.Recorder in the script"
                )
        sys.path[0] = folder
        sys.argv = [path, *asked.arguments]
        whole = os.path.abspath(path)
        module.__file__ = whole
        module.__dict__["__cached__"] = None
        loader = importlib.machinery.SourceFileLoader("__main__", whole)
        module.__loader__ = loader
        try:
            code = compile(source, whole, "exec", dont_inherit=True)
        except SyntaxError:
            _hide_our_frames()
            raise
    return module, code


def run(asked: Launch, module: types.ModuleType, code: types.CodeType) -> None:
    """Runs the script and records what it trains."""
    asked.options["command"] = tuple(sys.argv)
    os.environ[_ENVIRONMENT] = json.dumps(asked.options)
    tally = Tally(os.path.join(tempfile.gettempdir(), f"mapreel-{os.getpid()}-{time.time_ns()}"))
    recording = _Recording(asked.options, asked.debug, tally=tally)
    _follow_spawned_children()
    sys.modules["__main__"] = module
    _hide_our_frames()
    recording.start()
    try:
        exec(code, module.__dict__)
    finally:
        recording.finish_when_done()


class _Recording:
    """The watcher, from the script's import of torch to its end."""

    def __init__(
        self,
        options: dict[str, Any],
        debug: bool = False,
        spawned: bool = False,
        tally: Tally | None = None,
    ) -> None:
        self._options = options
        self._debug = debug
        self._spawned = spawned
        self._tally = tally
        self._watcher: Any = None
        self._process = os.getpid()
        self._finished = False

    def start(self) -> None:
        """Waits for torch."""
        if "torch" in sys.modules:
            self._watch()
        else:
            sys.meta_path.insert(0, AfterImport("torch", self._watch))

    def _watch(self) -> None:
        try:
            from record.launch.model_run import WatchOptions
            from record.launch.watcher import Watcher

            options = {**self._options}
            for name in ("layers", "command"):
                if options.get(name) is not None:
                    options[name] = tuple(options[name])
            watcher = Watcher(WatchOptions(**options), self._spawned)
            watcher.install()
            self._watcher = watcher
        except Exception as error:
            if self._debug:
                raise
            say(f"cannot watch this torch: {type(error).__name__}: {error}; the script goes on")

    def finish_when_done(self) -> None:
        """Ends the recordings now, or with the interpreter where other threads go on training."""
        others = [
            thread
            for thread in threading.enumerate()
            if thread is not threading.current_thread() and not thread.daemon
        ]
        if others:
            import atexit

            atexit.register(self.finish)
        else:
            self.finish()

    def finish(self) -> None:
        """Ends the recordings and says what was recorded."""
        if self._finished or os.getpid() != self._process:
            return
        self._finished = True
        if self._watcher is not None:
            self._watcher.close()
            self._watcher.report()
        elif "torch" not in sys.modules and not (self._spawned or Tally().total()):
            say("nothing was recorded: the script did not import torch")
        if self._tally is not None:
            self._tally.remove()


# Children that the script starts with multiprocessing's spawn


def _follow_spawned_children() -> None:
    """Gives children a first thing to do: to watch torch as this process does."""
    from multiprocessing import spawn

    original = spawn.get_preparation_data

    def with_stowaway(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        data["mapreel"] = _Stowaway()
        return data

    spawn.get_preparation_data = with_stowaway


class _Stowaway:
    """Unpickled in the child, it calls `board`; a child without mapreel goes on without."""

    def __reduce__(self) -> Any:
        root = str(Path(__file__).resolve().parents[2])
        code = (
            "try:\n"
            "    import sys\n"
            f"    sys.path.append({root!r})\n"
            "    try:\n"
            "        from record.launch.script import board\n"
            "    finally:\n"
            f"        sys.path.remove({root!r})\n"
            "    board()\n"
            "except Exception:\n"
            "    pass\n"
        )
        return exec, (code,)


def board() -> None:
    """In a child that the script has spawned: records what it trains."""
    text = os.environ.get(_ENVIRONMENT)
    if text is None:
        return
    from multiprocessing import util

    recording = _Recording(json.loads(text), spawned=True)
    _follow_spawned_children()
    recording.start()
    # Such a child leaves by os._exit, past atexit.
    util.Finalize(None, recording.finish, exitpriority=100)


# Odds and ends

_HOME = str(Path(__file__).resolve().parents[2])


def _find_module(name: str) -> ModuleSpec:
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise UsageError(f"-m {name}: {error}") from error
    if spec is None or spec.loader is None:
        raise UsageError(f"-m {name}: no such module, or a package without __main__")
    return spec


def _hide_our_frames() -> None:
    """A traceback of the script begins with the script, as it does without us."""
    shown = sys.excepthook
    folder = str(Path(__file__).resolve().parents[1]) + os.sep

    def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        while traceback is not None:
            name = traceback.tb_frame.f_code.co_filename
            if not (name.startswith((folder, "<frozen ")) or "runpy" in os.path.basename(name)):
                break
            traceback = traceback.tb_next
        shown(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = hook
