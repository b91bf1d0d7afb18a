"""An environment for each of the other tools, with the same torch, in a cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 1500  # of one installation

# What torch 2.13 asks for, and the package's own setup does not.
CXX20 = """#!/usr/bin/env bash
args=()
for arg in "$@"; do
    [ "$arg" = -std=c++17 ] && arg=-std=c++20
    args+=("$arg")
done
exec c++ "${args[@]}"
"""


@dataclass(frozen=True)
class Package:
    """What is installed for a tool.

    Attributes:
        name: The requirement, with its version.
        is_built: Whether it is compiled against torch.
        remark: What was done so that it installs.
    """

    name: str
    is_built: bool = False
    remark: str = ""


PACKAGES = {
    "nansense": Package("nansense==0.4.0"),
    "torchlens": Package("torchlens==2.36.1"),
    "activationscope": Package(
        "activationscope==0.1.4",
        is_built=True,
        remark="compiled as C++20, which this torch asks for, instead of C++17",
    ),
}
SAME = {"activationscope-disk": "activationscope"}  # the same package, used in another way


def cache() -> Path:
    """Where the environments lie: MAPREEL_HAZARDS, else below the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MAPREEL_HAZARDS") or Path(home) / "mapreel" / "hazards")


def python_of(tool: str) -> Path:
    """The interpreter that has the tool, made if there is none yet.

    Raises:
        RuntimeError: It does not install; the message has the last line of what was said.
    """
    package = PACKAGES.get(SAME.get(tool, tool))
    if package is None:
        return Path(sys.executable)
    folder = cache() / f"{package.name}-py{sys.version_info[0]}.{sys.version_info[1]}"
    python, stamp = folder / "bin" / "python", folder / ".whole"
    wanted = (ROOT / "constraints.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {package.name} into {folder}", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pip += ["-c", str(ROOT / "constraints.txt")]
        _run([*pip, "torch", "numpy", "setuptools", "wheel"])
        if package.is_built:
            compiler = folder / "c++20"
            compiler.write_text(CXX20)
            compiler.chmod(0o755)
            _run([*pip, "--no-build-isolation", package.name], CXX=str(compiler))
        else:
            _run([*pip, package.name])
        stamp.write_text(wanted)
    return python


def _run(command: list[str], **environment: str) -> None:
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"does not install: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or ["no word"]
        raise RuntimeError(f"does not install: {lines[-1].strip()[:200]}")
