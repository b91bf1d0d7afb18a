"""Where a copy of a recording goes: never over the recording, over another file only if asked."""

from __future__ import annotations

from pathlib import Path

from replay.schema import OutputError
from replay.schema.faces import spell


def check_copy_target(target: Path, source: Path, overwrite: bool) -> None:
    """Makes sure that a copy takes no file's place that it should not take.

    Args:
        target: The file that will be written.
        source: The recording.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: It is the recording itself, or exists and may not be replaced.
    """
    if not target.exists():
        return
    if target.samefile(source):
        raise OutputError(f"{target} is the recording itself; name another file ({spell('out')})")
    if not overwrite:
        allow = spell("overwrite", True)
        raise OutputError(f"{target} exists; name another file or allow {allow}")
