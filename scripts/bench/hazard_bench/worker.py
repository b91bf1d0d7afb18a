"""Takes one tool through rows, in a process of its own: a line of JSON for each.

    python worker.py TOOL ROW ...
    python worker.py TOOL --peer ROW FOLDER    (another process of a training of several)
    python worker.py TOOL --victim ROW FOLDER  (a training that will be killed)

The trainings without the tool come first, before it is imported.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import torch  # noqa: E402
from adapters import TOOLS, Kept, Tool, words_of  # noqa: E402
from every import ALL  # noqa: E402
from judge import CHANGED, NOT_OFFERED, Verdict, judge, judge_training  # noqa: E402
from rows import Ranks  # noqa: E402
from rows_processes import VICTIM  # noqa: E402
from training import Left, Nothing, Truth, train  # noqa: E402

KINDS = ("plain", "truth", "tool")  # the trainings of a row
WRITER_SECONDS = 3  # for a writer that outlives the training to come to its end


class Peers:
    """The other processes of a row's trainings: they make the same ones in the same order."""

    def __init__(self, name: str, tool: str) -> None:
        self.world = ALL[name].world
        self.failed = False  # whether this process has left a training early
        self.folder = tempfile.TemporaryDirectory()
        command = [sys.executable, __file__, tool, "--peer", name, self.folder.name]
        self.processes = [
            subprocess.Popen(command, env={**os.environ, Ranks.variable: str(rank)})
            for rank in range(1, self.world)
        ]

    @contextlib.contextmanager
    def together(self, kind: str) -> Iterator[None]:
        """A group of them and this process, for one training."""
        if self.world > 1:
            Ranks.join(Path(self.folder.name) / kind, self.world)
        yield
        if self.world > 1 and not self.failed:  # else the others wait for what does not come
            Ranks.leave()

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        if torch.distributed.is_initialized():  # a training failed
            torch.distributed.destroy_process_group()
        self.folder.cleanup()


def run(name: str, tool: str, kind: str, folder: Path) -> tuple[Left, Tool | Truth | None]:
    """One training: `plain`, `truth` or `tool`."""
    row, made = ALL[name], TOOLS[tool]
    if kind == "plain":
        return train(row, Nothing()), None
    if kind == "truth":
        truth = Truth(row, made.whole)
        return train(row, None, truth), truth
    used = made(row, folder)
    return train(row, used), used


def peer(tool: str, name: str, folder: str) -> None:
    """All that a peer does; it ends with the process that started it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    for kind in KINDS:
        Ranks.join(Path(folder) / kind, ALL[name].world)
        with tempfile.TemporaryDirectory() as own:
            left, used = run(name, tool, kind, Path(own))
            if left.failed is not None:
                raise left.failed
            if isinstance(used, Tool):
                used.kept()  # a tensor that is spread over processes is gathered by all of them
        Ranks.leave()


def victim(tool: str, name: str, folder: str) -> None:
    """Trains until it is killed, and says how far it has come."""
    train(ALL[name], TOOLS[tool](ALL[name], Path(folder)))
    print("end", flush=True)


def kill(tool: str, name: str, folder: Path) -> Kept:
    """Kills a training after some batches, and reads what is on the disk."""
    row = ALL[name]
    command = [sys.executable, __file__, tool, "--victim", name, str(folder)]
    environment = {**os.environ, VICTIM: "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for number, line in enumerate(process.stdout):
        if number + 1 == row.killed or line == "end\n":
            break
    else:
        return Kept({}, words=["the training ended by itself"])
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(WRITER_SECONDS)
    return TOOLS[tool](row, folder).recovered()


def take(name: str, tool: str, known: tuple[Left, Truth], peers: Peers) -> Verdict:
    """One row with the tool."""
    row, (plain, truth) = ALL[name], known
    if row.killed and not TOOLS[tool].on_disk:
        return Verdict(NOT_OFFERED, "keeps nothing on disk that it reads back")
    with tempfile.TemporaryDirectory() as folder:
        if row.killed:
            return judge(row, truth.batches, kill(tool, name, Path(folder)), [], TOOLS[tool].whole)
        with peers.together("tool"):
            left, used = run(name, tool, "tool", Path(folder))
            assert isinstance(used, Tool)
            peers.failed = left.failed is not None
            kept = Kept() if peers.failed else used.kept()
        found = judge_training(plain, left)
        if found is not None:
            return found
        said = words_of(tool, [text for text in left.warnings if text not in plain.warnings])
        return judge(row, truth.batches, kept, said, used.whole)


def version(tool: str) -> str:
    """The tool's release; a hook is torch's own."""
    if tool == "mapreel":
        import record

        return record.__version__
    return "" if tool == "hook" else importlib.metadata.version(tool.partition("-")[0])


def go_through(tool: str, names: list[str]) -> None:
    """Prints the releases, then a verdict for each row, behind a line that says that it begins."""
    print(json.dumps({"tool": version(tool), "torch": torch.__version__}), flush=True)
    known = {}
    for name in names:
        peers = Peers(name, tool)
        with peers.together("plain"):
            plain, _ = run(name, tool, "plain", Path())
        with peers.together("truth"):
            left, truth = run(name, tool, "truth", Path())
        for failed in (plain.failed, left.failed):
            if failed is not None:
                raise RuntimeError(f"row {name} fails by itself") from failed
        assert isinstance(truth, Truth)
        known[name] = plain, truth, peers
    for name in names:
        print(json.dumps({"begun": name}), flush=True)
        plain, truth, peers = known[name]
        try:
            verdict = take(name, tool, (plain, truth), peers)
        except Exception as error:
            traceback.print_exc()
            verdict = Verdict(CHANGED, f"{type(error).__name__}: {error}"[:160])
        peers.end()
        print(json.dumps({"row": name, "word": verdict.word, "note": verdict.note}), flush=True)


def main() -> None:
    tool, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    if rest[0] == "--peer":
        peer(tool, *rest[1:])
    elif rest[0] == "--victim":
        victim(tool, *rest[1:])
    else:
        go_through(tool, rest)


if __name__ == "__main__":
    main()
