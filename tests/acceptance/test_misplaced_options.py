"""`record run script.py --overwrite`: an option of mapreel's that goes to the script is explained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_lines import run

PLAIN = "print('trained')\n"
STRICT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
print("epochs", parser.parse_args().epochs)
"""
OWN = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--overwrite", action="store_true")
parser.add_argument("--every", type=int)
print("own", parser.parse_args().overwrite)
"""
FAILING = OWN + "raise SystemExit('no data')\n"


def record(tmp_path: Path, script: str, *words: str) -> tuple[int, str, list[str]]:
    """Exit code, what the script said, and what mapreel said."""
    (tmp_path / "train.py").write_text(script)
    done = run(sys.executable, "-m", "record", "run", *words, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if "stand" in line and "behind" in line]
    return done.returncode, done.stdout, lines


def test_what_the_script_cannot_know_is_explained_at_once(tmp_path: Path) -> None:
    code, out, said = record(tmp_path, PLAIN, "train.py", "--every", "3", "-o", "a.h5", "--x")
    assert (code, out) == (0, "trained\n")
    assert len(said) == 1
    assert "--every, -o stand behind train.py and go to it" in said[0]
    assert said[0].endswith("-m record run --every -o train.py ...")


def test_a_script_that_refuses_it(tmp_path: Path) -> None:
    code, _, said = record(tmp_path, STRICT, "train.py", "--epochs", "2", "--budget=2GB")
    assert code == 2
    assert len(said) == 1
    assert "--budget stands behind train.py and goes to it" in said[0]


def test_an_option_of_the_script_is_its_own(tmp_path: Path) -> None:
    assert record(tmp_path, OWN, "train.py", "--overwrite", "--every=2") == (0, "own True\n", [])
    assert record(tmp_path, STRICT, "train.py", "--epochs", "2") == (0, "epochs 2\n", [])
    assert record(tmp_path, PLAIN, "train.py", "--", "--every") == (0, "trained\n", [])


def test_unless_the_script_fails(tmp_path: Path) -> None:
    code, _, said = record(tmp_path, FAILING, "train.py", "--overwrite")
    assert code == 1
    assert len(said) == 1


def test_overwrite_behind_the_script_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "run.h5").write_text("mine")
    for script in (PLAIN, OWN):
        code, out, said = record(tmp_path, script, "train.py", "--overwrite")
        assert (code, out) == (2, "")
        assert len(said) == 1
        assert said[0].startswith("error: ")
        assert "exists" in said[0]
        assert "--overwrite stands behind train.py and goes to it" in said[0]
    assert (tmp_path / "run.h5").read_text() == "mine"


def test_a_module_is_explained_likewise(tmp_path: Path) -> None:
    code, out, said = record(tmp_path, PLAIN, "-m", "train", "--include-eval")
    assert (code, out) == (0, "trained\n")
    assert said[0].endswith("-m record run --include-eval -m train ...")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere.py", "error: cannot read the script nowhere.py: No such file or directory"),
        ("--every 0 nowhere.py", "error: cannot read the script nowhere.py"),
        ("-m nowhere.at.all", "error: -m nowhere.at.all: no module named 'nowhere'"),
        ("-m nowhere", "error: -m nowhere: no module named 'nowhere'"),
        ("tarin.py", "did you mean 'train.py'?"),
    ],
)
def test_a_missing_script_is_told_before_anything_else(
    tmp_path: Path, words: str, message: str
) -> None:
    (tmp_path / "train.py").write_text(PLAIN)
    (tmp_path / "run.h5").write_text("mine")
    done = run(sys.executable, "-m", "record", "run", *words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "run.h5" not in done.stderr
