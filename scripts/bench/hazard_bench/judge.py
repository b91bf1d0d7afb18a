"""What a tool kept against the truth, in one word and one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from adapters import Kept
from training import KERNEL, Array, Calls, Left, Row

RIGHT = "right"
REFUSED = "refused openly"
COUNTED = "lost and counted"
SAID = "wrong, but said"
LOST = "lost in silence"
WRONG = "wrong in silence"
CHANGED = "training changed"
NOT_OFFERED = "not offered"


@dataclass(frozen=True)
class Verdict:
    """One of the words above, and what was seen."""

    word: str
    note: str = ""


def judge_training(plain: Left, left: Left) -> Verdict | None:
    """Whether a training is what it is without the tool; None if it is."""
    if left.failed is not None:
        error = f"{type(left.failed).__name__}: {' '.join(str(left.failed).split())}"[:160]
        if left.steps == 0:
            return Verdict(REFUSED, error)
        return Verdict(CHANGED, f"ended after {left.steps} of {plain.steps} steps: {error}")
    pairs = list(zip(plain.results, left.results, strict=False))
    other = next(((old, new) for old, new in pairs if old != new), None)
    if other is not None:
        return Verdict(CHANGED, f"without it: {other[0][:90]}; with it: {other[1][:110]}")
    if left.steps != plain.steps or len(left.results) != len(plain.results):
        return Verdict(CHANGED, f"{left.steps} of {plain.steps} steps were made")
    parts = [part for part, value in plain.state.items() if left.state.get(part) != value]
    if parts:
        return Verdict(CHANGED, f"not the same: {', '.join(parts)}")
    return None


def judge(row: Row, truth: list[Calls], kept: Kept, words: list[str], whole: bool) -> Verdict:
    """Frames against the truth.

    Args:
        row: What was trained.
        truth: Of each batch, what each layer put out, call by call.
        kept: What the tool has.
        words: What it said.
        whole: Whether it keeps whole batches.
    """
    if kept.words:
        words = [*words, *kept.words]
    if row.together:
        return _judge_together(row, truth, kept, words)
    count = Counter[str]()
    notes: dict[str, str] = {}
    expected = _flat(row, truth, kept.batches is not None)
    asked = {place: frames for place, frames in expected.items() if _is_asked(kept, place)}
    if not asked:
        return Verdict(NOT_OFFERED, f"it does not look at {', '.join(row.layers)}")
    for place, frames in asked.items():
        there = _at(kept, place)
        if not kept.numbered:
            there = _in_order(frames, there)
        for call, frame in enumerate(frames):
            found = there[call] if call < len(there) else None
            word = _compare(row, place, frame, found, frames)
            if word == "absent" and (place[1].endswith(KERNEL) or _is_silent(row, truth, place)):
                continue  # kernels are kept of some layers only, a failed forward of none
            count[word] += 1
            notes.setdefault(word, _where(place, call))
            if place[1] == "input":
                break
    for place, more in _unexpected(row, expected, kept).items():
        count["more"] += more
        notes.setdefault("more", _where(place, len(expected.get(place, []))))
    if row.killed:
        return _judge_killed(row, count, notes)
    verdict = _sum_up(row, count, notes, kept, words)
    unasked = (at for at in expected.keys() - asked.keys() if not _is_silent(row, truth, at))
    left = sorted({layer for _, layer in unasked})
    more = f"; it was not asked for, or does not look at, all of {', '.join(left)}" if left else ""
    return Verdict(verdict.word, verdict.note + more)


Place = tuple[int, str]  # number of the batch, -1 for a list of all of them, and layer


def _flat(row: Row, truth: list[Calls], by_batch: bool) -> dict[Place, list[Array]]:
    """What should be there, by batch and layer, or by layer alone."""
    found: dict[Place, list[Array]] = {}
    for number, calls in enumerate(truth):
        for layer, frames in calls.items():
            if by_batch:
                found[number, layer] = frames
            else:
                found.setdefault((-1, layer), []).extend(frames)
    return found


def _is_silent(row: Row, truth: list[Calls], place: Place) -> bool:
    return place[0] >= 0 and place[0] % (len(truth) // row.epochs) in row.silent


def _is_asked(kept: Kept, place: Place) -> bool:
    if kept.offered is not None and place[1] not in kept.offered:
        return False
    return kept.asked is None or place[0] in kept.asked


def _in_order(expected: list[Array], found: list[Array]) -> list[Array | None]:
    """Each frame at the call that it is of, where a tool does not say it; else at a free one."""
    places: list[Array | None] = [None] * len(expected)
    for frame in found:
        free = [place for place, taken in enumerate(places) if taken is None]
        fit = [place for place in free if _same(expected[place], frame, 0.0)]
        if fit or free:
            places[(fit or free)[0]] = frame
    return places


def _at(kept: Kept, place: Place) -> list[Array]:
    if kept.batches is None:
        return (kept.lists or {}).get(place[1], [])
    return kept.batches.get(place[0], {}).get(place[1], [])


def _unexpected(row: Row, expected: dict[Place, list[Array]], kept: Kept) -> dict[Place, int]:
    """Frames beyond those that there should be."""
    there = (
        {(-1, layer): len(frames) for layer, frames in (kept.lists or {}).items()}
        if kept.batches is None
        else {
            (number, layer): len(frames)
            for number, calls in kept.batches.items()
            for layer, frames in calls.items()
        }
    )
    found = {}
    for place, number in there.items():
        if (
            place[1] in row.missing
            or place[1].endswith(KERNEL)
            or (place[1] == "input" and row.image is None)
        ):
            continue
        more = number - len(expected.get(place, []))
        if more > 0:
            found[place] = more
    return found


def _compare(row: Row, place: Place, frame: Array, found: Array | None, any_of: list[Array]) -> str:
    if found is None:
        return "absent"
    if place[1] == "input":
        return "right" if any(_same(one, found, row.close) for one in any_of) else "wrong"
    return "right" if _same(frame, found, row.close) else "wrong"


def _same(expected: Array, found: Array, close: float) -> bool:
    if expected.shape != found.shape and expected.size > 1:
        return False
    if expected.size != found.size:
        return False
    if close:
        flat = expected.ravel().astype(np.float32), found.ravel().astype(np.float32)
        return bool(np.allclose(*flat, atol=close, rtol=close, equal_nan=True))
    return expected.tobytes() == found.tobytes()


def _where(place: Place, call: int) -> str:
    layer = f"{place[1]}#{call}" if call and place[0] >= 0 else place[1]
    return f"{layer}, frame {call}" if place[0] < 0 else f"{layer}, batch {place[0]}"


def _sum_up(
    row: Row, count: Counter[str], notes: dict[str, str], kept: Kept, words: list[str]
) -> Verdict:
    total = count["right"] + count["wrong"] + count["absent"]
    said = f"; says: {words[0][:170]}" if words else ""
    if count["wrong"]:
        note = f"{count['wrong']} of {total} frames differ ({notes['wrong']} first)"
        if count["more"]:
            note += f"; {total + count['more']} were kept"
        named = [w for w in words if any(layer.partition("[")[0] in w for layer in row.layers)]
        if named:
            return Verdict(SAID, f"{note}; says: {named[0][:170]}")
        return Verdict(WRONG, note + said)
    if count["more"]:
        note = f"{total + count['more']} frames where {total} were put out in training"
        return Verdict(SAID if words else WRONG, f"{note} ({notes['more']} first){said}")
    if count["absent"]:
        note = f"{count['absent']} of {total} frames absent ({notes['absent']} first)"
        if kept.lost or words:
            counted = f"; counts {kept.lost}" if kept.lost else ""
            return Verdict(COUNTED, note + counted + said)
        return Verdict(LOST, note)
    return Verdict(RIGHT, f"{total} frames" + (said if row.missing else ""))


def _judge_killed(row: Row, count: Counter[str], notes: dict[str, str]) -> Verdict:
    """What is left on the disk: what is not there was not handed over yet, and is not wrong."""
    until = f"{row.killed * len(row.layers)} until the kill"
    if count["wrong"] or count["more"]:
        first = notes.get("wrong") or notes["more"]
        return Verdict(WRONG, f"{count['wrong'] + count['more']} frames differ ({first} first)")
    if not count["right"]:
        return Verdict(LOST, f"none of {until} can be read back")
    return Verdict(RIGHT, f"{count['right']} frames of {until} can be read back")


def _judge_together(row: Row, truth: list[Calls], kept: Kept, words: list[str]) -> Verdict:
    """Whether each frame is of one forward: what one layer has belongs to what the next one has."""
    layers = [*row.layers, *(["input"] if row.image is not None else [])]
    known: set[tuple[bytes, ...]] = set()
    for calls in truth:
        for call in range(len(calls[row.layers[0]])):
            known.add(tuple(calls[layer][call].tobytes() for layer in layers if layer in calls))
    if kept.batches is None:
        groups = [kept.lists or {}]
    else:
        groups = [kept.batches[number] for number in sorted(kept.batches)]
    wrong = right = 0
    for group in groups:
        there = [layer for layer in layers if layer in group]
        known_here = {
            tuple(one for layer, one in zip(layers, each, strict=False) if layer in there)
            for each in known
        }
        for call in range(max((len(group[layer]) for layer in there), default=0)):
            frames = [group[layer][call] if call < len(group[layer]) else None for layer in there]
            whole = tuple(b"" if frame is None else frame.tobytes() for frame in frames)
            right, wrong = right + (whole in known_here), wrong + (whole not in known_here)
    total = sum(len(calls[row.layers[0]]) for calls in truth)
    said = f"; says: {words[0][:170]}" if words else ""
    if wrong:
        note = f"{wrong} of {right + wrong} frames are of two forwards"
        return Verdict(SAID if words else WRONG, note + said)
    if right < total:
        note = f"{right} of {total} forwards kept, each whole"
        counted = f"; counts {kept.lost}" if kept.lost else ""
        return Verdict(COUNTED if kept.lost or words else LOST, note + counted + said)
    return Verdict(RIGHT, f"{right} frames")
