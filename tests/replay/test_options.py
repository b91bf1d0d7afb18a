"""Options are declared once: the public functions, their docstrings and the command line agree."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import replay
from replay.cli.parser import build_parser
from replay.options import CODECS as DECLARED_CODECS
from replay.options import (
    PRESETS,
    THEMES,
    ComparisonRequest,
    RenderRequest,
    declared,
)
from replay.output import HIGHEST_CRF
from replay.raster.palette import THEMES as PALETTE_THEMES
from replay.rendering.presets import PRESETS as KNOWN_PRESETS

FACES: dict[str, Callable[..., Any]] = {
    "animate": replay.animate,
    "compare": replay.compare,
    "export": replay.export,
    "grid": replay.grid,
    "health": replay.health,
    "page": replay.page,
    "repair": replay.repair,
    "sheet": replay.sheet,
    "verify": replay.verify,
}
# What a function takes otherwise than its command does.
RECORDINGS = {"a", "b", "path", "recording", "recordings"}
PYTHON_ONLY = {"progress"}
RENAMED = {"layers": "layer"}  # where a command takes one, or names it so
# Second names in Python; those of the others are `epoch`, `batch` and `layer`.
ALIASES = {
    "grid": {"epoch", "batches", "layers"},
    "sheet": {"epoch", "batches", "layers"},
    "export": {"epoch", "batch", "layers"},
}
OTHER_DEFAULTS: dict[tuple[str, str], Any] = {
    ("page", "layers"): None,  # the command then says `all`
}
MORE_OF_THE_COMMAND = {"grid": {"probe"}, "health": {"out", "theme", "overwrite"}}
COMMAND_ONLY = {"command", "call", "debug", "help", "json", "csv", "latex", "quiet", "recordings"}


def parameters(face: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of what a function takes but recordings and what only Python has."""
    found = dict(inspect.signature(face).parameters)
    aliases = ALIASES.get(face.__name__, {"epoch", "batch", "layer"})
    for name in aliases & set(found):
        assert found.pop(name).default is None
    return {
        name: each.default for name, each in found.items() if name not in RECORDINGS | PYTHON_ONLY
    }


def commands() -> dict[str, argparse.ArgumentParser]:
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the parser has no commands")


@pytest.mark.parametrize(
    ("face", "kind"), [(replay.animate, RenderRequest), (replay.compare, ComparisonRequest)]
)
def test_a_function_takes_what_is_declared_with_the_same_defaults(
    face: Callable[..., Any], kind: type[RenderRequest]
) -> None:
    options = {name: default for name, (default, _) in declared(kind).items()}
    taken = parameters(face)
    assert taken == {name: options[name] for name in taken}
    left = set(options) - set(taken)
    unused = {"show", "order", "captions", "alt", "poster", "grid_of_probes"}
    assert left == (set() if face is replay.animate else unused)


@pytest.mark.parametrize("name", FACES)
def test_a_docstring_says_what_each_parameter_is_in_their_order(name: str) -> None:
    text = inspect.getdoc(FACES[name]) or ""
    arguments = text.partition("\nArgs:\n")[2].partition("\n\n")[0]
    described = re.findall(r"^    (\w+): ", arguments, re.MULTILINE)
    assert described == list(inspect.signature(FACES[name]).parameters)


@pytest.mark.parametrize("name", FACES)
def test_a_command_takes_what_its_function_takes_with_the_same_defaults(name: str) -> None:
    parser = commands()[name]
    options = {action.dest: action for action in parser._actions if action.option_strings}
    taken = parameters(FACES[name])
    for parameter, default in taken.items():
        dest = parameter if parameter in options else RENAMED.get(parameter, parameter)
        expected = OTHER_DEFAULTS.get((name, parameter), default)
        if expected is inspect.Parameter.empty:
            assert options[dest].required, parameter
            continue
        empty = () if expected == () else None
        given = options[dest].default
        assert (empty if given is None else given) == expected, parameter
    renamed = {RENAMED.get(parameter, parameter) for parameter in taken}
    more = MORE_OF_THE_COMMAND.get(name, set())
    assert set(options) - COMMAND_ONLY == (set(taken) | renamed | more) & set(options)
    assert set(options) >= more


def test_the_choices_are_those_that_are_known() -> None:
    assert tuple(HIGHEST_CRF) == DECLARED_CODECS
    assert (tuple(PALETTE_THEMES), tuple(KNOWN_PRESETS)) == (THEMES, PRESETS)
