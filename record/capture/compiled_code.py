"""Has torch.compile compile anew what it compiled before a model's hooks changed.

`torch.compiler.reset` frees what torch knows of each function, whoever is in it: a thread that is
compiling then puts its result into freed memory, and the process ends in a segmentation fault, now
or when it ends. Where another thread is in torch's compiler, what was compiled is made invalid
instead, as torch does itself where an object that it depends on has gone.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import torch

_COMPILER = "torch._dynamo"
_IMPORTED_BY_RESET = ("torch._higher_order_ops.triton_kernel_wrap", "torch._higher_order_ops.wrap")
"""Imported first: who waits for a file lets other threads run."""


class _Object:
    """Something to refer to."""


_elsewhere = _Object()
"""What no call has: a version for another object does not count as one of too many for this one."""

_lock = threading.Lock()
_invalid: list[Any] = []
"""Guards and code of what was made invalid: another thread may be evaluating them."""


def has_compiled() -> bool:
    """Whether torch.compile has compiled anything yet.

    To forget what was never compiled would cost seconds where there is a GPU: torch imports its
    compiler for it.
    """
    frames = sys.modules.get(f"{_COMPILER}.convert_frame")
    codes = getattr(frames, "input_codes", None)
    return frames is not None and bool(getattr(codes, "seen", True))


def forget_compiled() -> None:
    """Has everything that was compiled be compiled anew when it is called next."""
    if not has_compiled():
        return
    with _lock:
        if len(sys._current_frames()) == 1:
            torch.compiler.reset()
            return
        for name in _IMPORTED_BY_RESET:
            with contextlib.suppress(ImportError):  # of a torch that has none
                importlib.import_module(name)
        with _undisturbed():
            if not _is_another_inside() or not _invalidate():
                torch.compiler.reset()
                _invalid.clear()


@contextlib.contextmanager
def not_compiling() -> Iterator[bool]:
    """Keeps other threads from compiling meanwhile, if none of them does already.

    Yields:
        Whether none does: what one has seen of hooks on all modules it looks up once more at its
        end, and fails if it is gone.
    """
    lock = getattr(sys.modules.get(f"{_COMPILER}.convert_frame"), "compile_lock", None)
    if lock is None:
        yield True
        return
    taken = lock.acquire(blocking=False)
    try:
        yield taken
    finally:
        if taken:
            lock.release()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No other thread runs Python meanwhile, unless this one waits for something."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        # A thread that waits already asks for its turn once more, when its old interval is over.
        end = time.perf_counter() + interval + 0.001
        while time.perf_counter() < end:
            pass
        yield
    finally:
        sys.setswitchinterval(interval)


def _is_another_inside() -> bool:
    """Whether another thread is compiling, or in a function that is compiled."""
    here = threading.get_ident()
    for thread, top in sys._current_frames().items():
        frame = top if thread != here else None
        while frame is not None:
            if str(frame.f_globals.get("__name__")).startswith(_COMPILER):
                return True
            frame = frame.f_back
    return False


def _invalidate() -> bool:
    """Makes what was compiled invalid; returns False where this torch has no way to."""
    frames = sys.modules[f"{_COMPILER}.convert_frame"]
    try:
        from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list as entries_of
        from torch._dynamo.guards import DeletedGuardManagerWrapper as Deleted

        for seen in [*frames.input_codes.seen, *frames.output_codes.seen]:
            code = seen()
            for entry in entries_of(code) if code is not None else ():
                guards = entry.guard_manager
                if (owner := guards.extra_state) is None:
                    continue  # it is invalid already
                none = Deleted("a model's hooks changed")
                none.id_matched_objs = {"": weakref.ref(_elsewhere)}
                _invalid.append((guards, entry.code))
                owner.invalidate(entry, none)
    except (ImportError, AttributeError, TypeError):
        return False
    return True
