"""The table of hazards: rows, each a tiny training, by tools that keep what layers put out.

A frame is held against hooks that clone at once, the training against one without any tool. Exit
code 1 says that mapreel recorded a frame wrong, lost one in silence, or changed a training, or that
this could not be found out.

right: all frames are there and equal. refused openly: the tool raised an error before the first
step. lost and counted: what is there is right, the rest is counted or warned of. wrong in silence,
lost in silence: without a word. training changed: other weights, other results or an error.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from environments import PACKAGES, ROOT, SAME, python_of  # noqa: E402
from every import ALL  # noqa: E402

TOOLS = ("mapreel", "hook", "nansense", "torchlens", "activationscope", "activationscope-disk")
TITLES = {
    "mapreel": "mapreel",
    "hook": "forward hook, `.detach()` in a list",
    "nansense": "NaNsense",
    "torchlens": "TorchLens `fastlog`",
    "activationscope": "ActivationScope",
    "activationscope-disk": "ActivationScope, `StoragePolicy.DISK`",
}
HANGS, SKIPPED = "did not end", "skipped"
GOOD = ("right", "lost and counted", "refused openly")
MARKS = ("<!-- the table -->", "<!-- the end of the table -->")
ROW_SECONDS = 120.0
START_SECONDS = 400.0  # until the trainings without the tool have been made


def command_of(python: Path, tool: str, *arguments: str) -> list[str]:
    return [str(python), "-W", "ignore", str(HERE / "worker.py"), tool, *arguments]


def environment() -> dict[str, str]:
    """Few threads, and no path by which one environment's packages get into another."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def take(python: Path, tool: str, rows: list[str]) -> Iterator[dict[str, str]]:
    """Releases, then verdicts row by row; after a row that kills its process another goes on."""
    left = list(rows)
    while left:
        begun = None
        with tempfile.TemporaryFile("w+") as errors:
            with subprocess.Popen(
                command_of(python, tool, *left),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(),
                start_new_session=True,
            ) as process:
                for message in _messages(process):
                    if "begun" in message:
                        begun = message["begun"]
                        continue
                    if "row" in message:
                        left.remove(message["row"])
                        begun = None
                    yield message
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no word"])[-1][:200]
        if left and begun is None:  # not one row's doing
            yield from ({"row": row, "word": SKIPPED, "note": last} for row in left)
            return
        if begun is not None:
            left.remove(begun)
            code = process.returncode
            if code == -signal.SIGKILL:
                yield {"row": begun, "word": HANGS, "note": f"within {ROW_SECONDS:.0f} s"}
            else:
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                note = f"its process ended with {how}: {last}"
                yield {"row": begun, "word": "training changed", "note": note}


def _messages(process: subprocess.Popen[str]) -> Iterator[dict[str, str]]:
    """What a worker says, until it ends or a row takes too long; then it is killed."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    seconds = START_SECONDS
    while True:
        try:
            line = lines.get(timeout=seconds)
        except queue.Empty:
            os.killpg(process.pid, signal.SIGKILL)
            return
        if line is None:
            return
        if line.startswith("{"):
            seconds = ROW_SECONDS
            yield json.loads(line)


def fill(tools: list[str], rows: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Releases by tool, and verdicts by row and tool."""
    about: dict[str, Any] = {tool: {"tool": "", "torch": "", "remark": ""} for tool in tools}
    table: dict[str, dict[str, Any]] = {row: {} for row in rows}
    for tool in tools:
        print(f"{tool} ...", file=sys.stderr, flush=True)
        package = PACKAGES.get(SAME.get(tool, tool))
        try:
            messages = take(python_of(tool), tool, rows)
            about[tool]["remark"] = package.remark if package else ""
        except RuntimeError as error:
            messages = iter([{"row": row, "word": SKIPPED, "note": str(error)} for row in rows])
        for message in messages:
            if "torch" in message:
                about[tool].update(message)
            else:
                note = without_paths(message["note"])
                table[message["row"]][tool] = {"word": message["word"], "note": note}
    return about, table


def without_paths(text: str) -> str:
    """What was seen, without the folders of the machine on which it was seen."""
    return re.sub(r"(?<![\w:/])(/[\w.=+@-]+){2,}/", ".../", text)


def show(
    tools: list[str], words: dict[str, str], about: dict[str, Any], table: dict[str, Any]
) -> Iterator[str]:
    """The table, line by line, and beneath it what was seen where it is not `right`."""
    heads = [f"{TITLES[tool]} {about[tool]['tool']}".strip() for tool in tools]
    yield f"| | {' | '.join(heads)} |"
    yield f"|---|{'---|' * len(tools)}"
    for row, cells in table.items():
        yield f"| {words[row]} | {' | '.join(cells[tool]['word'] for tool in tools)} |"
    counts = {tool: Counter(cells[tool]["word"] for cells in table.values()) for tool in tools}
    silent = [str(counts[tool]["wrong in silence"]) for tool in tools]
    yield f"| **wrong in silence** | {' | '.join(silent)} |"
    for tool in tools:
        if about[tool]["remark"]:
            yield f"\n{heads[tools.index(tool)]}: {about[tool]['remark']}."
    for tool in tools:
        yield f"\nWhat was seen of {TITLES[tool]} where it is not `right`, or not of all layers:\n"
        others = [(row, cells[tool]) for row, cells in table.items()]
        others = [(row, c) for row, c in others if c["word"] != "right" or "not look" in c["note"]]
        for row, cell in others:
            note = cell["note"].replace("|", "/").replace("<", "&lt;").replace("`", "'")
            yield f"- {words[row]}: {cell['word']}{f': {note}' if note else ''}"
        if not others:
            yield "- nothing"


def put_into(path: Path, lines: list[str]) -> None:
    """Puts the table between the two marks of a document."""
    before, mark, rest = path.read_text().partition(MARKS[0] + "\n")
    _, end, after = rest.partition(MARKS[1])
    if not (mark and end):
        raise SystemExit(
            f"{path}: expected the lines {MARKS[0]} and {MARKS[1]}, found neither or one"
        )
    path.write_text(f"{before}{mark}{chr(10).join(lines)}\n{end}{after}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="ROW", help="some rows; --list names them")
    parser.add_argument("--tools", default=",".join(TOOLS), help="some tools, joined by commas")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--into", type=Path, help="a document whose table is replaced by this one")
    parser.add_argument("--list", action="store_true", help="names the rows and the tools")
    options = parser.parse_args(arguments)
    words = {name: row.what for name, row in ALL.items()}
    tools = options.tools.split(",")
    rows = options.only or list(words)
    for name, known in [*((t, TOOLS) for t in tools), *((r, tuple(words)) for r in rows)]:
        if name not in known:
            parser.error(f"expected some of {', '.join(known)}; found {name!r}")
    if options.list:
        print("\n".join([*(f"{row:<22} {what}" for row, what in words.items()), *TOOLS]))
        return 0
    about, table = fill(tools, rows)
    releases = sorted({entry["torch"] for entry in about.values() if entry["torch"]})
    given = [word for word in arguments or sys.argv[1:] if word != str(options.into)]
    command = " ".join(["scripts/bench/hazards", *(word for word in given if word != "--into")])
    title = f"{datetime.date.today()}, `{command}`, torch {', '.join(releases)}:\n"
    lines = [title, *show(tools, words, about, table)]
    if options.json:
        document = {"date": str(datetime.date.today()), "tools": about, "rows": table}
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(lines))
    if options.into is not None:
        put_into(options.into, lines)
    mine = [cells["mapreel"]["word"] for cells in table.values() if "mapreel" in cells]
    return 0 if all(word in GOOD for word in mine) else 1


if __name__ == "__main__":
    sys.exit(main())
