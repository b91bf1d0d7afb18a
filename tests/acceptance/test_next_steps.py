"""Each success ends with the path and with a next command that works as it is typed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from command_lines import ROOT, install_programs, run
from samples import drifting_maps, write_recording
from warm import WarmPython

SCRIPT = """
import torch
from torch import nn
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(3):
    nn.functional.cross_entropy(model(torch.rand(2, 3, 8, 8)), torch.tensor([0, 1])).backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_programs(tmp_path_factory.mktemp("my venv") / "bin")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "my runs"
    found.mkdir()

    def dead(epoch: int, batch: int) -> np.ndarray:
        return np.zeros((2, 8, 8), "f2")

    write_recording(found / "a run.h5", {"conv 1": drifting_maps(4, 8, 8), "b": dead}, epochs=2)
    write_recording(found / "b.h5", {"conv 1": drifting_maps(4, 8, 8)}, epochs=2)
    return found


def offered(said: str) -> str:
    """The command behind `next:`, which is the last line."""
    line = said.splitlines()[-1]
    assert line.startswith("next: "), said
    return line.removeprefix("next: ")


@pytest.mark.parametrize(
    ("words", "written", "then"),
    [
        ("info 'a run.h5'", "", "animate 'a run.h5'"),
        ("info 'a run.h5' b.h5", "", "compare 'a run.h5' b.h5"),
        ("verify b.h5", "", "health b.h5"),
        ("health 'a run.h5'", "", "health 'a run.h5' -o 'a run-health.png'"),
        ("health 'a run.h5' -o h.png", "", "sheet 'a run.h5' --layer b"),
        ("repair 'a run.h5' -o 'new run.h5'", "new run.h5", "verify 'new run.h5'"),
        ("animate 'a run.h5'", "a run.mp4", "page 'a run.h5'"),
        ("compare 'a run.h5' b.h5", "a run-b.mp4", "page 'a run.h5' b.h5 -o 'a run-b.html'"),
        ("grid 'a run.h5' --layer 'conv 1'", "a run-grid.png", "sheet 'a run.h5' --layer 'conv 1'"),
        ("sheet 'a run.h5'", "a run-sheet.png", "animate 'a run.h5'"),
        ("page 'a run.h5'", "a run.html", "animate 'a run.h5'"),
        ("page 'a run.h5' b.h5", "a run.html", "compare 'a run.h5' b.h5"),
        ("export b.h5 -o maps/", "maps", "info b.h5"),
    ],
)
def test_replay_ends_with_path_and_command(
    words: str, written: str, then: str, folder: Path, programs: Path, warm: WarmPython
) -> None:
    done = run("mapreel", "replay", *shlex.split(words), cwd=folder, path=programs, warm=warm)
    assert done.returncode == 0, done.stderr
    if written:
        assert done.stdout.splitlines()[-1].startswith(f"{written}  ")
        assert (folder / written).exists()
    assert offered(done.stderr) == f"mapreel replay {then}"
    typed = run("bash", "-c", offered(done.stderr), cwd=folder, path=programs)
    assert typed.returncode == 0, typed.stderr


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_what_was_exported_is_loaded(
    suffix: str, folder: Path, programs: Path, warm: WarmPython
) -> None:
    words = ("mapreel", "replay", "export", "b.h5", "-o", f"it's.{suffix}")
    done = run(*words, cwd=folder, path=programs, warm=warm)
    typed = run("bash", "-c", offered(done.stderr), cwd=folder)
    assert typed.stdout.strip() == "(8, 4, 8, 8)", typed.stderr


def test_damage_is_answered_with_a_repair(folder: Path, programs: Path, warm: WarmPython) -> None:
    import h5py

    with h5py.File(folder / "a run.h5", "r+") as file:
        file["maps/b"][0, 0, 0, 0, 0] = 3
    done = run("mapreel", "replay", "verify", "a run.h5", cwd=folder, path=programs, warm=warm)
    assert done.returncode == 1
    assert offered(done.stderr) == "mapreel replay repair 'a run.h5' -o 'a run-repaired.h5'"
    typed = run("bash", "-c", offered(done.stderr), cwd=folder, path=programs)
    assert typed.returncode == 0
    again = run("mapreel", "replay", "verify", "a run.h5", cwd=folder, path=programs, warm=warm)
    assert offered(again.stderr).endswith("-o 'a run-2-repaired.h5'")


@pytest.mark.parametrize(
    "words",
    ["info b.h5 --json", "health b.h5 --csv", "animate b.h5 --quiet", "verify b.h5 --json"],
)
def test_nothing_is_offered_to_programs(
    words: str, folder: Path, programs: Path, warm: WarmPython
) -> None:
    done = run("mapreel", "replay", *words.split(), cwd=folder, path=programs, warm=warm)
    assert done.returncode == 0
    assert "next" not in done.stderr


def test_record_ends_with_a_command_of_replay(
    tmp_path: Path, programs: Path, warm: WarmPython
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ("mapreel", "record", "run", "-o", "my run.h5", "train.py")
    done = run(*words, cwd=tmp_path, path=programs, warm=warm)
    said = done.stderr.splitlines()[-1]
    assert ": my run.h5; " in said
    then = said.split("; ")[-1]
    assert then == "mapreel replay animate 'my run.h5'", done.stderr
    assert run("bash", "-c", then, cwd=tmp_path, path=programs).returncode == 0


def test_the_built_in_run_ends_with_a_command_of_replay(tmp_path: Path, warm: WarmPython) -> None:
    small = "--epochs 1 --samples 16 --image-size 32 --device cpu"
    done = run(sys.executable, "-m", "record", "train", *small.split(), cwd=tmp_path, warm=warm)
    lines = done.stdout.splitlines()
    assert lines[-1] == f"next       {sys.executable} -m replay animate run.h5 --probe", done.stderr
    assert any(line.startswith("file       run.h5 (") for line in lines)
    then = lines[-1].removeprefix("next").strip()
    assert run("bash", "-c", then, cwd=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_demo_prints_what_works_where_one_stands(elsewhere: bool, tmp_path: Path) -> None:
    """The script itself, with a training of one epoch and the environment that is there."""
    project = tmp_path / "my project"
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / "scripts").mkdir()
    for name, text in {
        "scripts/demo": (ROOT / "scripts" / "demo").read_text(),
        "scripts/setup": "#!/usr/bin/env bash\n",
        ".venv/bin/python": (
            '#!/usr/bin/env bash\n[ "$2 $3" = "record train" ] && set -- "$@" --epochs 1 '
            f'--samples 16 --image-size 32 --device cpu\nexec {sys.executable} "$@"\n'
        ),
    }.items():
        (project / name).write_text(text)
        (project / name).chmod(0o755)
    stands = tmp_path if elsewhere else project
    done = run(*(["my project/scripts/demo"] if elsewhere else ["scripts/demo"]), cwd=stands)
    assert done.returncode == 0, done.stderr
    ending = done.stdout.split("\n\n")[-1].splitlines()
    for line in ending[:-1]:
        path = line[22:].split("  (")[0]
        assert (stands / path).is_file(), line
        assert Path(path).is_absolute() == elsewhere
    assert not list(project.glob("demo/.unfinished"))
    then = ending[-1].removeprefix("next").strip()
    typed = run("bash", "-c", then, cwd=stands)
    assert typed.returncode == 0, typed.stderr
    assert (project / "demo" / "run.html").is_file()
