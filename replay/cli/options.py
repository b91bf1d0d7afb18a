"""What commands have in common: how one is added, and the options that several of them take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, NoReturn, cast

from replay.cli.console import say
from replay.schema import OptionError

SCALES = ("run", "epoch", "frame", "channel")
THEMES = ("light", "dark")
_TOKENS = ("auto", "square", "strip")

NUMBERS = """\
Epochs, batches and channels bear the zero-based numbers of the file:
  3          one of them           -1         the last one
  0,3,8-11   a list with spans     0:10:2     a slice, its end excluded
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where to read on."""

    def error(self, message: str) -> NoReturn:
        """Says it, and ends with exit code 2."""
        say("error", f"{message} (see {self.prog} --help)")
        self.exit(2)


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
        words: str,
        epilog: str = "",
        recordings: bool = True,
    ) -> Parser:
        """Adds one.

        Args:
            name: Its name.
            call: Runs it; called with the options, returns an exit code or None.
            words: What it does, without a capital and a full stop.
            epilog: What its help ends with.
            recordings: Whether it takes recordings.

        Returns:
            Its parser, to which its own options are added.
        """
        parser: Parser = self._parsers.add_parser(
            name,
            help=words,
            description=f"{words[0].upper()}{words[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
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
    """The one recording of a command that takes no more.

    Raises:
        OptionError: There are several.
    """
    if len(options.recordings) > 1:
        raise OptionError(
            f"{options.command}: expected one recording, found {len(options.recordings)}"
        )
    return str(options.recordings[0])


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which channels, epochs and batches are shown."""
    add = parser.add_argument
    add("--channels", metavar="LIST", help="such as 0,3,8-11, or top:16 for what varies most")
    add("--epochs", metavar="A:B:C", help="epochs (default: all)")
    add("--batches", metavar="A:B:C", help="batches of each epoch (default: all)")


def add_look(parser: argparse.ArgumentParser) -> None:
    """Adds the options that pictures have in common."""
    add = parser.add_argument
    add(
        "--scale",
        choices=SCALES,
        default="run",
        help="values that share one range: those of the run (default), of an epoch, of a frame "
        "or of a channel",
    )
    add("--clip", metavar="LO,HI", type=_clip, help="an explicit range of values")
    add("--symmetric", action="store_true", help="a range symmetric around zero")
    add("--cmap", metavar="NAME", default="gray", help="a matplotlib colormap (default: gray)")
    add(
        "--probe",
        metavar="N",
        type=int,
        help="the maps of a fixed image (default: of each batch's first image); N from 0",
    )
    add("--title", metavar="TEXT", help="a heading; the layer is named after it")
    add("--no-input", dest="input", action="store_false", help="without the input picture")
    add(
        "--slices",
        metavar="middle|all|LIST",
        default="middle",
        help="of volumes: the middle slice of each map (default), all side by side, or 3,5",
    )
    add(
        "--tokens",
        choices=_TOKENS,
        default="auto",
        help="of tokens: as a square, as strips, or as the input picture suggests (default)",
    )
    add("--theme", choices=THEMES, default="light", help="light (default) or dark")


def look(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_look` and `--channels` asked for, by the names of the functions' parameters."""
    names = "channels scale clip symmetric cmap title input theme slices tokens"
    return {name: getattr(options, name) for name in names.split()}


def probed(recordings: Sequence[Any], number: int | None) -> list[Any]:
    """The recordings, or what each has of the fixed image that `--probe` names."""
    return [each if number is None else each.probe(number) for each in recordings]


def add_crew(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say who renders."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        metavar="N",
        type=natural,
        help="processes that render a part each (default: as many as pay)",
    )
    where.add_argument(
        "--executor", metavar="dask=ADDRESS", help="a Dask scheduler whose workers render the parts"
    )


def executor(words: str | None) -> AbstractContextManager[Executor | None]:
    """What `--executor` names, open as long as the context is; None where it was not given."""
    if words is None:
        return nullcontext()

    return connect(words)


def _clip(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected LO,HI such as -1,1, found {text!r}") from None
    return low, high


def natural(text: str) -> int:
    """A whole number of 1 or more."""
    if not re.fullmatch(r"\d+", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


_SECONDS = 10  # in which a scheduler has to answer


@contextmanager
def connect(words: str) -> Iterator[Executor]:
    """The executor of a running engine; let go of, not ended, in the end.

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
        client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise OptionError(f"executor {words}: no scheduler answers at {address}") from error
    with client:
        yield cast(Executor, client.get_executor(pure=False))
