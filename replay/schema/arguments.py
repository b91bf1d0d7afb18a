"""The parser of both command lines: it says in one line what is wrong, and what was meant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from replay.schema.addresses import without_secrets
from replay.schema.faces import program
from replay.schema.format import program_version
from replay.schema.suggestions import did_you_mean, near_option, question, unknown


class Parser(argparse.ArgumentParser):
    """A parser that knows which command, option or value a word was probably meant to be."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2, once it was said what is wrong and where to read."""
        said = without_secrets(" ".join(message.split()))
        self.exit(2, f"error: {said} (see {self.prog} --help)\n")

    @property
    def commands(self) -> dict[str, Parser]:
        """The parsers of the commands, by name; empty where there are none."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    def check_options(self, words: Sequence[str]) -> None:
        """Makes sure that every option is one of the command's, before any value is read.

        Args:
            words: The command line; options of the program may stand before the command.

        Raises:
            SystemExit: One of them is not; it has been said.
        """
        named = next((word for word in words if not word.startswith("-")), "")
        parser = self.commands.get(named, self)
        known = list(parser._option_string_actions)
        for word in words:
            option = word.partition("=")[0]
            if word == "--":
                return
            if option.startswith("--") and not any(each.startswith(option) for each in known):
                parser.error(f"unknown option {option}{near_option(option, known)}")
            letter = word[1:2].isalpha() and word[:1] == "-"
            if letter and not any(word.startswith(each) for each in known if each[1] != "-"):
                meant = [each for each in known if each.startswith(f"-{word}")]
                parser.error(f"unknown option {word}{question(meant)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(each) for each in action.choices]
        if not isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(action, unknown("value", value, choices))
        self.error(f"unknown command {value!r}; {self._meant(str(value), choices)}")

    def _meant(self, word: str, commands: Sequence[str]) -> str:
        """Returns what to type in the place of a word that is no command."""
        if word.endswith((".h5", ".hdf5", ".py")):
            kind = "script" if word.endswith(".py") else "recording"
            first = "run" if kind == "script" and "run" in commands else commands[0]
            return f"a command stands before the {kind}, such as {self.prog} {first} {word}"
        meant = did_you_mean(word, commands).removeprefix("; ")
        return meant or f"expected {', '.join(commands)}"


class HelpText(argparse.RawDescriptionHelpFormatter):
    """Help that spells two names of one option as one: `--epoch(s) A:B:C`."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        names: list[str] = []
        for name in sorted(action.option_strings, key=len):
            shorter = [each for each in names if each.startswith("--") and name.startswith(each)]
            if shorter:
                names[names.index(shorter[0])] = f"{shorter[0]}({name[len(shorter[0]) :]})"
            else:
                names.append(name)
        return f"{', '.join(names)} {value}"


class Once(argparse.Action):
    """Stores a value that may be given once, under whichever of the option's names."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Stores the value."""
        given = namespace.__dict__.setdefault("given_once", {})
        if self.dest in given:
            names = " and ".join(dict.fromkeys([given[self.dest], str(option_string)]))
            parser.error(f"{names}: expected one value, found two; a list has commas, such as 0,2")
        given[self.dest] = str(option_string)
        setattr(namespace, self.dest, values)


class ShowVersion(argparse.Action):
    """Prints the program's version, which is looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, help="show mapreel's version and stop"
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Prints it, and ends the process."""
        print(f"mapreel {program_version()}")
        parser.exit()


def spoken(text: str) -> str:
    """Returns a help text whose examples call the program as the user has called it.

    Args:
        text: With `python -m replay` and `python -m record`.
    """
    for package in ("record", "replay"):
        text = text.replace(f"python -m {package}", program(package))
    return text


def print_help(parser: Parser, about: Sequence[str]) -> None:
    """Prints the help of a program or of one of its commands, as `--help` does.

    Args:
        parser: The program's parser.
        about: Nothing, or a command's name.

    Raises:
        SystemExit: There is no such command; it has been said.
    """
    if about and about[0] not in parser.commands:
        parser.error(f"unknown command {about[0]!r}; {parser._meant(about[0], [*parser.commands])}")
    (parser.commands[about[0]] if about else parser).print_help()
