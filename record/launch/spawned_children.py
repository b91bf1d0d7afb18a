"""Records what children train that the script starts with multiprocessing's spawn method.

Such a child is a new interpreter, and the first thing that it does is to unpickle what its parent
has prepared for it. An object is added to that which calls `record_child` there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from record.launch.script_recording import ScriptRecording

OPTIONS_VARIABLE = "MAPREEL_RUN"  # in the environment: the options of the run, as JSON


def record_spawned_children() -> None:
    """Has the children of this process watch torch as it does itself."""
    from multiprocessing import spawn

    original = spawn.get_preparation_data

    def prepare(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        data["mapreel"] = _CallInChild()
        return data

    spawn.get_preparation_data = prepare


class _CallInChild:
    """Calls `record_child` where it is unpickled; a child without mapreel goes on without."""

    def __reduce__(self) -> Any:
        root = str(Path(__file__).resolve().parents[2])
        code = (
            "try:\n"
            "    import sys\n"
            f"    sys.path.append({root!r})\n"
            "    try:\n"
            f"        from {__name__} import record_child\n"
            "    finally:\n"
            f"        sys.path.remove({root!r})\n"
            "    record_child()\n"
            "except Exception:\n"
            "    pass\n"
        )
        return exec, (code,)


def record_child() -> None:
    """Records what this process trains, a child that the script has spawned."""
    text = os.environ.get(OPTIONS_VARIABLE)
    if text is None:
        return
    from multiprocessing import util

    recording = ScriptRecording(json.loads(text), spawned=True)
    record_spawned_children()
    recording.start()
    # Such a child leaves by os._exit, past atexit.
    util.Finalize(None, recording.finish, exitpriority=100)
