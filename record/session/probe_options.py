"""What is shown to the network beside its batches, made of what was asked for."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from record.capture.capture import Capture
from record.capture.class_activation import ClassActivation
from record.capture.probe import Probe
from record.capture.probe_classes import ProbeClasses
from record.modules.selection import find_layers
from record.schedule.cadence import Cadence
from record.session.first_image_probe import FirstImageProbe, SendImages
from replay.schema import OptionError
from replay.schema.faces import spell

FIRST, CLASSES = "first", "classes"
"""The first image of the first batch, and the first one of each class."""


class ProbeOptions(NamedTuple):
    """What was asked for.

    Attributes:
        probe: As the argument of `Recorder`.
        labels: Likewise.
        cam: Likewise.
        share: How much of the run's time may be spent; None for the usual share of the first image.
        is_new: Whether the recording begins: one that is gone on with has a first image already.
        metadata: What is said of the run, the names of its `classes`, maybe.
    """

    probe: Any
    labels: Any
    cam: Any
    share: float | None
    is_new: bool
    metadata: Mapping[str, Any]


def make_probe(
    asked: ProbeOptions, capture: Capture, send_images: SendImages
) -> Probe | FirstImageProbe | None:
    """Returns what shows fixed images to the network; None where nobody asked for that.

    Args:
        asked: What was asked for.
        capture: The hooks of the recording.
        send_images: As for `FirstImageProbe`.

    Raises:
        OptionError: It is neither images nor a word, labels do not fit the images, or there is no
            such layer.
    """
    probe, labels, share = asked.probe, asked.labels, asked.share
    if share is not None and not 0 < share <= 1:
        raise OptionError(f"probe_share: expected a share from 0 to 1, found {share!r}")
    is_word = isinstance(probe, str)
    if is_word and probe not in (FIRST, CLASSES):
        raise OptionError(f"{spell('probe')}: expected images, first or classes, found {probe!r}")
    if labels is not None and (probe is None or is_word):
        raise OptionError("labels: expected images in probe, of which they are the classes")
    asks_cam = asked.cam is not None and asked.cam is not False
    if asks_cam and probe is None:
        raise OptionError(
            f"{spell('cam')}: expected fixed images to show: {spell('probe', 'classes')}, say"
        )
    activation = find_activation(asked.cam, capture) if asks_cam else None
    if probe is None:
        return None
    state = capture.state
    asks_classes = asks_cam or labels is not None or (is_word and probe == CLASSES)
    names = asked.metadata.get("classes")
    known = len(names) if isinstance(names, Sequence) and not isinstance(names, str) else 0
    classes = ProbeClasses((), activation, known) if asks_classes else None
    if is_word:
        cadence = Cadence() if share is None else Cadence(share)
        first = FirstImageProbe(state, cadence, send_images, classes, probe == CLASSES)
        if not asked.is_new:
            first.reason = "the recording is gone on with, and its first image is another one"
        return first
    shown = Probe(probe, classes)
    if classes is not None:
        classes.labels = _labels(labels, len(shown), names)
    state.asks_autocast = True
    return shown


def find_activation(cam: Any, capture: Capture) -> ClassActivation:
    """Returns what keeps class activation of the layer that was asked for.

    Raises:
        OptionError: There is no such layer, or several.
    """
    if cam is True:
        return ClassActivation(capture)
    if not isinstance(cam, str):
        raise OptionError(f"cam: expected True or a layer's name, found {cam!r}")
    root = capture.root
    assert isinstance(root, nn.Module)
    names = list(find_layers(root, cam))
    if len(names) > 1:
        more = f", {names[1]} ..." if len(names) > 2 else f" and {names[1]}"
        raise OptionError(
            f"{spell('cam')}: expected one layer, found {len(names)}: {names[0]}{more}"
        )
    return ClassActivation(capture, names[0])


def _labels(labels: Any, count: int, names: Any) -> list[int | None]:
    """Returns the label of each image.

    Raises:
        OptionError: They are not as many whole numbers as there are images, or no classes.
    """
    if labels is None:
        return [None] * count
    values = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(values, int):
        values = [values]
    if isinstance(values, (list, tuple)):  # of numbers of numpy's or torch's, say
        values = [_as_number(value) for value in values]
    wanted = f"labels: expected a whole number from 0 (or None) for each of {count} fixed images"
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        size = f"{len(values)}" if isinstance(values, Sequence) else repr(labels)
        raise OptionError(f"{wanted}, found {size}")
    for value in values:
        if value is not None and (type(value) is not int or value < 0):
            raise OptionError(f"{wanted}, found {value!r}")
        if value is not None and isinstance(names, Sequence) and value >= max(len(names), 1):
            raise OptionError(
                f"labels: expected numbers of the {len(names)} classes in metadata, found {value}"
            )
    return list(values)


def _as_number(value: Any) -> Any:
    """Returns a whole number of any kind as Python's; anything else as it is."""
    is_boolean = isinstance(value, bool) or getattr(value, "dtype", None) is torch.bool
    try:
        return value if is_boolean else operator.index(value)
    except TypeError:
        return value


def probe_facts(shown: Probe | FirstImageProbe | None) -> list[dict[str, int]] | None:
    """Returns what the run's description says of images that are given, one entry for each."""
    if not isinstance(shown, Probe):
        return None
    labels = shown.labels or [None] * len(shown)
    return [{} if label is None else {"label": label} for label in labels]
