"""What a word that nobody knows was probably meant to be: commands, options, values, layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

_CUTOFF = 0.6  # how alike two words are, of difflib; about one letter in three may differ
_SPREAD = 0.08  # how much less alike than the nearest a word may be that is named beside it


def nearest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Returns those of the known words that are spelled most like a word, the nearest first.

    Args:
        word: What was given.
        known: What there is.
        most: Number of words at most.
    """
    given = word.lower()
    alike = {each: _likeness(given, each.lower()) for each in known}
    best = max(alike.values(), default=0.0)
    if best < _CUTOFF:
        return [each for each in alike if len(given) > 1 and each.lower().startswith(given)][:most]
    found = [each for each in alike if alike[each] >= max(_CUTOFF, best - _SPREAD)]
    return sorted(found, key=alike.__getitem__, reverse=True)[:most]


def _likeness(one: str, other: str) -> float:
    """Returns how alike two words are, 0 to 1; letters that changed places count little."""
    from difflib import SequenceMatcher  # which a program that knows all words does not need

    if sorted(one) == sorted(other):
        return 1.0 if one == other else 0.95
    return SequenceMatcher(None, one, other).ratio()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns the end of a message: `; did you mean 'animate'?`, or nothing.

    Args:
        word: What was given.
        known: What there is.
    """
    return question(nearest(word, known))


def question(found: Sequence[str]) -> str:
    """Returns the end of a message that asks whether one of some words was meant, if any."""
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def unknown(what: str, value: object, known: Sequence[str]) -> str:
    """Returns a message: what is unknown, what was expected, and what was probably meant.

    Args:
        what: What it is the name of: `scale`.
        value: What was given.
        known: The words that there are.
    """
    meant = did_you_mean(str(value), known)
    return f"unknown {what} {value!r}; expected one of {', '.join(known)}{meant}"


def near_option(option: str, known: Iterable[str]) -> str:
    """Returns the end of a message on an unknown option, whose dashes are not compared."""
    names = {each.lstrip("-"): each for each in known if each.startswith("--")}
    return question([names[name] for name in nearest(option.lstrip("-"), names)])


def near_layers(name: str, layers: Sequence[str]) -> str:
    """Returns the end of a message on a layer that is not there: those that may be meant.

    Layers that have the name among their parts (`layer1.0.conv1` has `conv1`) come before those
    that are spelled like it.

    Args:
        name: What was given, perhaps a glob; what is no text is like nothing.
        layers: The names of all layers, and of what else may stand for layers.
    """
    if not isinstance(name, str):
        return "; expected a name"
    word = name.strip("*.").lower()
    whole = [each for each in layers if word and word in each.lower().split(".")]
    if found := whole or [each for each in layers if word and word in each.lower()]:
        return f"; did you mean {listed(found)}?"
    last = {each.rpartition(".")[2]: each for each in reversed(layers)}
    close = [*nearest(word, layers), *(last[each] for each in nearest(word, last))]
    return f"; did you mean {listed(list(dict.fromkeys(close)))}?" if close else ""


def near_files(path: str | os.PathLike[str]) -> str:
    """Returns the end of a message on a file that is not there: its like in the same folder."""
    folder, name = os.path.split(os.fspath(path))
    try:
        if os.path.islink(path):
            return f"; it is a link to {os.readlink(path)}"
        there = [each for each in os.listdir(folder or ".") if not each.startswith(".")]
    except OSError:
        return ""
    stem, suffix = os.path.splitext(name)
    stems = {os.path.splitext(each)[0]: each for each in there if each.endswith(suffix)}
    found = [os.path.join(folder, stems[each]) for each in nearest(stem, stems)]
    return question([each for each in found if os.path.exists(each)])


def listed(names: Sequence[str], most: int = 8) -> str:
    """Returns the first of some names with commas, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
