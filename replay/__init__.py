"""Turns a recording of feature maps into animations, figures and pages, without torch.

    import replay

    run = replay.open("run.h5")
    run.layers  # names
    run["conv1"][epoch, batch]  # float16 (C, H, W)
    replay.animate(run, "run.mp4", layers=["conv1"])
    replay.grid(run, "grid.pdf", epochs=[0, -1])
    replay.page(run, "report.html")

Names are imported on first use: `record`'s writer process passes through here on its way to
`replay.schema`, and `replay info` answers without matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replay.animation import animate
    from replay.axes import draw
    from replay.comparison import compare
    from replay.contact import sheet
    from replay.diagnosis import health
    from replay.exporting import export
    from replay.recording import Recording
    from replay.recording import open_recording as open
    from replay.repairing import repair
    from replay.schema import RecordingError
    from replay.still import grid
    from replay.verification import verify
    from replay.webpage import page

__version__ = "0.1.0"
__all__ = [
    "Recording",
    "RecordingError",
    "__version__",
    "animate",
    "compare",
    "draw",
    "export",
    "grid",
    "health",
    "open",
    "page",
    "repair",
    "sheet",
    "verify",
]

_HOMES = {
    "open": ("replay.recording", "open_recording"),
    "Recording": ("replay.recording", "Recording"),
    "RecordingError": ("replay.schema", "RecordingError"),
    "animate": ("replay.animation", "animate"),
    "compare": ("replay.comparison", "compare"),
    "draw": ("replay.axes", "draw"),
    "grid": ("replay.still", "grid"),
    "export": ("replay.exporting", "export"),
    "health": ("replay.diagnosis", "health"),
    "repair": ("replay.repairing", "repair"),
    "sheet": ("replay.contact", "sheet"),
    "verify": ("replay.verification", "verify"),
    "page": ("replay.webpage", "page"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'replay' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value
