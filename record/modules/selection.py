"""Which modules to record: names, globs and class names to a list of modules."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

from torch import nn

from record.modules.defaults import default_layers
from record.modules.names import class_name, is_called, is_leaf, named_modules, unwrap
from record.reporting import listed
from replay.schema import OptionError
from replay.schema.faces import spell
from replay.schema.suggestions import near_layers

Patterns = str | Iterable[str] | None


def find_layers(model: nn.Module, patterns: Patterns = None) -> dict[str, nn.Module]:
    """Finds the modules to record, by name, in the order of `model.named_modules()`.

    Args:
        model: The network, already unwrapped.
        patterns: Names (`layer1.0.conv1`), globs (`layer1.*`, `conv*`) and class names (`ReLU`);
            None means the default, see `default_layers`. An exact name may be any module; a glob
            stands for the modules without children that it matches, or for the others where there
            are none. A list of modules is never called: what is in it is meant.

    Raises:
        OptionError: A pattern matches nothing, with the closest names; or nothing that is called.
    """
    if patterns is None:
        return default_layers(model)
    named = named_modules(model)
    chosen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matching = _match(named, pattern)
        if not matching:
            raise OptionError(f"no layer matches {pattern!r}{_suggest(named, pattern)}")
        called = _called(named, matching)
        if not called:
            raise OptionError(
                f"{pattern!r} matches only what is never called ({listed(sorted(matching))}), so "
                f"that there is nothing to record{_suggest(named, pattern)}"
            )
        chosen |= called
    return {name: module for name, module in named.items() if name in chosen}


def choose_among(
    layers: Mapping[str, nn.Module], model: nn.Module, patterns: Patterns | bool, option: str
) -> set[str]:
    """Chooses some of the modules that are recorded, by name.

    Args:
        layers: What is recorded, by name.
        model: The network, already unwrapped.
        patterns: As for `find_layers`; True means all, and False or None none.
        option: What asks for it, to be named in the message.

    Raises:
        OptionError: A pattern matches nothing, or nothing that is recorded.
    """
    if patterns is None or isinstance(patterns, bool):
        return set(layers) if patterns else set()
    found = find_layers(model, patterns)
    chosen = found.keys() & layers.keys()
    if not chosen:
        named = listed(list(found)) or "no layer"
        raise OptionError(
            f"{spell(option)}: expected layers that are recorded, found {named}; name them in "
            f"{spell('layers')}, too"
        )
    return chosen


def describe_module(module: nn.Module) -> str:
    """Returns a module in one line: `Conv2d(3, 12, kernel_size=(3, 3), stride=(1, 1))`."""
    kind, name = type(module).__name__, class_name(module)
    text = repr(module).replace(kind, name, 1) if is_leaf(module) else name
    return " ".join(text.split())[:200]


def _match(named: dict[str, nn.Module], pattern: str) -> set[str]:
    """Returns the names of the modules that a name, a class's name or a glob stands for."""
    if pattern in named:
        return {pattern}
    of_class = {
        name
        for name, module in named.items()
        if any(c.__name__ == pattern for c in type(module).__mro__ if c not in (nn.Module, object))
    }
    if of_class:
        return of_class
    matching = {name for name in named if fnmatch.fnmatchcase(name, pattern)}
    return {name for name in matching if is_leaf(named[name])} or matching


def _called(named: dict[str, nn.Module], names: set[str]) -> set[str]:
    """Returns modules by their names, with what is in lists in the place of the lists."""
    called: set[str] = set()
    for name in names:
        if is_called(named[name]):
            called.add(name)
        else:
            inside = {id(child) for child in map(unwrap, named[name].children())}
            called |= _called(named, {n for n, module in named.items() if id(module) in inside})
    return called


def _suggest(named: dict[str, nn.Module], pattern: str) -> str:
    """Names what is spelled most like a pattern that matches nothing."""
    classes = sorted({type(module).__name__ for module in named.values()})
    names = list(named)[1:]
    return near_layers(pattern, [*names, *classes]) or f"; there: {listed(names)}"
