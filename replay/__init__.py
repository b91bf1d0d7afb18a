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
    from replay.diagnosis.examination import health
    from replay.figures.axes import draw
    from replay.figures.contact_sheet import sheet
    from replay.figures.health_chart import draw_health
    from replay.figures.map_grid import grid
    from replay.files.exporting import export
    from replay.files.packing import pack, unpack
    from replay.files.repairing import repair
    from replay.files.transfer import fetch
    from replay.files.verification import verify
    from replay.recording import Recording
    from replay.recording import open_recording as open
    from replay.rendering.animation import animate
    from replay.rendering.comparison import compare
    from replay.schema import RecordingError
    from replay.trackers.pushing import push
    from replay.webpage.document import page

__version__: str
__all__ = [
    "Recording",
    "RecordingError",
    "__version__",
    "animate",
    "compare",
    "draw",
    "draw_health",
    "export",
    "fetch",
    "grid",
    "health",
    "open",
    "pack",
    "page",
    "push",
    "repair",
    "sheet",
    "unpack",
    "verify",
]

_HOMES = {
    "open": ("replay.recording", "open_recording"),
    "Recording": ("replay.recording", "Recording"),
    "RecordingError": ("replay.schema", "RecordingError"),
    "animate": ("replay.rendering.animation", "animate"),
    "compare": ("replay.rendering.comparison", "compare"),
    "draw": ("replay.figures.axes", "draw"),
    "draw_health": ("replay.figures.health_chart", "draw_health"),
    "grid": ("replay.figures.map_grid", "grid"),
    "export": ("replay.files.exporting", "export"),
    "fetch": ("replay.files.transfer", "fetch"),
    "health": ("replay.diagnosis.examination", "health"),
    "pack": ("replay.files.packing", "pack"),
    "unpack": ("replay.files.packing", "unpack"),
    "repair": ("replay.files.repairing", "repair"),
    "sheet": ("replay.figures.contact_sheet", "sheet"),
    "verify": ("replay.files.verification", "verify"),
    "page": ("replay.webpage.document", "page"),
    "push": ("replay.trackers.pushing", "push"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from replay.schema import program_version

        return program_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'replay' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    home = import_module(module)
    if module == "replay.recording":
        from replay.recording.notebook_views import show_with

        show_with(_view)
    value = getattr(home, attribute)
    globals()[name] = value
    return value


def _view(shown: object) -> str:
    from replay.notebook import to_html

    return to_html(shown)


def __dir__() -> list[str]:
    """What `dir`, tab completion and `help` show: the names that can be imported."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
