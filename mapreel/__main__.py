"""The command `mapreel`, which hands its words to the command line of `record` or of `replay`.

Neither is imported before it is needed: `mapreel replay` runs without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import NoReturn

try:
    from replay.schema.faces import leave, own_process, program, remember_caller, speak
    from replay.schema.format import program_version
    from replay.schema.suggestions import did_you_mean, unknown
except KeyboardInterrupt:  # Ctrl-C while Python reads all that
    sys.exit(130)

_USAGE = """\
usage: {mapreel} record COMMAND ...
       {mapreel} replay COMMAND ...
       {mapreel} help [record|replay] [COMMAND]
       {mapreel} completion SHELL
       {mapreel} --version

Records a network's feature maps while it trains, and replays them as films,
figures and pages.

examples:
  {mapreel} record train                      ten photographs, a small network
  {mapreel} record run train.py --epochs 10   a script of your own, as it is
  {mapreel} replay info run.h5
  {mapreel} replay animate run.h5             a film, run.mp4
  {mapreel} replay page run.h5                a page to explore, run.html

commands of record: {record}
commands of replay: {replay}

'{mapreel} help COMMAND' describes a command.
"""


def entry() -> NoReturn:
    """The console script."""
    remember_caller()
    if sys.argv[1:2] == ["replay"]:
        own_process()
    leave(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line of one of the packages.

    Args:
        argv: Its words; those of the process if None.

    Returns:
        The exit code: 0, 1 (failed), 2 (usage or unusable input) or 130 (Ctrl-C).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["record"], ["replay"]):
        return _main_of(words[0])(words[1:])
    return speak(lambda: _answer(words))


def _answer(words: Sequence[str]) -> int:
    """Prints what is asked of `mapreel` itself."""
    if not words or words[0] in ("-h", "--help") or words == ["help"]:
        print(_usage(), end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"mapreel {program_version()}")
        return 0
    if words[0] == "help":
        return _help(words[1:])
    if words[0] == "completion":
        return _complete(words[1:])
    return _say_unknown(words[0])


def _help(about: Sequence[str]) -> int:
    if about[0] in ("record", "replay"):
        return _main_of(about[0])(["help", *about[1:]])
    for package in ("replay", "record"):
        if about[0] in _commands(package):
            return _main_of(package)(["help", *about])
    return _say_unknown(about[0])


def _complete(words: Sequence[str]) -> int:
    """Prints what makes a shell complete the words of `mapreel`."""
    from record.__main__ import build_parser as record
    from replay.cli.parser import SHELLS, build_parser, script
    from replay.schema import RecordingError
    from replay.schema.arguments import Parser

    if len(words) != 1 or words[0] not in SHELLS:
        print(f"error: {unknown('shell', ' '.join(words), SHELLS)}", file=sys.stderr)
        return 2
    whole = Parser(prog="mapreel")
    packages = whole.add_subparsers(metavar="COMMAND")
    for name, parser in (("record", record()), ("replay", build_parser())):
        packages.add_parser(name, help=parser.description, parents=[parser], add_help=False)
    try:
        print(script(whole, "mapreel", words[0]))
    except RecordingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _say_unknown(word: str) -> int:
    """Says that a word is neither a package nor a command, and what was probably meant."""
    name = program()
    whole = {each: f"{p} {each}" for p in ("record", "replay") for each in _commands(p)}
    if word in whole:
        meant = f"; did you mean {f'{name} {whole[word]}'!r}?"
    elif word.endswith(".py"):
        meant = f"; did you mean '{name} record run {word}'?"
    elif word.endswith((".h5", ".hdf5")):
        meant = f"; did you mean '{name} replay info {word}'?"
    else:
        meant = did_you_mean(word, ["record", "replay", "help", *whole])
    print(
        f"error: unknown command {word!r}; expected record, replay or help{meant} "
        f"(see {name} --help)",
        file=sys.stderr,
    )
    return 2


def _main_of(package: str) -> Callable[[Sequence[str]], int]:
    if package == "record":
        from record.__main__ import main as record

        return record
    from replay.__main__ import main as replay

    return replay


def _commands(package: str) -> list[str]:
    """Returns the names of a package's commands."""
    if package == "record":
        from record.__main__ import build_parser as record

        return list(record().commands)
    from replay.cli.parser import build_parser as replay

    return list(replay().commands)


def _usage() -> str:
    def listed(package: str) -> str:
        lines = wrap(", ".join(_commands(package)), 58)
        return f"\n{' ' * 20}".join(lines)

    return _USAGE.format(mapreel=program(), record=listed("record"), replay=listed("replay"))


if __name__ == "__main__":
    entry()
