"""What a word that nobody knows was probably meant to be: commands, options, values, layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_CUTOFF = 0.6  # how alike two words are, of difflib; about one letter in three may differ
_SPREAD = 0.08  # how much less alike than the nearest a word may be that is named beside it
_MOST_LAYERS = 8


def nearest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Returns those of the known words that are spelled most like a word, the nearest first.

    Args:
        word: What was given.
        known: What there is.
        most: Number of words at most.
    """
    from difflib import SequenceMatcher  # which a program that knows all words does not need

    given = word.lower()
    alike = {each: SequenceMatcher(None, given, each.lower()).ratio() for each in known}
    best = max(alike.values(), default=0.0)
    if best < _CUTOFF:
        return [each for each in alike if len(given) > 1 and each.lower().startswith(given)][:most]
    found = [each for each in alike if alike[each] >= max(_CUTOFF, best - _SPREAD)]
    return sorted(found, key=alike.__getitem__, reverse=True)[:most]


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
    listed = known[0] if len(known) == 1 else f"{', '.join(known[:-1])} or {known[-1]}"
    return f"unknown {what} {value!r}; expected {listed}{did_you_mean(str(value), known)}"


def near_layers(name: str, layers: Sequence[str]) -> str:
    """Returns the end of a message on a layer that is not there: those that may be meant.

    Layers that have the name among their parts (`layer1.0.conv1` has `conv1`) come before those
    that are spelled like it; a recording with neither lists what it has.

    Args:
        name: What was given, perhaps a glob.
        layers: The names of all layers.
    """
    word = name.strip("*.").lower()
    whole = [each for each in layers if word and word in each.lower().split(".")]
    part = [each for each in layers if word and word in each.lower()]
    if found := whole or part:
        return f"; did you mean {_listed(found)}?"
    last = {each.rpartition(".")[2]: each for each in reversed(layers)}
    close = dict.fromkeys([*nearest(word, layers), *(last[n] for n in nearest(word, last))])
    return question(list(close)) or f"; there: {_listed(layers) or 'none'}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LAYERS
    return ", ".join(names[:_MOST_LAYERS]) + (f" and {more} more" if more > 0 else "")
