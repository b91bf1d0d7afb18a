"""What a film tells of its recordings beside the maps: heading, loss, pictures, labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.captions import clean
from replay.contents import Facts, Part, Seen
from replay.inputs import InputPicture
from replay.recording import Recording
from replay.together import Together


def state(shown: Together) -> Facts:
    """The frames of the run and its loss; of several recordings, that of the first."""
    cells = shown.whole
    recording = shown.recordings[0]
    loss = None
    if "loss" in recording.batches:
        loss = recording.batches["loss"][tuple(np.array(cells).T)].astype(np.float64)
        # A loss that is NaN throughout was not logged; one that became NaN is news.
        loss = None if np.isnan(loss).all() else loss
    return Facts(cells, loss, clean(shown.labels[0]))


def see(recording: Recording, shown: Together, label: str, picture: InputPicture | None) -> Seen:
    """What the network of one recording saw and answered."""
    at = tuple(np.array(shown.whole).T)

    def logged(name: str) -> npt.NDArray[np.int64] | None:
        if name not in recording.batches:
            return None
        values: npt.NDArray[np.int64] = recording.batches[name][at].astype(np.int64)
        return values if (values >= 0).any() else None

    names = recording.meta.get("classes")
    classes = tuple(clean(str(name)) for name in names) if isinstance(names, list) else ()
    size, words = None, ""
    if picture is not None:
        size, words = picture.size, _picture_words(recording, label, picture.channels)
    return Seen(size, words, logged("label"), logged("prediction"), classes)


def heading(
    shown: Together, parts: Sequence[Part], layers: Sequence[str], title: str | None
) -> tuple[str, str]:
    """What is set bold at the top, and what follows it."""
    if len(parts) == 1:
        first, words = parts[0].name, parts[0].words
        return (clean(title), f"{first}   {words}") if title else (first, words)
    name = clean(layers[0]) if len(layers) == 1 else f"{len(layers)} layers"
    if title:
        return clean(title), ", ".join(filter(None, [name, shown.in_words()]))
    return name, shown.in_words()


def _picture_words(recording: Recording, label: str, channels: int) -> str:
    if recording.probe_number is not None:
        words = f"probe image {recording.probe_number}, evaluation mode"
        words = f"{clean(label)}: {words}" if label else words
    else:
        words = f"{clean(label) or 'input'}: first image of the batch"
    if channels in (1, 3):
        return words
    return words + (", channel 0 of 2" if channels == 2 else f", channels 0–2 of {channels}")
