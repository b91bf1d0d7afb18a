"""What a recording of any model would take, from Python and before anything is trained."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from record.modules.names import unwrap
from record.modules.selection import Patterns
from record.options import attention_kind, check_options, either
from record.planning.layout import FoundLayout, run_copy
from record.planning.lazy_modules import unfinished
from record.schedule.plan import Plan, make_plan
from record.schedule.schedule import Schedule
from record.session.metadata import count_parameters
from replay.schema import OptionError, RecordingError

_IMAGES = 2  # in a batch that is made up: batch normalisation needs two

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of a forward."""


def plan(
    model: nn.Module,
    input_shape: Sequence[Any] | Mapping[str, Sequence[int]] | None = None,
    *,
    batch: Any = None,
    loader: Iterable[Any] | None = None,
    layers: Patterns = None,
    epochs: int | None = None,
    epoch: int | None = None,
    batches: int | None = None,
    every: int = 1,
    schedule: str | Schedule | None = None,
    budget: str | int | None = None,
    max_map: int | None = None,
    probe: int = 0,
    cam: bool | str = False,
    batch_axis: Mapping[str, int] | None = None,
    attention: bool | str = False,
    gradients: Patterns | bool = None,
) -> Plan:
    """Says what a `Recorder` with the same arguments would record of a model, and what it takes.

        >>> record.plan(model, (3, 224, 224), batches=500, epochs=10)
        >>> record.plan(model, loader=loader, layers="layer1.*").layers

    A copy of the model does one training forward without gradients. The model itself, its buffers
    and its mode, what its code keeps in Python, and the random states are afterwards as they were.
    A loader hands out one batch.

    Args:
        model: The network.
        input_shape: The shape of one image, such as (3, 224, 224); of several arguments a list of
            shapes, or a dict of shapes by the names of the arguments.
        batch: Instead of a shape: what the loader hands out, or the arguments of the forward. A
            whole number is the same as `batches`.
        loader: Instead of a shape: a DataLoader, or any iterable that begins anew each time. Its
            length is the number of batches of an epoch.
        layers: As for `Recorder`.
        epochs: The number of epochs of the run; 1 by default.
        epoch: The same as `epochs`.
        batches: The number of batches of an epoch, where no loader tells it.
        every: As for `Recorder`.
        schedule: As for `Recorder`.
        budget: As for `Recorder`.
        max_map: As for `Recorder`.
        probe: The number of fixed images.
        cam: As for `Recorder`.
        batch_axis: As for `Recorder`.
        attention: As for `Recorder`.
        gradients: As for `Recorder`.

    Returns:
        The plan. It shows itself as a table; `layers` are the layers with their shapes.

    Raises:
        OptionError: The model does not take the input, a pattern matches nothing, or an argument
            is out of range.
        RecordingError: A layer cannot be recorded.
    """
    if not isinstance(model, nn.Module):
        raise OptionError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
    if isinstance(batch, int):
        batch, batches = None, either("batches", batches, "batch", batch)
    epochs = either("epochs", epochs, "epoch", epoch)
    epochs = 1 if epochs is None else epochs
    given = sum(value is not None for value in (input_shape, batch, loader))
    if given != 1:
        raise OptionError("expected one of input_shape, batch and loader")
    if epochs < 1 or (batches is not None and batches < 1):
        raise OptionError("epochs and batches: expected numbers from 1")
    axes = check_options(every, max_map, False, batch_axis)
    root = unwrap(model)
    if lazy := unfinished(root):
        raise OptionError(
            f"the model has lazy modules ({lazy[0]}, say): do one forward before, which gives them "
            "their sizes"
        )
    if loader is not None:
        batch, batches = _first_batch(loader), batches or _length(loader)
    calls = _calls_of_batch(root, batch) if input_shape is None else _calls_of_shape(input_shape)
    kind = attention_kind(attention)
    found = _run_one(root, layers, calls, max_map, probe, axes, kind, gradients, cam)
    chosen = Schedule.parse(schedule, every)
    made = make_plan(found.layout, chosen, epochs, batches or 1, budget)
    return replace(
        made,
        outputs=found.outputs,
        model=type(root).__name__,
        parameters=count_parameters(root),
        knows_batches=batches is not None,
    )


def _run_one(
    root: nn.Module,
    layers: Patterns,
    calls: list[Call],
    max_map: int | None,
    probe: int,
    axes: dict[str, int],
    attention: str | None,
    gradients: Patterns | bool,
    cam: bool | str,
) -> FoundLayout:
    """Returns what the first call shows that the model takes.

    Raises:
        OptionError: It takes none of them.
    """
    refused: list[Exception] = []
    device = next((p.device for p in root.parameters()), torch.device("cpu"))
    for args, kwargs in calls:
        try:
            moved = _moved(args, device), _moved(kwargs, device)
            return run_copy(root, layers, *moved, max_map, probe, axes, attention, gradients, cam)
        except RecordingError:
            raise
        except Exception as error:  # the user's own code
            refused.append(error)
    first = refused[0]
    reason = " ".join(str(first).split())[:200]
    given = ", ".join(_in_words(calls[0]))
    raise OptionError(
        f"{type(root).__name__} does not take {given}: {type(first).__name__}: {reason}"
    ) from first


def _calls_of_shape(shape: Any) -> list[Call]:
    """Returns the calls that a shape may stand for, the likeliest first.

    Raises:
        OptionError: It is no shape.
    """
    if isinstance(shape, Mapping):
        return [((), {str(name): _made_up(part) for name, part in shape.items()})]
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Iterable):
        raise OptionError(f"input_shape: expected a shape such as (3, 224, 224), found {shape!r}")
    parts = list(shape)
    if parts and all(isinstance(part, Iterable) for part in parts):
        return [(tuple(_made_up(part) for part in parts), {})]
    calls: list[Call] = [((_made_up(parts),), {})]
    if len(parts) > 1:  # with the batch's axis in it
        calls.append(((torch.zeros(parts),), {}))
    return calls


def _made_up(shape: Any) -> torch.Tensor:
    """Returns a batch of images of this shape, of zeros."""
    numbers = list(shape) if isinstance(shape, Iterable) else [shape]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise OptionError(f"input_shape: expected numbers from 1, found {shape!r}")
    return torch.zeros(_IMAGES, *numbers)


def _calls_of_batch(root: nn.Module, batch: Any) -> list[Call]:
    """Returns the calls that a batch may stand for, the likeliest first."""
    if isinstance(batch, Mapping):
        names = inspect.signature(root.forward).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in names.values())
        known = {str(k): v for k, v in batch.items() if takes_all or k in names}
        return [*([((), known)] if known else []), ((batch,), {})]
    if isinstance(batch, (list, tuple)) and batch:
        return [((batch[0],), {}), (tuple(batch), {}), ((batch,), {})]
    return [((batch,), {})]


def _first_batch(loader: Iterable[Any]) -> Any:
    """Returns what a loader hands out first, and puts the random states back that it uses.

    Raises:
        OptionError: It is an iterator, which would miss the batch, or has none.
    """
    with _loaders_random_states(loader):
        iterator = iter(loader)
        if iterator is loader:
            raise OptionError("loader: an iterator would miss its first batch; give a batch")
        try:
            return next(iterator)
        except StopIteration:
            raise OptionError("loader: it has no batch") from None
        finally:
            del iterator  # with its processes


@contextlib.contextmanager
def _loaders_random_states(loader: Any) -> Iterator[None]:
    """Restores the random states that a loader may use, its own among them."""
    parts = [loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)]
    generators = [getattr(part, "generator", None) for part in parts]
    states = [(g, g.get_state()) for g in generators if isinstance(g, torch.Generator)]
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
            for generator, state in states:
                generator.set_state(state)


def _length(loader: Any) -> int | None:
    """Returns the number of batches of a loader; None where it does not know."""
    try:
        return len(loader) or None
    except TypeError:
        return None


def _moved(value: Any, device: torch.device) -> Any:
    """Returns arguments with copies of their tensors, on a device."""
    if isinstance(value, torch.Tensor):
        return value.detach().to(device, copy=True)
    if type(value) in (list, tuple):
        return type(value)(_moved(part, device) for part in value)
    if type(value) is dict:
        return {name: _moved(part, device) for name, part in value.items()}
    return value


def _in_words(call: Call) -> Iterator[str]:
    for name, value in [*(("", value) for value in call[0]), *call[1].items()]:
        if isinstance(value, torch.Tensor):
            shape = "x".join(str(n) for n in value.shape)
            text = f"{shape} {str(value.dtype).removeprefix('torch.')}"
        else:
            text = f"a {type(value).__name__}"
        yield f"{name}={text}" if name else text
