"""Python errors speak Python, command lines speak options; offered commands work as typed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import ROOT, install_programs, run
from samples import drifting_maps, write_recording

import record
import replay
from replay.__main__ import main
from replay.schema import RecordingError
from replay.schema.faces import command_line, spell

FLAG = re.compile(r"(?<![\w-])--?[a-z]")  # an option of a command line
PARAMETER = re.compile(r"\b[a-z_]+=|\bmax_mb\b")  # an argument of a call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(4, 8, 8)}, epochs=2)
    (tmp_path / "mine.npz").write_text("mine")
    (tmp_path / "run.alt.txt").mkdir()
    return tmp_path


BOTH = [
    # of replay: keywords of the call, words of the command
    ("export", {"out": "mine.npz"}, "-o mine.npz", "overwrite=True", "--overwrite"),
    ("repair", {"out": "mine.npz"}, "-o mine.npz", "overwrite=True", "--overwrite"),
    ("repair", {"out": "run.h5"}, "-o run.h5", "(out)", "(-o)"),
    ("animate", {"max_mb": 1e-5}, "--max-mb 0.00001", "input=False", "--no-input"),
    ("animate", {"max_mb": 1e-5}, "--max-mb 0.00001", "max_mb ", "--max-mb "),
    (
        "animate",
        {"preset": "slack", "codec": "av1"},
        "--preset slack --codec av1",
        "codec='av1'",
        "--codec av1",
    ),
    ("animate", {"preset": "slack", "out": "a.gif"}, "--preset slack -o a.gif", "out ", "-o "),
    ("animate", {"alt": True}, "--alt", "another out", "another -o"),
    ("grid", {"batch": "0,1"}, "--batch 0,1", "for batch,", "for --batch,"),
    ("grid", {"dpi": 2400, "epochs": ":"}, "--dpi 2400 --epochs :", "lower dpi", "lower --dpi"),
    ("page", {"max_mb": 1e-5}, "--max-mb 0.00001", "", ""),
]


@pytest.mark.parametrize(("name", "keywords", "words", "python", "options"), BOTH)
def test_an_error_names_an_option_as_it_is_spelled(
    name: str,
    keywords: dict[str, object],
    words: str,
    python: str,
    options: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name == "grid" and "dpi" in keywords:
        monkeypatch.setattr("replay.figures.grid_layout.too_large", lambda *_: True)
    with pytest.raises(RecordingError) as raised:
        getattr(replay, name)("run.h5", **keywords)
    assert python in str(raised.value)
    assert not FLAG.search(str(raised.value)), raised.value
    assert main([name, "run.h5", *words.split()]) == 2
    said = capsys.readouterr().err
    assert options in said
    assert not PARAMETER.search(said), said


def test_record_speaks_so_too(folder: Path) -> None:
    from torch import nn

    with pytest.raises(RecordingError, match=r"exists; .*\(overwrite=True\)$"):
        record.Recorder(nn.Conv2d(1, 1, 1), "run.h5")
    (folder / "train.py").write_text("print(1)")
    for words in (["train"], ["run", "train.py"]):
        done = run(sys.executable, "-m", "record", *words, cwd=folder)
        assert done.returncode == 2
        assert "(--overwrite)" in done.stderr


def test_a_recorder_in_a_recorded_script_speaks_python(folder: Path) -> None:
    (folder / "train.py").write_text(
        "from torch import nn\nimport record\nrecord.Recorder(nn.Conv2d(1, 1, 1), 'run.h5')\n"
    )
    done = run(sys.executable, "-m", "record", "run", "-o", "b.h5", "train.py", cwd=folder)
    assert "(overwrite=True)" in done.stderr


def test_warnings_speak_so_too() -> None:
    from replay.output import EncodeOptions
    from replay.raster.palette import Palette
    from replay.rendering.accessibility import Flashes

    flashes = Flashes(Palette("gray"), EncodeOptions(30.0))
    flashes.worst = 1.0
    assert "fps=6 or lower or a fixed image (probe)" in str(flashes.remark())
    with command_line():
        assert "--fps 6 or lower or a fixed image (--probe)" in str(flashes.remark())


def test_no_message_spells_an_option_by_itself() -> None:
    """In all of the packages but what only a command line reads: parsers, the built-in training."""
    only_commands = re.compile(r"/(cli|training|launch)/|__main__|/arguments\.py|options\.py")
    found = []
    for path in [*ROOT.glob("record/**/*.py"), *ROOT.glob("replay/**/*.py")]:
        if only_commands.search(str(path)):
            continue
        tree = ast.parse(path.read_text())
        apart = {  # docstrings, and texts that are for the one face
            id(text)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr)
            or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "choose")
            for text in ast.walk(node)
        }
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and id(node) not in apart and " " in text.strip():
                clear = text.replace("record train --probe 1", "")
                if re.search(r"(?<![\w-])--[a-z]{2,}\b(?!:)", clear):
                    found.append(f"{path}:{node.lineno}: {text}")
    assert not found


def test_how_values_are_spelled() -> None:
    wanted = {
        ("overwrite", True): ("overwrite=True", "--overwrite"),
        ("input", False): ("input=False", "--no-input"),
        ("fps", 6): ("fps=6", "--fps 6"),
        ("max_mb", None): ("max_mb", "--max-mb"),
        ("out", "a b.mp4"): ("out='a b.mp4'", "-o 'a b.mp4'"),
        ("layers", "conv1"): ("layers='conv1'", "--layer conv1"),
    }
    for (name, value), (python, option) in wanted.items():
        assert spell(name, value) == python
        with command_line():
            assert spell(name, value) == option


@pytest.mark.parametrize("way", ["path", "folder", "old", "python", "module", "named"])
def test_an_offered_command_begins_as_the_users_own(way: str, tmp_path: Path) -> None:
    """Damage is answered with a command that repairs: typed as it is printed, it works."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    write_recording(folder / "a run.h5", {"conv1": drifting_maps(4, 8, 8)}, epochs=2)
    programs = install_programs(folder / "bin")
    (folder / "python").symlink_to(sys.executable)
    begins = {
        "path": (["mapreel", "replay"], "mapreel replay "),
        "folder": (["bin/mapreel", "replay"], "bin/mapreel replay "),
        "old": (["mapreel-replay"], "mapreel-replay "),
        "python": ([sys.executable, "-m", "replay"], f"{sys.executable} -m replay "),
        "module": ([sys.executable, "-m", "mapreel", "replay"], f"{sys.executable} -m mapreel "),
        "named": (["python3", "-m", "replay"], "python3 -m replay "),
    }
    words, start = begins[way]
    path = programs if way in ("path", "old") else None
    if way == "named":
        if shutil.which("python3") is None:
            pytest.skip("there is no python3 in the path")
        words, path = ["python3", *words[1:]], Path(sys.executable).parent
    done = run(*words, "info", "a run.h5", cwd=folder, path=path)
    assert done.returncode == 0, done.stderr
    offered = done.stderr.split("next: ")[1].splitlines()[0]
    assert offered.startswith(start)
    assert "'a run.h5'" in offered
    typed = run("bash", "-c", offered, cwd=folder, path=path)
    assert typed.returncode == 0, typed.stderr


@pytest.mark.parametrize("command", ["info", "health"])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "iso8859-1"])
def test_what_stdout_cannot_spell_is_spelled_out(
    tmp_path: Path, command: str, encoding: str
) -> None:
    """As where output goes into a file on Windows, or in a shell without UTF-8."""
    modules = {"слой": "Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))"}
    path = write_recording(
        tmp_path / "run.h5",
        {"слой": drifting_maps(4, 8, 8)},
        modules=modules,
        meta={"model": "模型"},
    )
    found = subprocess.run(
        [sys.executable, "-m", "replay", command, path.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert rb"\u0441\u043b\u043e\u0439" in found.stdout
