"""The same examples each time, writers that start quickly, torch that says the same on any Python."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

# Processes run side by side: two threads of torch in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What torch.compile says of Python 3.13.0: of each model, so twice where one is compiled anew.
os.environ["PYTHONWARNINGS"] = "ignore:Guards may run slower:RuntimeWarning"

# The same examples each time; `--hypothesis-profile=long` tries thousands of others.
slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
phases = [Phase.explicit, Phase.generate, Phase.shrink]
always = settings(deadline=None, database=None, suppress_health_check=slow, phases=phases)
settings.register_profile("quick", always, max_examples=60, derandomize=True)
settings.register_profile("long", always, max_examples=3000, print_blob=True)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "a file or folder whose fast tests have been run; again and again for others"
    parser.addoption("--done", action="append", default=[], metavar="PATH", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take long come first: workers that get one file after the other end together."""
    leave_out_what_is_done(config, items)
    sizes = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -sizes[item.path], item.path))


def pytest_collection_finish() -> None:
    """What was imported is there to the end: nothing looks through it for garbage again."""
    gc.collect()
    gc.freeze()


def leave_out_what_is_done(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Takes the fast tests below what `--done` names out of the list."""
    done = [config.invocation_params.dir / name for name in config.getoption("done")]
    if missing := [str(path) for path in done if not path.exists()]:
        raise pytest.UsageError(f"--done: expected files or folders, found {', '.join(missing)}")
    out = [
        item
        for item in items
        if not item.get_closest_marker("slow")
        and any(item.path.is_relative_to(path) for path in done)
    ]
    config.hook.pytest_deselected(items=out)
    left = set(map(id, out))
    items[:] = [item for item in items if id(item) not in left]


@pytest.fixture(scope="module", autouse=True)
def _no_threads_are_left() -> Iterator[None]:
    """A Recorder shows no fixed image where other threads run: that of a later test would have none."""
    before = set(threading.enumerate())
    yield
    left = [each for each in threading.enumerate() if not (each in before or each.daemon)]
    assert not left, "end the threads that the tests of this file have begun"


@pytest.fixture(scope="session")
def fork_of_a_writer() -> Iterator[Callable[..., Any]]:
    from generated.writers import forking

    with forking() as fork:
        yield fork


@pytest.fixture(scope="session")
def warm() -> Iterator[Any]:
    """Runs Python commands in forks of a process that has imported torch: see warm.py."""
    from warm import warm_python

    with warm_python() as python:
        yield python


@pytest.fixture
def quick_writers(fork_of_a_writer: Callable[..., Any]) -> Iterator[None]:
    """Writer processes are forked from one that has imported all they need.

    For tests of what is recorded; those of the start itself, of locks and of commands start them as
    users do.
    """
    from generated.writers import started_by

    with started_by(fork_of_a_writer):
        yield
