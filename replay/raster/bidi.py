"""Which way letters run: parts of a line from right to left, and Arabic letters that are joined.

A line runs from left to right, as captions do; what is Hebrew or Arabic in it runs the other way.
Where Pillow has raqm it shapes letters and orders them; where it has not, `visual_order` does what
is needed to read Hebrew and Arabic.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_RIGHTWARD = {"R", "AL", "AN", "EN"}  # letters, and numbers that follow them
_FORMS = range(0xFE70, 0xFEFD)  # U+FE70 to U+FEFC: Arabic letters as they look when joined
_CLOSING = (")", "]", "}", "»")
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")


def parts(text: str) -> list[tuple[str, bool]]:
    """Returns a text in parts, each with whether it runs from right to left.

    Spaces and signs belong to such a part if letters of it stand on both sides.
    """
    found: list[tuple[str, bool]] = []
    start = 0  # of what belongs to no part yet
    place = 0
    while place < len(text):
        if unicodedata.bidirectional(text[place]) not in ("R", "AL"):
            place += 1
            continue
        end = place + 1
        for other in range(place + 1, len(text)):
            kind = unicodedata.bidirectional(text[other])
            if kind == "L":
                break
            if kind in _RIGHTWARD or (kind == "NSM" and other == end):
                end = other + 1
        while _opens(text[place:end]) and text[end : end + 1] in _CLOSING:
            end += 1
        if start < place:
            found.append((text[start:place], False))
        found.append((text[place:end], True))
        start = place = end
    if start < len(text):
        found.append((text[start:], False))
    return found


def _opens(part: str) -> bool:
    """Returns whether a bracket is open at the end of a part."""
    return sum(map(part.count, "([{«")) > sum(map(part.count, _CLOSING))


def visual_order(text: str) -> str:
    """Returns a part that runs from right to left as it is seen from left to right.

    Arabic letters take the forms that they have when joined; numbers keep their order.
    """
    clusters: list[str] = []
    for letter in _joined(text):
        kind = unicodedata.bidirectional(letter)
        numbers = clusters and kind in ("EN", "AN") and clusters[-1][-1].isdigit()
        if clusters and (kind == "NSM" or numbers):
            clusters[-1] += letter
        else:
            clusters.append(letter)
    return "".join(each.translate(_MIRRORED) for each in reversed(clusters))


def _joined(text: str) -> str:
    """Returns Arabic letters in the forms in which they join their neighbors."""
    forms, ligatures = _forms()
    letters = list(text)
    joined: list[str] = []
    place = 0
    while place < len(letters):
        pair = "".join(letters[place : place + 2])
        letter = pair if pair in ligatures else letters[place]
        known = ligatures.get(pair) or forms.get(letter, {})
        before = next((x for x in reversed(letters[:place]) if not _is_mark(x)), "")
        after = next((x for x in letters[place + len(letter) :] if not _is_mark(x)), "")
        to_before = "final" in known and "initial" in forms.get(before, {})
        to_after = "initial" in known and "final" in forms.get(after, {})
        form = ("isolated", "final", "initial", "medial")[to_before + 2 * to_after]
        joined.append(known.get(form, letter))
        place += len(letter)
    return "".join(joined)


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter) == "Mn"


@lru_cache(maxsize=1)
def _forms() -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Returns the joined forms of each Arabic letter, and of lam with alef."""
    letters: dict[str, dict[str, str]] = {}
    ligatures: dict[str, dict[str, str]] = {}
    for number in _FORMS:
        kind, _, base = unicodedata.decomposition(chr(number)).partition("> ")
        plain = "".join(chr(int(each, 16)) for each in base.split())
        if plain and not plain.startswith(" "):
            known = letters if len(plain) == 1 else ligatures
            known.setdefault(plain, {})[kind[1:]] = chr(number)
    return letters, ligatures
