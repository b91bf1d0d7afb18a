"""`record run` keeps a fixed image by default; the script trains to the same weights without it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from script_runs import SCRIPTS, Record

import replay


@pytest.mark.parametrize("name", ["classify", "siamese"])
def test_the_first_image_of_the_first_batch(
    name: str, tmp_path: Path, python_warm: Record, record_warm: Record
) -> None:
    script = SCRIPTS / f"{name}.py"
    plain = python_warm(script, cwd=tmp_path)
    recorded = record_warm(script, cwd=tmp_path)
    assert recorded.returncode == plain.returncode == 0, recorded.stderr
    assert recorded.stdout == plain.stdout  # with the weights' checksum in it
    (line,) = recorded.stderr.removeprefix(plain.stderr).splitlines()
    assert re.fullmatch(
        r"mapreel: recorded \d+ batches of \w+, \d layers, [\d.]+ kB: run\.h5; .*animate run\.h5",
        line,
    )
    with replay.open(tmp_path / "run.h5") as recording:
        fixed = recording.probe(0)
        assert fixed.layers == tuple(n for n in recording.layers if "#" not in n)  # one forward
        for layer in fixed.layers:
            assert fixed[layer].frames[:3] == recording.frames[:3]
        assert fixed.inputs[0, 0].tobytes() == recording.inputs[0, 0].tobytes()
        first = recording.frames[0]
        # The network is in evaluation mode, but has no layer to which that matters.
        there, here = fixed[layer][first], recording[layer][first]
        assert there.shape == here.shape


def test_probe_0_keeps_none(tmp_path: Path, record_warm: Record) -> None:
    done = record_warm("--probe", "0", SCRIPTS / "classify.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "run.h5") as recording:
        assert recording.probes == 0


def test_what_is_no_number_of_probes(tmp_path: Path, record_warm: Record) -> None:
    done = record_warm("--probe", "2", SCRIPTS / "classify.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --probe 2: expected 1 or classes, or 0 for none")


def test_where_there_is_none_the_line_says_why(tmp_path: Path, record_warm: Record) -> None:
    done = record_warm(SCRIPTS / "vae.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no fixed image (its parts are called directly): run.h5; " in done.stderr
    with replay.open(tmp_path / "run.h5") as recording:
        assert recording.probes == 0
