"""Engines on which an animation is rendered, by what is said on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

from replay.schema import OptionError

_SECONDS = 10  # in which a scheduler has to answer


@contextmanager
def connect(words: str) -> Iterator[Executor]:
    """The executor of a running engine; let go of, not ended, in the end.

    Args:
        words: `dask=tcp://host:port`, the address of a Dask scheduler.

    Raises:
        OptionError: Another engine, one that is not installed, or none at that address.
    """
    engine, _, address = words.partition("=")
    if engine != "dask" or not address:
        raise OptionError(f"executor {words!r}: expected dask=tcp://host:port")
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise OptionError("executor dask: not installed; pip install 'mapreel[dask]'") from error
    try:
        client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise OptionError(f"executor {words}: no scheduler answers at {address}") from error
    with client:
        yield cast(Executor, client.get_executor(pure=False))
