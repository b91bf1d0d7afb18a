"""Options of `record run` that stand behind the script, and so go to the script.

A script may have an option of the same name, so they are never taken from it. They are explained
where it is plain that they were meant for mapreel: at once if the script's text does not have the
word, and else where the script ends with an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from record.launch.arguments import RunCommand
from replay.schema.faces import command
from replay.schema.suggestions import listed


def misplaced_options(arguments: Sequence[str], known: Sequence[str]) -> list[str]:
    """Returns those of a script's arguments that `record run` knows, each once.

    Args:
        arguments: The script's arguments; behind `--` none is an option.
        known: The options of `record run`, such as `--overwrite`.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    names = (word.partition("=")[0] for word in arguments[:end])
    return list(dict.fromkeys(name for name in names if name in known))


def without_the_word(options: Sequence[str], source: str) -> list[str]:
    """Returns those of the options whose name a script's text does not have.

    Args:
        options: From `misplaced_options`.
        source: The script's text.
    """
    words = {word.strip("_") for word in re.findall(r"\w+", source.replace("-", "_"))}
    return [each for each in options if each.strip("-").replace("-", "_") not in words]


def explain(run: RunCommand, options: Sequence[str]) -> str:
    """Returns a line that says where the options went, and where they belong.

    Args:
        run: The command line.
        options: Those that stand behind the script; at least one.
    """
    it, stand = ("it", "stands") if len(options) == 1 else ("them", "stand")
    script = ("-m", run.target) if run.is_module else (run.target,)
    usage = command("record", "run", *options, *script)
    goes = "goes" if len(options) == 1 else "go"
    return (
        f"{listed(options)} {stand} behind {run.target} and {goes} to it; for mapreel's own, put "
        f"{it} before: {usage} ..."
    )
