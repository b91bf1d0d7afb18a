"""What the root of every recording says: program, command, versions. Imports no torch."""

from __future__ import annotations

import datetime
import platform
import sys
from pathlib import Path
from typing import Any

from replay import schema
from replay.schema.addresses import words_without_secrets


def root_attributes(run_id: str, meta: dict[str, Any]) -> dict[str, Any]:
    """Returns the attributes of a recording's root.

    Args:
        run_id: Identifies the run.
        meta: Becomes the description, as JSON.
    """
    return {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "run_id": run_id,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "meta": schema.encode_meta(meta),
    }


def environment(**versions: str) -> dict[str, Any]:
    """Returns the command and the versions of the run, for its description.

    Args:
        **versions: Of the libraries that train.
    """
    return {
        "command": words_without_secrets([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        "versions": {
            "mapreel": schema.program_version(),
            **versions,
            "python": platform.python_version(),
        },
    }
