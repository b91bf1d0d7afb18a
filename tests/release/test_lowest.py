"""What `scripts/lowest` installs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_dependency_has_its_lowest_version_and_the_rest_that_of_ci() -> None:
    asked = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    tool = ROOT / "scripts/lowest_tools/lowest.py"
    done = subprocess.run([sys.executable, tool, *asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    versions = dict(line.split("==") for line in done.stdout.split())
    listed = asked[0].read_text().split("dependencies = [")[1].split("]\n\n")[0]
    names = re.findall(r'"([a-z0-9-]+)>=([\d.]+)', listed)
    assert len(names) == 9
    for name, version in names:
        least = version if "." in version else f"{version}.0"
        assert versions.pop(name) == f"{least}.*"
    pinned = asked[1].read_text()
    assert set(versions) == {"torch", "torchvision"}  # numpy and others are pinned as high as CI's
    assert all(f"{name}=={version}" in pinned for name, version in versions.items())
