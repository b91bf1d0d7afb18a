"""What commands have in common: how one is added, and options made from their declarations."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, cast

from replay.options import BATCH_FLAGS, EPOCH_FLAGS, declared
from replay.schema import OptionError
from replay.schema.arguments import HelpText, Once, Parser, spoken

_TIMEOUT = 10  # seconds in which a scheduler has to answer
PICTURE_OPTIONS = "scale clip symmetric cmap probe title input slices tokens theme"
"""What films and figures have in common."""

NUMBERS = """\
Epochs, batches and channels bear the zero-based numbers of the file:
  3          one of them           -1         the last one
  0,3,8-11   a list with spans     0:10:2     a slice, its end excluded
"""


class Commands:
    """The commands of a program, in the order in which its help lists them.

    Args:
        parser: The program's parser.
        common: A parser of the options that every command takes.
    """

    def __init__(self, parser: Parser, common: Parser) -> None:
        self._parsers = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
        self._common = common

    def add(
        self,
        name: str,
        call: Callable[..., int | None],
        summary: str,
        epilog: str = "",
        recordings: bool = True,
    ) -> Parser:
        """Adds a command.

        Args:
            name: Its name.
            call: Runs it; called with the options, returns an exit code or None.
            summary: What it does, without a capital and a full stop.
            epilog: What its help ends with.
            recordings: Whether it takes recordings.

        Returns:
            The command's parser, to which its own options are added.
        """
        parser: Parser = self._parsers.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=spoken(epilog),
            formatter_class=HelpText,
            parents=[self._common],
        )
        parser.set_defaults(call=call)
        if recordings:
            parser.add_argument(
                "recordings",
                metavar="run.h5",
                nargs="+",
                help="one recording, or several where they are compared",
            )
        return parser


def only(options: argparse.Namespace) -> str:
    """Returns the one recording of a command that takes no more.

    Raises:
        OptionError: There are several.
    """
    if len(options.recordings) > 1:
        raise OptionError(
            f"{options.command}: expected one recording, found {len(options.recordings)}"
        )
    return str(options.recordings[0])


def add_options(parser: argparse.ArgumentParser, kind: type, names: str) -> None:
    """Adds options of a film to a command, from their declarations.

    Args:
        parser: The command's parser.
        kind: Where they are declared: a class of `replay.options`.
        names: Their names in the order of the help, with spaces between them. `a|b` are two of
            which only one may be given.
    """
    options = declared(kind)
    for alternatives in names.split():
        add = parser.add_argument
        if "|" in alternatives:
            add = parser.add_mutually_exclusive_group().add_argument
        for name in alternatives.split("|"):
            default, option = options[name]
            flags: tuple[str, ...] = option.flags or (f"--{name.replace('_', '-')}",)
            if isinstance(default, bool):
                action = "store_false" if default else "store_true"
                add(*flags, dest=name, action=action, help=option.help)
            elif option.repeated:
                add(*flags, dest=name, action="append", metavar=option.metavar, help=option.help)
            else:
                add(
                    *flags,
                    dest=name,
                    action=Once if flags in (EPOCH_FLAGS, BATCH_FLAGS) else "store",
                    default=default,
                    metavar=option.metavar,
                    choices=option.choices or None,
                    type=reader(option.read or str),
                    help=option.help,
                )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Adds the option that leaves the progress bar out."""
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no next command")


def arguments(options: argparse.Namespace, names: str) -> dict[str, Any]:
    """Returns those options by their names, as the public functions take them.

    Args:
        options: What was parsed.
        names: As in `add_options`.
    """
    return {name: getattr(options, name) for name in names.replace("|", " ").split()}


def reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Returns what argparse reads a value with, whose errors it tells in their own words.

    Args:
        read: Makes the value of a text, and raises `OptionError` where that cannot be done.
    """
    if isinstance(read, type):
        return read  # of which argparse itself says what is wrong

    def parse(text: str) -> Any:
        try:
            return read(text)
        except OptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def select_probe(recordings: Sequence[Any], number: int | None) -> list[Any]:
    """Returns the recordings, or what each has of the fixed image that `--probe` names."""
    return [each if number is None else each.probe(number) for each in recordings]


def open_executor(words: str | None) -> AbstractContextManager[Executor | None]:
    """Returns a context with what `--executor` names; with None where it was not given."""
    return nullcontext() if words is None else connect(words)


@contextmanager
def connect(words: str) -> Iterator[Executor]:
    """Yields the executor of a running engine, which goes on running afterwards.

    Args:
        words: `dask=tcp://host:port`, the address of a Dask scheduler.

    Raises:
        OptionError: Another engine, one that is not installed, or none at that address.
    """
    engine, _, address = words.partition("=")
    if engine != "dask" or not address:
        raise OptionError(f"executor {words!r}: expected dask=tcp://host:port")
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise OptionError("executor dask: not installed; pip install 'mapreel[dask]'") from error
    try:
        client = distributed.Client(address, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise OptionError(f"executor {words}: no scheduler answers at {address}") from error
    with client:
        yield cast(Executor, client.get_executor(pure=False))
