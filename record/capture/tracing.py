"""Whether a forward is real, or run to capture a graph of it: an export, a trace."""

from __future__ import annotations

import torch
from torch.fx import _symbolic_trace

_KEYS = torch._C._TorchDispatchModeKey
_INFRASTRUCTURE = (_KEYS.PROXY, _KEYS.FAKE, _KEYS.FUNCTIONAL)


def is_exporting() -> bool:
    """Whether torch.export runs the model; also asked while torch.compile traces it."""
    return torch.compiler.is_exporting()


def is_capturing() -> bool:
    """Whether what runs now is captured into a graph, or has no values at all.

    True under torch.jit.trace, torch.fx, make_fx, torch.export and with fake tensors. An operation
    of ours would become part of the user's program, and a copy of it would be made at each run.
    torch.compile is another case: the copies that it traces are meant to be there.
    """
    if torch._C._get_tracing_state() is not None or _symbolic_trace.is_fx_symbolic_tracing():
        return True
    if torch._C._len_torch_dispatch_stack() == 0:
        return False
    return any(torch._C._get_dispatch_mode(key) is not None for key in _INFRASTRUCTURE)
