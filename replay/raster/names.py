"""Shortens names that stand beside each other, so that those that differ still look different.

`resnet.encoder.stages.2.layers.0.layer.1.convolution` among its like becomes
`…stages.2.layers.0.layer.1…`: what all have in common goes, what tells one from another stays.

The names are a tree of their parts. A part behind a fork tells two names apart, all others may be
left out; a part that several names share is shown in all of them or in none, so that two texts
are equal up to where their names part, and differ there. Parts are what stands between dots; where
that is too long, words and numbers; at last, letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from replay.formatting import ELLIPSIS
from replay.raster.text import fit, width_of

Measure = Callable[[str], float]

# Each splits a name into parts of which it is the concatenation, coarse ones first.
_LETTERS = re.compile(r".", re.S)
_WAYS = (
    re.compile(r"[^.]*\.|[^.]+"),
    re.compile(r"[A-Z]+(?![a-z])[^0-9A-Za-z]*|[A-Z]?[a-z]+[^0-9A-Za-z]*|\d+[^0-9A-Za-z]*|.", re.S),
    _LETTERS,
)
# Where a part stands that is no fork's: the order in which such parts come back.
_INSIDE, _AFTER, _BEFORE = 0, 1, 2
_AT_ENDS = ".,_-/#: "  # what says nothing at the beginning or the end of what is left of a name


def tell_apart(names: Sequence[str], width: float, measure: Measure = len) -> list[str]:
    """Returns names as texts that fit a width, distinct where the names are.

    A name that fits stays as it is. What the others have in common is left out from the left, then
    from the right, and only then between what tells them apart, as little as the width demands;
    an ellipsis stands where something is missing.

    Args:
        names: All names that are shown together.
        width: What each text may take, in the units of `measure`.
        measure: Returns what a text takes; its number of characters by default.

    Returns:
        A text for each name. Names that cannot be told apart in so little space are numbered.
    """
    unique = list(dict.fromkeys(names))
    if all(measure(name) <= width for name in unique):
        return list(names)
    for way in _WAYS:
        texts = _Tree(unique, way).texts(width, measure)
        different = len({*texts, ELLIPSIS}) == len(unique) + 1
        if different and all(measure(text) <= width for text in texts):
            break
    else:
        texts = [_numbered(place, name, width, measure) for place, name in enumerate(unique)]
    found = dict(zip(unique, texts, strict=True))
    return [found[name] for name in names]


def tell_apart_at(
    names: Sequence[str], size: int, width: int, bold: bool = False, before: str = ""
) -> list[str]:
    """Returns names as texts that fit a width in pixels of a film; see `tell_apart`.

    Args:
        names: All names that are shown together.
        size: Size of the font in pixels.
        width: Pixels that there are.
        bold: Whether the bold face is used.
        before: What is written before each of them, and is in the texts.
    """
    measure = partial(width_of, size=size, bold=bold)
    left = width - (width_of(before, size, bold) if before else 0)
    return [before + text for text in tell_apart(names, left, measure)]


def in_lines(text: str, width: float, measure: Measure, most: int = 2) -> list[str]:
    """Returns a heading in lines of at most a width, broken behind a space, dot, slash or dash.

    Of words that are too long for all of the lines the end is left out, of a name the beginning,
    where it says least.

    Args:
        text: A name, or a few words.
        width: What a line may take, in the units of `measure`.
        measure: Returns what a text takes.
        most: Number of lines.
    """
    lines = _broken(text, width, measure)
    if len(lines) <= most:
        return lines

    def shorter(left_out: int) -> str:
        if " " in text:
            return text[:-left_out].rstrip(_AT_ENDS) + ELLIPSIS
        return ELLIPSIS + text[left_out:].lstrip(_AT_ENDS)

    low, high = 0, len(text)  # leaving out so many: too few, and enough
    while high - low > 1:
        middle = (low + high) // 2
        enough = len(_broken(shorter(middle), width, measure)) <= most
        low, high = (low, middle) if enough else (middle, high)
    return _broken(shorter(high), width, measure)[:most]


def lines_at(text: str, size: int, width: int, bold: bool = False, most: int = 2) -> list[str]:
    """Returns a heading in lines of at most so many pixels of a film; see `in_lines`."""
    lines = in_lines(text, width, partial(width_of, size=size, bold=bold), most)
    return [fit(line, size, width, bold) for line in lines]


def _broken(text: str, width: float, measure: Measure) -> list[str]:
    """Returns a text in as many lines as it needs; a part that is wider than a line is cut."""
    lines: list[str] = []
    for part in re.findall(r"[^ ./_\-]*[ ./_\-]+|[^ ./_\-]+", text):
        if lines and measure((lines[-1] + part).rstrip()) <= width:
            lines[-1] += part
            continue
        lines.append("")
        for letter in part:
            if lines[-1] and measure((lines[-1] + letter).rstrip()) > width:
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines if line.strip()]


def _numbered(place: int, name: str, width: float, measure: Measure) -> str:
    """Returns the number of a name, and as much of its end as fits."""
    text = f"{place + 1}"
    for kept in range(len(name), 0, -1):
        longer = f"{text} {ELLIPSIS}{name[-kept:]}"
        if measure(longer) <= width:
            return longer
    return text


@dataclass(eq=False)
class _Node:
    """A part of names: the one behind those of its ancestors; empty at the end of a name.

    Attributes:
        part: What it reads.
        names: The places of the names that go through it.
        after: The parts that follow in one name or another.
        shown: Whether it is written.
        order: When it is written again where there is space; the greater, the later.
    """

    part: str
    names: list[int] = field(default_factory=list)
    after: dict[str, _Node] = field(default_factory=dict)
    shown: bool = False
    order: tuple[int, int] = (0, 0)


class _Tree:
    """Names as a tree of parts.

    Args:
        names: Distinct names.
        way: Splits a name into its parts.
    """

    def __init__(self, names: Sequence[str], way: re.Pattern[str]) -> None:
        self._names = names
        root = _Node("", list(range(len(names))))
        self._paths: list[list[_Node]] = []
        for place, name in enumerate(names):
            node, path = root, []
            for part in [*way.findall(name), ""]:
                node = node.after.setdefault(part, _Node(part))
                node.names.append(place)
                path.append(node)
            self._paths.append(path)
        self._whole = [False] * len(names)
        self._thin = way is not _LETTERS
        self._needed: list[_Node] = []
        self._optional: list[_Node] = []
        self._mark(root)

    def texts(self, width: float, measure: Measure) -> list[str]:
        """Returns a text for each name, with as many of the parts as fit.

        Args:
            width: What each may take.
            measure: Returns what a text takes.
        """
        self._whole = [measure(name) <= width for name in self._names]
        if self._thin:
            for node in sorted(self._needed, key=lambda node: -len(node.names)):
                self._try_without(node)
        alike: dict[tuple[int, int, str], list[_Node]] = {}
        for node in self._optional:
            alike.setdefault((*node.order, node.part), []).append(node)
        for key in sorted(alike):  # the same part comes back in all names, so that they look alike
            self._try_with(alike[key], width, measure)
        for node in sorted(self._optional, key=lambda node: node.order):
            if not node.shown and node.order[0] == _INSIDE:
                self._try_with([node], width, measure)
        return [self._text(place, whole) for place, whole in enumerate(self._whole)]

    def _mark(self, root: _Node) -> None:
        """Shows what stands behind a fork, and puts all else in the order of its return."""
        waiting = [(root, 0, False)]
        while waiting:
            node, depth, forked = waiting.pop()
            fork = len(node.after) > 1
            for child in node.after.values():
                child.shown = fork
                shared = len(child.names) > 1
                rank = _INSIDE if forked or fork else _BEFORE
                child.order = (_AFTER, depth) if forked and not shared else (rank, -depth)
                if child.part:
                    (self._needed if fork else self._optional).append(child)
                waiting.append((child, depth + 1, forked or fork))

    def _try_without(self, node: _Node) -> None:
        """Leaves out a part if what is left of its names still is that of no other name."""
        node.shown = False
        for place in node.names:
            pieces = self._text(place, self._whole[place]).split(ELLIPSIS)
            pattern = re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)
            if sum(bool(pattern.fullmatch(name)) for name in self._names) > 1:
                node.shown = True
                return
        self._optional.append(node)

    def _try_with(self, nodes: Sequence[_Node], width: float, measure: Measure) -> None:
        """Shows parts again if all of their names fit with them."""
        for node in nodes:
            node.shown = True
        shown = all(self._fit(node.names, width, measure) for node in nodes)
        for node in nodes:
            node.shown = shown

    def _fit(self, places: Sequence[int], width: float, measure: Measure) -> bool:
        return all(measure(self._text(each, self._whole[each])) <= width for each in places)

    def _text(self, place: int, whole: bool) -> str:
        """Returns what is shown of a name."""
        if whole:
            return self._names[place]
        text, missing = "", False
        for node in self._paths[place]:
            if node.shown and node.part:
                if missing:
                    text = text.rstrip(_AT_ENDS) + ELLIPSIS
                text += node.part
            missing = (not node.shown and bool(node.part)) or (missing and not node.shown)
        return text.rstrip(_AT_ENDS) + ELLIPSIS if missing else text
