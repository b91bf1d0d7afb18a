"""The command line of `record`: parses, calls, and turns one error type into one message."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from record.options import ATTENTION_KINDS, parse_probe
    from record.training.settings import settings_of
    from replay.schema import OptionError, RecordingError
    from replay.schema.arguments import HelpText, Parser, ShowVersion, print_help, spoken
    from replay.schema.errors import find_shortage
    from replay.schema.faces import command_line, program, remember_caller, speak
except KeyboardInterrupt:  # Ctrl-C while Python reads all that
    sys.exit(130)

EXAMPLES = """\
examples:
  python -m record train                        ten photographs, a small network
  python -m record train --model resnet18 --layers conv1 "layer1.*" --every 10
  python -m record train --data cifar10 --download --epochs 10 -o cifar.h5
  python -m record train --data folder --data-dir images/ --model my.module:Net
  python -m record run train.py --epochs 10     a script of your own, as it is
"""

PLAN_EXAMPLES = """\
examples:
  python -m record plan --model resnet18 --epochs 90 --every 100
  python -m record plan --model my.module:Net --input 3x224x224 --batches 5000
"""

HELP_EXAMPLES = """\
examples:
  python -m record help
  python -m record help train
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        The exit code: 0, 1 (failed), 2 (usage or unusable input) or 130 (Ctrl-C).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:2] == ["--debug", "run"]:
        words[:2] = ["run", "--debug"]
    if words[:1] == ["run"]:  # whose script speaks Python
        from record.launch.script import launch

        asked = words[1:2] in ([], ["-h"], ["--help"])  # else what its script meets is its own
        return speak(lambda: launch(words[1:])) if asked else launch(words[1:])
    with command_line():
        return speak(lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    parser = build_parser()
    parser.check_options(words)
    options = parser.parse_args(words)
    try:
        return int(options.call(options))
    except RecordingError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if options.debug:
            raise
        print("interrupted: the recording is closed and holds what was recorded", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug or (shortage := find_shortage(error)) is None:
            raise
        print(f"error: {shortage}", file=sys.stderr)
        return shortage.exit_code


def entry() -> None:
    """Runs the command line as the console script `mapreel-record`, and exits."""
    remember_caller()
    sys.exit(main())


def build_parser() -> Parser:
    """Returns the parser of all commands but `run`, which parses its own options."""
    parser = Parser(
        prog=program("record"),
        description="Record the feature maps of a network while it trains.",
        epilog=spoken(EXAMPLES) + f"\n'{program('record')} help COMMAND' describes a command.\n",
        formatter_class=HelpText,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train a network and record it",
        description="Train a network and record the first image of every batch.",
        epilog=spoken(EXAMPLES),
        formatter_class=HelpText,
    )
    debug = argparse.SUPPRESS  # given before the command or behind it
    train.add_argument("--debug", action="store_true", default=debug, help=argparse.SUPPRESS)
    train.add_argument(
        "--plan", action="store_true", help="say what would be recorded and what it takes, and stop"
    )
    train.set_defaults(call=_train)
    _add_training(train)

    commands.add_parser("run", help="record a training script as it is", add_help=False)

    plan = commands.add_parser(
        "plan",
        help="say what a recording would take; nothing is trained",
        description="Say for each layer what a batch, an epoch and the whole run would\n"
        "take. Takes the options of train; nothing is trained or written.",
        epilog=spoken(PLAN_EXAMPLES),
        formatter_class=HelpText,
    )
    plan.add_argument("--debug", action="store_true", default=debug, help=argparse.SUPPRESS)
    plan.add_argument("--json", action="store_true", help="one JSON document")
    plan.add_argument(
        "--input", type=_shape, metavar="CxHxW", help="an image's shape, to plan without any data"
    )
    plan.add_argument(
        *("--batches", "--batch"), type=int, metavar="N",
        help="batches in an epoch, to plan without any data",
    )  # fmt: skip
    plan.set_defaults(call=_plan)
    _add_training(plan)

    about = commands.add_parser(
        "help",
        help="describe a command",
        description="Describe a command.",
        epilog=spoken(HELP_EXAMPLES),
        formatter_class=HelpText,
    )
    about.add_argument("about", metavar="COMMAND", nargs="*")
    about.set_defaults(call=_help, debug=False)

    completion = commands.add_parser(
        "completion",
        help="print what makes a shell complete the words of mapreel-record",
        description="Print what makes a shell complete the words of mapreel-record.",
        epilog='examples:\n  eval "$(mapreel-record completion bash)"     in ~/.bashrc\n',
        formatter_class=HelpText,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"))
    completion.set_defaults(call=_completion)
    return parser


def _help(options: argparse.Namespace) -> int:
    """Prints the help of a command, or that of them all."""
    if options.about[:1] == ["run"]:
        from record.launch.arguments import usage

        print(usage(), end="")
    else:
        print_help(build_parser(), options.about)
    return 0


def _completion(options: argparse.Namespace) -> int:
    """Prints what makes a shell complete the command line.

    Raises:
        OptionError: shtab is not installed.
    """
    try:
        shtab = importlib.import_module("shtab")
    except ImportError as error:
        raise OptionError(
            "completion: shtab is not installed; pip install 'mapreel[completion]'"
        ) from error
    parser = build_parser()
    parser.prog = "mapreel-record"
    print(shtab.complete(parser, shell=options.shell))
    return 0


def _add_training(train: argparse.ArgumentParser) -> None:
    """Adds the options of a training, which `train` and `plan` have in common."""
    output = train.add_argument_group("output")
    output.add_argument(
        "-o", "--output", type=Path, default=Path("run.h5"), metavar="FILE",
        help="the recording (default: run.h5)",
    )  # fmt: skip
    output.add_argument("--overwrite", action="store_true", help="replace an existing recording")
    output.add_argument(
        "--pack", action="store_true",
        help="pack it when the run ends, losing nothing, in the background",
    )  # fmt: skip
    output.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="keep the training's state after each epoch"
    )
    output.add_argument(
        "--resume", type=Path, metavar="RUN.H5",
        help="go on from the checkpoint, and with this recording",
    )  # fmt: skip
    output.add_argument("--quiet", action="store_true", help="no table, no progress, no summary")

    data = train.add_argument_group("data")
    data.add_argument(
        "--data", default="photos", metavar="NAME",
        help="photos (default), cifar10, mnist, fashion-mnist, folder or fake",
    )  # fmt: skip
    data.add_argument(
        "--data-dir", type=Path, default=Path("data"), metavar="DIR",
        help="where downloaded data or the image folder lies (default: data)",
    )  # fmt: skip
    data.add_argument("--download", action="store_true", help="fetch what is missing")
    data.add_argument(
        "--image-size", type=int, metavar="N",
        help="height and width (default: 128, or what the model needs)",
    )  # fmt: skip
    data.add_argument("--samples", type=int, metavar="N", help="only the first N training samples")
    data.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that load data (default: 0)"
    )

    model = train.add_argument_group("model and recording")
    model.add_argument(
        "--model", default="tiny",
        help="tiny (default), a torchvision classifier such as resnet18, or package.module:factory",
    )  # fmt: skip
    model.add_argument(
        "--layers", "--layer", nargs="+", metavar="PATTERN",
        help="names, globs (layer1.*) or classes (ReLU); default: convolutions and blocks",
    )  # fmt: skip
    model.add_argument(
        "--gradients", nargs="*", metavar="PATTERN",
        help="record the gradients with respect to the maps, too, of all recorded layers or of "
        "these",
    )  # fmt: skip
    model.add_argument(
        "--every", type=int, default=1, metavar="N", help="record every Nth batch (default: 1)"
    )

    model.add_argument(
        "--schedule", metavar="WORDS",
        help="every=N, epochs=A:B:C, first=N batches of each epoch, dense-early; joined by commas",
    )  # fmt: skip
    model.add_argument(
        "--budget", metavar="SIZE", help="thin the batches so that the file stays below, say, 2GB"
    )
    model.add_argument(
        "--max-map", type=int, metavar="N", help="pool maps that are larger than N in a direction"
    )
    model.add_argument(
        "--batch-axis", action="append", default=[], metavar="LAYER=N",
        help="which axis of a layer's outputs counts the images of a batch, where nothing else "
        "tells: names or globs, and input; may be given several times",
    )  # fmt: skip
    model.add_argument(
        "--probe", type=parse_probe, metavar="N",
        help="fixed images to show at each recorded batch (default: one, at as many of them as "
        "take at most about 2 %% of the time); classes for one of each class, likewise as often as "
        "that costs little; 0 for none",
    )  # fmt: skip
    model.add_argument(
        "--cam", nargs="?", const=True, default=False, metavar="LAYER",
        help="keep class activation (Grad-CAM) of the fixed images, of this layer or of the last "
        "one whose maps have positions",
    )  # fmt: skip
    model.add_argument(
        "--attention", nargs="?", const="cls", choices=ATTENTION_KINDS,
        help="record what attention looks at: cls (default), a row for each head, that of the "
        "class token or the mean over the queries; full, every query's",
    )  # fmt: skip

    training = train.add_argument_group("training")
    training.add_argument(
        "--epochs", "--epoch", type=int, default=5, metavar="N", help="default: 5"
    )
    training.add_argument("--batch-size", type=int, default=16, metavar="N", help="default: 16")
    training.add_argument(
        "--lr", type=float, help="largest learning rate (default: 0.01 for tiny, else 0.001)"
    )
    training.add_argument("--seed", type=int, default=0, help="default: 0")
    training.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps"
    )
    training.add_argument("--amp", action="store_true", help="automatic mixed precision")
    training.add_argument("--compile", action="store_true", help="torch.compile the model")


def _shape(text: str) -> tuple[int, int, int]:
    """Returns (C, H, W) from words such as `3x224x224`."""
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"expected CxHxW such as 3x224x224, found {text!r}")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width


def _require_torch() -> None:
    """Makes sure that torch can be imported.

    Raises:
        RecordingError: It cannot.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise RecordingError(
            f"recording needs torch ({error}); install it with pip install 'mapreel[record]'"
        ) from error


def _plan(options: argparse.Namespace) -> int:
    """Prints what a recording would take."""
    _require_torch()
    from record.training.setup import plan

    found = plan(settings_of(options))
    print(found.to_json() if getattr(options, "json", False) else found.tree())
    return 0


def _train(options: argparse.Namespace) -> int:
    """Trains a network and records it."""
    if options.plan:
        return _plan(options)
    _require_torch()
    from record.paths import check_source, check_target
    from record.recorder import Recorder
    from record.schedule.cadence import SHARE
    from record.training.checkpoint import check_replaceable
    from record.training.console import Console
    from record.training.loop import train
    from record.training.setup import prepare

    # A scheduler's SIGTERM ends the run as sys.exit does: the recording is closed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    output = options.output if options.resume is None else options.resume
    if options.resume is None:
        check_target(output, options.overwrite)
    else:
        check_source(output)
    if options.checkpoint is not None:
        check_target(options.checkpoint, overwrite=True)
        if not options.overwrite:
            check_replaceable(options.checkpoint)
    run = prepare(settings_of(options))
    with Recorder(
        run.model,
        output,
        resume=run.start if options.resume is not None else False,
        layers=run.settings.layers,
        gradients=run.settings.gradients,
        schedule=run.schedule,
        budget=run.settings.budget,
        epochs=run.settings.epochs,
        max_map=run.settings.max_map,
        batch_axis=run.settings.batch_axis,
        probe=run.probe,
        attention=run.settings.attention or False,
        labels=run.labels,
        cam=run.settings.cam,
        probe_share=SHARE if options.probe in (None, "classes") else None,
        quiet=True,
        overwrite=options.overwrite,
        pack=options.pack,
        metadata=run.metadata(),
    ) as recorder:
        console = Console(run, recorder, quiet=options.quiet)
        console.announce()
        with console:
            accuracy = train(run, recorder, None if options.quiet else console.update)
    console.summarize(accuracy)
    return 0


if __name__ == "__main__":
    entry()
