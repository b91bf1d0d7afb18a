"""The frozen results on disk: a JSON file for each group, with the versions it was made with."""

from __future__ import annotations

import json
import platform
import re
import sys
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import replay

from .cases import Case
from .faces import Document, Seen, error_in_words, surroundings
from .recordings import link

_FOLDER = Path(__file__).with_name("results")
_PACKAGES = {  # whose versions may change a pixel or a word, and are pinned in constraints.txt
    "films": ["numpy", "pillow", "matplotlib", "h5py"],
    "figures": ["numpy", "pillow", "matplotlib", "h5py"],
    "pages": ["numpy", "pillow", "matplotlib", "h5py"],
    "commands": ["numpy", "pillow", "matplotlib", "h5py"],
    "recordings": ["numpy", "h5py", "torch"],
}


def versions(group: str) -> dict[str, str]:
    """The installed versions of what the results of that group depend on."""
    if group == "help":  # argparse words its help otherwise in each Python
        return {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    found = {"machine": platform.machine()}
    if group == "pages":  # what fits into a size
        found["zlib"] = zlib.ZLIB_RUNTIME_VERSION
    for name in _PACKAGES[group]:
        try:
            found[name] = version(name).split("+")[0]
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _path(group: str) -> Path:
    python = f"-{versions(group)['python']}" if group == "help" else ""
    return _FOLDER / f"{group}{python}.json"


def load(group: str) -> tuple[dict[str, str], dict[str, Document]]:
    """The versions and results that were frozen; nothing where there are none for this Python."""
    path = _path(group)
    if not path.exists():
        return {}, {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["versions"], document["cases"]


def save(group: str, cases: dict[str, Document]) -> Path:
    """Freezes the results of a group."""
    path = _path(group)
    path.parent.mkdir(exist_ok=True)
    document = {"versions": versions(group), "cases": cases}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def run(case: Case, recordings: Path, folder: Path) -> tuple[Document, Seen]:
    """Runs a case in a folder of its own; its result as JSON gives it back, and its pictures."""
    link(recordings, folder)
    seen = Seen()
    with surroundings(folder):
        try:
            found: Any = case.run(seen)
        except replay.RecordingError as error:  # a result as well; any other one is a fault
            found = error_in_words(error)
    return json.loads(json.dumps(found, ensure_ascii=False)), seen


def _rounded(text: str) -> str:
    """A text whose long fractions have nine digits: the rest depends on the processor's sums."""
    return re.sub(r"\d+\.\d{9,}(e[-+]\d+)?", lambda match: f"{float(match[0]):.9g}", text)


def differences(frozen: Any, found: Any, where: str = "") -> list[str]:
    """Places in two results that differ, in the order of the frozen one."""
    if isinstance(frozen, dict) and isinstance(found, dict):
        keys = [*frozen, *(key for key in found if key not in frozen)]
        pairs = [(f"{where} {key}".strip(), frozen.get(key), found.get(key)) for key in keys]
    elif isinstance(frozen, list) and isinstance(found, list):
        count = max(len(frozen), len(found))
        longer = [each + [None] * (count - len(each)) for each in (frozen, found)]
        pairs = [(f"{where}[{n}]", a, b) for n, (a, b) in enumerate(zip(*longer, strict=True))]
    else:
        if frozen == found or (frozen != frozen and found != found):  # NaN is as NaN was
            return []
        if (
            isinstance(frozen, str)
            and isinstance(found, str)
            and _rounded(frozen) == _rounded(found)
        ):
            return []
        if isinstance(frozen, str) and isinstance(found, str) and len(frozen) > 100:
            pairs = enumerate(zip(frozen, found, strict=False))
            alike = next((n for n, (a, b) in pairs if a != b), min(len(frozen), len(found)))
            where = f"{where} from letter {alike}"
            frozen, found = (text[max(0, alike - 30) :][:100] for text in (frozen, found))
        return [f"{where}: frozen {frozen!r}, found {found!r}"]
    return [each for place, a, b in pairs for each in differences(a, b, place)]
