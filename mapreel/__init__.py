"""The command `mapreel`: `mapreel record ...` and `mapreel replay ...`.

What it calls are the packages `record` and `replay`, which are what Python programs import.
"""

from __future__ import annotations

from typing import Any

__version__: str
__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from replay.schema import program_version

        return program_version()
    raise AttributeError(f"module 'mapreel' has no attribute {name!r}; import record or replay")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
