"""The command line of `python -m record run`, parsed before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record.options import ATTENTION_KINDS
from replay.schema.arguments import spoken
from replay.schema.faces import program
from replay.schema.suggestions import did_you_mean, near_option

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
                         convolutions, and a transformer's blocks
  --gradients [PATTERN ...]
                         record the gradients with respect to the maps, too, of
                         all recorded layers or of these
  --every N              record every Nth batch
  --schedule WORDS       every=N, epochs=A:B:C, first=N batches of each epoch,
                         dense-early
  --budget SIZE          thin the batches so that the file stays below, say, 2GB
  --max-map N            pool maps that are larger than N in a direction
  --batch-axis LAYER=N   which axis of a layer's outputs counts the images of a
                         batch, where nothing else tells; names or globs, and
                         input; may be given several times
  --probe 0|1|classes    show the network the first batch's first image, or the
                         first one of each class, at the recorded batches, in
                         evaluation mode and without a trace, for at most about
                         2 % of the time (default: 1)
  --cam [LAYER]          keep class activation (Grad-CAM) of these images, of
                         this layer or of the last one whose maps have positions
  --attention [cls|full] record what attention looks at: a row for each head, the
                         class token's or the mean over the queries (cls, the
                         default), or every query's (full)
  --include-eval         record forwards in evaluation mode too
  --ranks 0|all          of a distributed run: rank 0, or a file for each rank
                         (default: 0)
  --overwrite            replace existing recordings
  --pack                 pack a recording when it ends, losing nothing, in the
                         background
  --debug                show the traceback of an error of mapreel's own
  -h, --help             this

examples:
  python -m record run train.py --epochs 10
  python -m record run -o cifar.h5 --layers conv1 "layer1.*" -m mylab.train
  torchrun --nproc-per-node 2 -m record run --ranks all train.py
"""


def usage() -> str:
    """Returns what `--help` prints, with the program called as the user has called it."""
    return spoken(USAGE)


_WITH_VALUE = (
    "--output",
    "--every",
    "--schedule",
    "--budget",
    "--max-map",
    "--ranks",
    "--batch-axis",
    "--probe",
)
_FLAGS = ("--include-eval", "--overwrite", "--pack", "--debug")
_WITH_PATTERNS = ("--layers", "--gradients")
OPTIONS = ("-o", *_WITH_PATTERNS, "--cam", "--attention", *_WITH_VALUE, *_FLAGS)
"""Every option of `record run`, but for `-m` and `-h`."""


@dataclass(frozen=True)
class RunOptions:
    """The options of `record run`; `USAGE` says what they mean.

    Attributes:
        output: The recording's absolute path.
        layers: Names, globs or classes of the layers to record; None means the default ones.
        gradients: Likewise of those whose gradients are recorded; True means all that are recorded.
        every: Records every Nth batch.
        schedule: Which batches are recorded, in words.
        budget: The file's largest size, in words.
        max_map: The largest side of a map, in pixels, that is recorded without pooling.
        batch_axis: Which axis counts the images of a batch, by layer.
        probe: Whether the first image of the first batch is shown again: 1, or 0; or `classes`.
        cam: Whether class activation is kept, or of which layer.
        attention: Whose attention is recorded, `cls` or `full`; None for none.
        include_eval: Whether forwards in evaluation mode are recorded too.
        ranks: Which ranks of a distributed run record: `0` or `all`.
        overwrite: Whether existing recordings are replaced.
        pack: Whether they are packed when they end.
        command: The script and its arguments.
    """

    output: str = "run.h5"
    layers: tuple[str, ...] | None = None
    gradients: tuple[str, ...] | bool = False
    every: int = 1
    schedule: str | None = None
    budget: str | None = None
    max_map: int | None = None
    batch_axis: dict[str, int] | None = None
    probe: int | str = 1
    cam: bool | str = False
    attention: str | None = None
    include_eval: bool = False
    ranks: str = "0"
    overwrite: bool = False
    pack: bool = False
    command: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunOptions:
        """Returns the options with these values; lists become tuples, which JSON does not have."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**fields)


@dataclass
class RunCommand:
    """A parsed command line of `record run`.

    Attributes:
        target: The script's path, or the module's name.
        is_module: Whether the target is a module.
        arguments: The script's own arguments.
        options: Values of the fields of `RunOptions`, by name; they can be written as JSON.
        debug: Whether mapreel's own errors show their traceback.
    """

    target: str
    is_module: bool
    arguments: list[str]
    options: dict[str, Any]
    debug: bool = False


class UsageError(Exception):
    """The command line cannot be used; the message says why in one line."""


def parse(words: Sequence[str]) -> RunCommand:
    """Parses a command line: mapreel's options end where the script or `-m` begins.

    Args:
        words: The command line behind `run`.

    Raises:
        UsageError: An option is unknown, a value is missing, or there is no script.
    """
    options: dict[str, Any] = {}
    rest = list(words)
    debug = False
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = {"-o": "--output"}.get(name, name)
        if name == "-m":
            if not rest:
                raise UsageError("-m: expected package.module")
            return RunCommand(rest[0], True, rest[1:], options, debug)
        if name in _WITH_PATTERNS:
            patterns = [value] if equals else []
            while not equals and rest and not rest[0].startswith("-") and not _is_script(rest[0]):
                patterns.append(rest.pop(0))
            if not patterns and name == "--layers":
                raise UsageError("--layers: expected names, globs or classes")
            before = options.get(name[2:]) or ()
            options[name[2:]] = (() if before is True else before) + tuple(patterns) or True
        elif name == "--cam":
            has_value = not equals and rest and not rest[0].startswith("-")
            value = rest.pop(0) if has_value and not _is_script(rest[0]) else value
            options["cam"] = value or True
        elif name == "--attention":
            if not equals:
                value = rest.pop(0) if rest and rest[0] in ATTENTION_KINDS else "cls"
            options["attention"] = value
        elif name in _WITH_VALUE:
            if not equals:
                if not rest:
                    raise UsageError(f"{name}: expected a value")
                value = rest.pop(0)
            if name == "--batch-axis":
                options.setdefault("batch_axis", []).append(value)
            else:
                options[name[2:].replace("-", "_")] = value
        elif name in _FLAGS and not equals:
            debug = debug or name == "--debug"
            if name != "--debug":
                options[name[2:].replace("-", "_")] = True
        elif word.startswith("-"):
            see = f"see {program('record')} run --help"
            raise UsageError(f"unknown option {name}{near_option(name, OPTIONS)} ({see})")
        else:
            return RunCommand(word, False, rest, options, debug)
    raise UsageError(
        f"expected a script: {program('record')} run [options] script.py [its arguments]"
    )


def check(command: RunCommand) -> None:
    """Checks the options before the script starts, and converts their values in place.

    Raises:
        UsageError: A value is out of range.
        RecordingError: A value is out of range, or the file exists or cannot be written.
    """
    from record.options import parse_axes
    from record.paths import check_here, check_target
    from record.schedule.budget import parse_bytes
    from record.schedule.schedule import Schedule

    options = command.options
    for name in ("every", "max_map"):
        value = str(options.get(name, 1))
        if not value.isdigit() or int(value) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected a number from 1")
        if name in options:
            options[name] = int(value)
    if options.get("ranks", "0") not in ("0", "all"):
        meant = did_you_mean(options["ranks"], ["0", "all"])
        raise UsageError(f"--ranks {options['ranks']}: expected 0 or all{meant}")
    probe = str(options.setdefault("probe", 1))
    if probe not in ("0", "1", "classes"):
        meant = did_you_mean(probe, ["classes"])
        raise UsageError(f"--probe {probe}: expected 1 or classes, or 0 for none{meant}")
    options["probe"] = probe if probe == "classes" else int(probe)
    if probe == "0" and options.get("cam"):
        raise UsageError("--cam: expected fixed images to show: --probe 1 or --probe classes")
    if options.get("attention", "cls") not in ATTENTION_KINDS:
        meant = did_you_mean(options["attention"], ATTENTION_KINDS)
        raise UsageError(f"--attention={options['attention']}: expected cls or full{meant}")
    Schedule.parse(options.get("schedule"), options.get("every", 1))
    if "batch_axis" in options:
        options["batch_axis"] = parse_axes(options["batch_axis"])
    if "budget" in options:
        parse_bytes(options["budget"])
    check_here(options.get("output", "run.h5"))
    output = Path(os.path.abspath(options.get("output", "run.h5")))
    options["output"] = str(output)
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if options.get("ranks") == "all" and world != "1":
        output = output.with_name(f"{output.stem}.rank{rank}{output.suffix}")
    elif rank != "0":
        return
    check_target(output, options.get("overwrite", False))


def _is_script(word: str) -> bool:
    """Returns whether a word names the script, so that a list of layers ends before it."""
    return word.endswith(".py") or os.path.isfile(word)
