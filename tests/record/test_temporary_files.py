"""What a killed process left in the folder of temporary files is gone once another has run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import record

ROOT = Path(record.__file__).parents[1]

# Pushes to a run that takes what was made; or is killed once that lies in its folder.
PUSHING = """
import os, signal, sys, types
from pathlib import Path
from record.session import pushing
from replay.schema.destinations import Destination
from replay.trackers import handing_over

def make(path, to, *options):
    Path(to.value, "film.mp4").write_bytes(b"x")
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)

pushing._replay = make
handing_over.find_run = lambda to: types.SimpleNamespace(film_suffix=".mp4")
handing_over.hand_over = lambda folder, run: print(*os.listdir(folder))
push = pushing.Push("wandb", lambda text: None)
push._to = Destination("folder")

def use():
    push.push(Path("run.h5"), True)
"""
# Counts the recordings of a run, two of which have ended; or is killed then.
COUNTING = """
import os, signal
from record.launch.closing_lines import RecordingCount

def use():
    count = RecordingCount.begin()
    count.add(2)
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    print(count.total())
    count.remove()
"""
# Does so in a process that is killed, and then in its own; says what each has left.
BOTH = """
import tempfile
killed = not os.fork()
if killed:
    use()
assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
print("left", *(name[: len(".mapreel-")] for name in os.listdir(tempfile.gettempdir())), flush=True)
use()
print("left", *os.listdir(tempfile.gettempdir()))
"""


@pytest.mark.parametrize(("code", "said"), [(PUSHING, "film.mp4"), (COUNTING, "2")])
def test_nothing_is_left_once_another_has_run(code: str, said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code + BOTH],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["left .mapreel-", said, "left"]


def test_without_a_folder_the_recordings_of_this_process_are_known() -> None:
    code = """
import tempfile
def none(): raise FileNotFoundError("no usable temporary directory")
tempfile.gettempdir = none
from record.launch.closing_lines import RecordingCount
count = RecordingCount.begin()
count.add(2)
assert count.total() == 0
count.remove()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
