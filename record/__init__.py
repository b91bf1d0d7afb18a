"""Records a network's feature maps while it trains.

    from record import Recorder

    with Recorder(model, "run.h5", probe="first") as recorder:
        for epoch in range(epochs):
            for images, labels in recorder.track(loader):
                loss = criterion(model(images), labels)
                ...
                recorder.log(loss=loss, label=labels[0])

`record.plan(model, (3, 224, 224))` says beforehand what that will hold. `Writer` writes what other
frameworks have as arrays. Names are imported on first use: the writer process passes through here
and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from record import torchvision_operators

if TYPE_CHECKING:
    from record.arrays.writer import Writer
    from record.planning.plan import plan
    from record.recorder import Recorder
    from record.reporting import RecordingWarning
    from replay.schema import RecordingError

__version__: str
__all__ = ["Recorder", "RecordingError", "RecordingWarning", "Writer", "__version__", "plan"]

_HOMES = {
    "Recorder": "record.recorder",
    "RecordingWarning": "record.reporting",
    "Writer": "record.arrays.writer",
    "plan": "record.planning",
    "RecordingError": "replay.schema",
}

torchvision_operators.install()  # for what imports torchvision after this package


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from replay.schema import program_version

        return program_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'record' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What `dir`, tab completion and `help` show: the names that can be imported."""
    from importlib.util import find_spec

    without = set() if find_spec("torch") else {"Recorder", "plan"}  # which need it
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))} - without)
