"""Trainings with the real packages under `record run`, each held against what its script noted.

The scripts lie in scripts/wild_scripts, and know nothing of a recorder but for those that say
`recorded by: a recipe`. Each runs twice, alone and recorded. A package that is not there is
installed, in the range of the extra `wild`; one that does not install is said, its scripts skipped.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np

import replay

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "wild_scripts"
COLUMNS = (
    "script", "epochs x batches", "picture", "maps", "loss", "layers", "verify", "output",
)  # fmt: skip
OURS = "mapreel: "


@dataclass
class Script:
    """A training, and what its first lines say of it."""

    path: Path
    title: str
    packages: list[str]
    arguments: list[str]
    recipe: bool

    @classmethod
    def read(cls, path: Path) -> Script | None:
        """Returns None for a module that the scripts share."""
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        words = dict(re.findall(r"^([a-z ]+): (.+)$", text, re.M))
        if "packages" not in words:
            return None
        return cls(
            path,
            text.splitlines()[0].rstrip("."),
            words["packages"].split(", "),
            words.get("arguments", "").split(),
            words.get("recorded by") == "a recipe",
        )


@dataclass
class Found:
    """What is right of one script; an empty `wrong` means everything."""

    script: str
    title: str
    versions: dict[str, str] = field(default_factory=dict)
    skipped: str = ""
    wrong: list[str] = field(default_factory=list)
    cells: dict[str, list[str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def tell(self, column: str, right: bool, words: str, wrong: str = "") -> None:
        """Puts a cell, one for each recording of the script; what is wrong is told in full."""
        self.cells.setdefault(column, []).append(words if right else f"**{words}**")
        if not right:
            self.wrong.append(f"{column}: {wrong or words}")


# Packages


@cache
def declared() -> dict[str, str]:
    """The packages of the extra `wild`, with their ranges."""
    lines = importlib.metadata.requires("mapreel") or []
    found = [line.partition(";")[0].strip() for line in lines if re.search(r"extra == .wild", line)]
    return {re.split(r"[<>=!~]", line)[0]: line for line in found}


@cache
def install(package: str) -> str:
    """Returns why the package cannot be had; nothing if it is there."""
    try:
        importlib.metadata.version(package)
        return ""
    except importlib.metadata.PackageNotFoundError:
        print(f"installing {package}", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "-c", "constraints.txt", declared().get(package, package)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return f"{package} does not install: {lines[-1] if lines else done.stderr.strip()[-200:]}"


# Running


def run(
    words: Sequence[object], folder: Path, limit: float, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python in a folder, offline."""
    there = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "YOLO_OFFLINE": "True",
        "KERAS_BACKEND": "torch",
        "CUDA_VISIBLE_DEVICES": "",
        **environment,
    }
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=there,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=limit,
        check=False,
    )


def examine(script: Script, folder: Path, limit: float) -> Found:
    """Runs a script alone and recorded, and compares."""
    found = Found(script.path.stem, script.title)
    reasons = [reason for package in script.packages if (reason := install(package))]
    if reasons:
        found.skipped = reasons[0]
        return found
    found.versions = {name: importlib.metadata.version(name) for name in script.packages}
    start = time.perf_counter()
    words = [script.path, *script.arguments]
    done = []
    folder.mkdir(parents=True)
    for name in ("alone", "recorded"):
        there = folder / "there"  # both at the same place, so that paths in the output are the same
        there.mkdir()
        before: list[object] = []
        environment = {"WILD_TRUTH": str(folder / f"{name}.npz"), "YOLO_CONFIG_DIR": str(there)}
        if name == "recorded" and script.recipe:
            environment["WILD_RECORD"] = "run.h5"
        elif name == "recorded":
            before = ["-m", "record", "run"]
        try:
            done.append(run([*before, *words], there, limit, **environment))
        except subprocess.TimeoutExpired:
            found.wrong.append(f"{name}: not done after {limit:.0f} s")
            return found
        there.rename(folder / name)
        (folder / f"{name}.out").write_text(done[-1].stdout)
        (folder / f"{name}.err").write_text(done[-1].stderr)
    found.seconds = time.perf_counter() - start
    alone, recorded = done
    found.said = [
        line.removeprefix(OURS) for line in recorded.stderr.splitlines() if line.startswith(OURS)
    ]
    if alone.returncode != 0 and not (folder / "alone.npz").exists():
        lines = alone.stderr.strip().splitlines()
        found.wrong.append(f"it fails alone: {lines[-1] if lines else alone.returncode}")
        return found
    compare_outputs(found, alone, recorded)
    if not (folder / "recorded.npz").exists():
        found.wrong.append("recorded, the script did not come to its end")
        return found
    with np.load(folder / "alone.npz") as one, np.load(folder / "recorded.npz") as other:
        differing = [key for key in one if key not in other or not same(one[key], other[key])]
        if differing:
            found.wrong.append(f"the training is another one than alone: {differing[0]}")
        count = sum(key.endswith("/at") for key in other)
        for number in range(count):
            compare_recording(found, other, number, folder / "recorded")
    files = sorted((folder / "recorded").rglob("*.h5"))
    if len(files) != count:
        names = ", ".join(file.name for file in files) or "none"
        found.wrong.append(f"{count} trainings, {len(files)} recordings: {names}")
    return found


def compare_outputs(
    found: Found,
    alone: subprocess.CompletedProcess[str],
    recorded: subprocess.CompletedProcess[str],
) -> None:
    """Output and exit code are those of the script alone, but for our own lines."""
    rest = [line for line in recorded.stderr.splitlines() if not line.startswith(OURS)]
    differing = [
        name
        for name, right in (
            ("stdout", alone.stdout == recorded.stdout),
            ("stderr", alone.stderr.splitlines() == rest),
            (f"exit code {recorded.returncode}", alone.returncode == recorded.returncode),
        )
        if not right
    ]
    found.tell("output", not differing, ", ".join(differing) or "same")


def compare_recording(found: Found, truth: np.lib.npyio.NpzFile, number: int, folder: Path) -> None:
    """One recording against what the script noted."""
    at = [(int(epoch), int(batch)) for epoch, batch in truth[f"{number}/at"]]
    pictures = [truth[f"{number}/image/{place}"] for place in range(len(at))]
    maps = [truth[f"{number}/map/{place}"] for place in range(len(at))]
    losses = truth[f"{number}/loss"]
    path = folder / str(truth[f"{number}/file"])
    if not path.exists():
        found.wrong.append(f"no recording {path.name}")
        for column in COLUMNS[1:-1]:
            found.cells.setdefault(column, []).append("**-**")
        return
    try:
        with replay.open(path) as recording:
            frames = list(recording.frames)
            shape = in_words(at)
            words = shape if frames == at else f"{in_words(frames)} for {shape}"
            found.tell("epochs x batches", frames == at, words)
            # If the numbers are others, the frames are still those of the batches in their order.
            pairs = list(zip(frames, range(len(at)), strict=False))
            right = sum(picture_is(recording, where, pictures[place]) for where, place in pairs)
            found.tell("picture", right == len(at), f"{right} of {len(at)}")
            layer = str(truth[f"{number}/layer"])
            names = find_layers(list(recording.layers), layer)
            right = sum(
                any(same(recording[name][where], maps[place]) for name in names)
                for where, place in pairs
            )
            there = ", ".join(list(recording.layers)[:4])
            no_layer = "" if names else f"no {layer} among {there} ..."
            found.tell("maps", right == len(at), f"{right} of {len(at)}", no_layer)
            written = [float(recording.batches["loss"][where]) for where in frames]
            right = sum(
                abs(written[place] - losses[place]) <= 1e-5 * abs(losses[place])
                for _, place in pairs
            )
            found.tell("loss", right == len(at), f"{right} of {len(at)}")
            found.tell("layers", len(recording.layers) > 0, str(len(recording.layers)))
            if recording.lost or recording.dropped:
                found.wrong.append(f"{recording.lost} lost, {recording.dropped} dropped")
    except replay.RecordingError as error:
        found.wrong.append(f"{path.name}: {error}")
    done = run(["-m", "replay", "verify", path, "--quiet"], folder, 300)
    clean = done.returncode == 0
    found.tell("verify", clean, "clean" if clean else (done.stdout + done.stderr).strip()[:200])


def picture_is(recording: replay.Recording, where: tuple[int, int], picture: np.ndarray) -> bool:
    """Whether this is the recorded picture; there may be none."""
    try:
        return same(recording.inputs[where], picture)
    except replay.RecordingError:
        return False


def find_layers(names: Sequence[str], layer: str) -> list[str]:
    """What the script's model calls so: within another model, and once for each size of a map."""
    ends = [(name, name.partition("@")[0]) for name in names]
    return [
        name for name, end in ends if f".{end}".endswith(f".{layer}") or layer.endswith(f".{end}")
    ]


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are the same to the bit."""
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    )


def in_words(frames: Sequence[tuple[int, int]]) -> str:
    """`2 x 6`, or `6 + 4` where epochs differ."""
    counts = [0] * (max((epoch for epoch, _ in frames), default=-1) + 1)
    for epoch, _ in frames:
        counts[epoch] += 1
    if len(set(counts)) == 1:
        return f"{len(counts)} x {counts[0]}"
    return " + ".join(map(str, counts)) or "nothing"


# Telling


def row(found: Found) -> list[str]:
    """The cells of the table."""
    if found.skipped:
        return [f"`{found.script}`: skipped", *[""] * (len(COLUMNS) - 1)]
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    cells = [f"`{found.script}`: {found.title} ({versions})"]
    for column in COLUMNS[1:]:
        cells.append(", ".join(dict.fromkeys(found.cells.get(column, ["-"]))))
    return cells


def print_row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |", flush=True)


def main() -> int:
    """Returns 1 if something is wrong of a script, otherwise 0."""
    parser = argparse.ArgumentParser(prog="scripts/wild", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these scripts")
    parser.add_argument("--list", action="store_true", help="name the scripts and stop")
    parser.add_argument("--json", action="store_true", help="print one document")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was made in it")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a run (%(default)s)")
    asked = parser.parse_args()
    scripts = [script for path in sorted(SCRIPTS.glob("*.py")) if (script := Script.read(path))]
    names = [script.path.stem for script in scripts]
    if unknown := set(asked.only or ()) - set(names):
        parser.error(f"no script {', '.join(sorted(unknown))}; see --list")
    scripts = [script for script in scripts if not asked.only or script.path.stem in asked.only]
    if asked.list:
        for script in scripts:
            print(f"{script.path.stem:24} {script.title} ({', '.join(script.packages)})")
        return 0
    if asked.keep and asked.keep.exists() and any(asked.keep.iterdir()):
        parser.error(f"--keep {asked.keep}: expected an empty folder")

    everything = []
    if not asked.json:
        print_row(COLUMNS)
        print_row(["---"] * len(COLUMNS))
    with tempfile.TemporaryDirectory() as temporary:
        for script in scripts:
            folder = (asked.keep or Path(temporary)).resolve() / script.path.stem
            found = examine(script, folder, asked.limit)
            everything.append(found)
            if not asked.json:
                print_row(row(found))
    wrong = [found for found in everything if found.wrong]
    skipped = [found for found in everything if found.skipped]
    if asked.json:
        document = {
            "versions": versions(),
            "date": str(date.today()),
            "scripts": [vars(found) for found in everything],
        }
        print(json.dumps(document, indent=2))
    else:
        print()
        for found in wrong:
            print(f"- `{found.script}` is wrong: {'; '.join(dict.fromkeys(found.wrong))}")
        for found in skipped:
            print(f"- `{found.script}` was skipped: {found.skipped}")
        right = len(everything) - len(wrong) - len(skipped)
        print(
            f"{right} of {len(everything)} right, {len(wrong)} wrong, {len(skipped)} skipped;",
            end=" ",
        )
        print(", ".join(f"{name} {version}" for name, version in versions().items()), end="; ")
        print(date.today())
    return 1 if wrong else 0


def versions() -> dict[str, str]:
    """What the scripts share."""
    names = ("mapreel", "torch", "torchvision", "numpy")
    python = ".".join(map(str, sys.version_info[:3]))
    return {"Python": python, **{name: importlib.metadata.version(name) for name in names}}


if __name__ == "__main__":
    sys.exit(main())
