"""Records a training script that nobody changed: `python -m record run script.py`.

The script runs as Python itself would run it: a fresh `__main__`, its own arguments, its folder
first on the path, its output, its exit code, its Ctrl-C. torch is watched from the moment at
which the script imports it, not before: what a script sets up ahead of that import still counts.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import sys
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

USAGE = """\
usage: python -m record run [options] script.py [its arguments]
       python -m record run [options] -m package.module [its arguments]

Record a training script as it is: models, epochs, batches, first images and
losses are found by watching torch. The script keeps its arguments, its output,
its exit code and its Ctrl-C.

options:
  -o, --output FILE      the recording (default: run.h5); a second model's goes
                         beside it
  --layers PATTERN ...   names, globs (layer1.*) or classes (ReLU); default:
                         every Conv2d, or what comes closest to it
  --every N              record every Nth batch
  --schedule WORDS       every=N, epochs=A:B:C, first=N batches of each epoch,
                         dense-early
  --budget SIZE          thin the batches so that the file stays below, say, 2GB
  --max-map N            pool maps that are larger than N in a direction
  --include-eval         record forwards in evaluation mode too
  --ranks 0|all          of a distributed run: rank 0, or a file for each rank
                         (default: 0)
  --overwrite            replace existing recordings
  --debug                show the traceback of an error of mapreel's own
  -h, --help             this

examples:
  python -m record run train.py --epochs 10
  python -m record run -o cifar.h5 --layers conv1 "layer1.*" -m mylab.train
  torchrun --nproc-per-node 2 -m record run --ranks all train.py
"""

_VALUES = ("--output", "--every", "--schedule", "--budget", "--max-map", "--ranks")
_FLAGS = ("--include-eval", "--overwrite", "--debug")
_ENVIRONMENT = "MAPREEL_RUN"


@dataclass
class Launch:
    """What `record run` was asked for.

    Attributes:
        target: The script's path, or the module's name.
        is_module: Whether it is a module.
        arguments: The script's own.
        options: As the fields of `watched.WatchOptions`.
        debug: Whether mapreel's own errors show their traceback.
    """

    target: str
    is_module: bool
    arguments: list[str]
    options: dict[str, Any]
    debug: bool = False


class UsageError(Exception):
    """The command line cannot be used; the message says why in one line."""


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


def parse(words: Sequence[str]) -> Launch:
    """Takes the command line apart: our options end where the script or `-m` begins.

    Raises:
        UsageError: An unknown option, a missing value, no script.
    """
    options: dict[str, Any] = {}
    layers: list[str] = []
    rest = list(words)
    debug = False
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = {"-o": "--output"}.get(name, name)
        if name == "-m":
            if not rest:
                raise UsageError("-m: expected package.module")
            return _launch(rest[0], True, rest[1:], options, layers, debug)
        if name == "--layers":
            patterns = [value] if equals else []
            while not equals and rest and not rest[0].startswith("-") and not _is_script(rest[0]):
                patterns.append(rest.pop(0))
            if not patterns:
                raise UsageError("--layers: expected names, globs or classes")
            layers += patterns
        elif name in _VALUES:
            if not equals:
                if not rest:
                    raise UsageError(f"{name}: expected a value")
                value = rest.pop(0)
            options[name[2:].replace("-", "_")] = value
        elif name in _FLAGS and not equals:
            debug = debug or name == "--debug"
            if name != "--debug":
                options[name[2:].replace("-", "_")] = True
        elif word.startswith("-"):
            raise UsageError(f"unknown option {word}; see python -m record run --help")
        else:
            return _launch(word, False, rest, options, layers, debug)
    raise UsageError("expected a script: python -m record run [options] script.py [its arguments]")


def check(asked: Launch) -> None:
    """Refuses, before the script starts, what cannot be recorded into.

    Raises:
        RecordingError: A value of no use, or a target that exists or cannot be written.
    """
    from record.schedule import Schedule, parse_bytes
    from record.target import check_target

    options = asked.options
    for name in ("every", "max_map"):
        value = str(options.get(name, 1))
        if not value.isdigit() or int(value) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected a number from 1")
        if name in options:
            options[name] = int(value)
    if options.get("ranks", "0") not in ("0", "all"):
        raise UsageError(f"--ranks {options['ranks']}: expected 0 or all")
    Schedule.parse(options.get("schedule"), options.get("every", 1))
    if "budget" in options:
        parse_bytes(options["budget"])
    output = Path(os.path.abspath(options.get("output", "run.h5")))
    options["output"] = str(output)
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if options.get("ranks") == "all" and world != "1":
        output = output.with_name(f"{output.stem}.rank{rank}{output.suffix}")
    elif rank != "0":
        return
    check_target(output, options.get("overwrite", False))


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
    recording = _Recording(asked.options, asked.debug)
    os.environ[_ENVIRONMENT] = json.dumps(asked.options)
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

    def __init__(self, options: dict[str, Any], debug: bool = False, spawned: bool = False) -> None:
        self._options = options
        self._debug = debug
        self._spawned = spawned
        self._watcher: Any = None
        self._process = os.getpid()
        self._finished = False

    def start(self) -> None:
        """Waits for torch."""
        if "torch" in sys.modules:
            self._watch()
        else:
            sys.meta_path.insert(0, _AfterImport("torch", self._watch))
        if "torchvision" not in sys.modules:
            sys.meta_path.insert(0, _BesideAnotherTorch())

    def _watch(self) -> None:
        try:
            from record.watched import WatchOptions
            from record.watcher import Watcher

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
        elif "torch" not in sys.modules and not self._spawned:
            say("nothing was recorded: the script did not import torch")


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function once a module has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != self._name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._execute)
        return spec

    def _execute(self, module: types.ModuleType, original: Any) -> None:
        original.exec_module(module)
        self._then()


class _BesideAnotherTorch(_AfterImport):
    """Lets a script import a torchvision that was built for another build of torch."""

    def __init__(self) -> None:
        super().__init__("torchvision", lambda: None)

    def _execute(self, module: types.ModuleType, original: Any) -> None:
        for _ in range(4):
            try:
                original.exec_module(module)
                return
            except RuntimeError as error:
                from record.vision import declare_missing

                if not declare_missing(error):
                    raise
                for name in [n for n in sys.modules if n.startswith("torchvision.")]:
                    del sys.modules[name]
        original.exec_module(module)


class _Loader(importlib.abc.Loader):
    """A loader that does something more than the one that it stands for."""

    def __init__(self, original: Any, execute: Callable[[types.ModuleType, Any], None]) -> None:
        self._original = original
        self._execute = execute

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        created: types.ModuleType | None = self._original.create_module(spec)
        return created

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = self._original
        if module.__spec__ is not None:
            module.__spec__.loader = self._original
        self._execute(module, self._original)


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
        root = str(Path(__file__).resolve().parent.parent)
        code = (
            "try:\n"
            "    import sys\n"
            f"    sys.path.append({root!r})\n"
            "    try:\n"
            "        from record.launch import board\n"
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

_HOME = str(Path(__file__).resolve().parent.parent)


def _launch(
    target: str,
    is_module: bool,
    arguments: Sequence[str],
    options: dict[str, Any],
    layers: Sequence[str],
    debug: bool,
) -> Launch:
    if layers:
        options["layers"] = tuple(layers)
    return Launch(target, is_module, list(arguments), options, debug)


def _is_script(word: str) -> bool:
    return word.endswith(".py") or os.path.isfile(word)


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
    folder = str(Path(__file__).resolve().parent) + os.sep

    def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        while traceback is not None:
            name = traceback.tb_frame.f_code.co_filename
            if not (name.startswith((folder, "<frozen ")) or "runpy" in os.path.basename(name)):
                break
            traceback = traceback.tb_next
        shown(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = hook


def say(text: str) -> None:
    """One line on stderr, marked as ours."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed by the script
        sys.stderr.write(f"mapreel: {text}\n")  # in one: several processes may speak at once
        sys.stderr.flush()
