"""Odd surroundings: closed streams, bytes that are no text, no folder for temporary files."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import replay

ROOT = Path(__file__).parents[3]
PROGRAM = textwrap.dedent(
    """
    import sys
    import numpy as np, record
    {before}
    with record.Writer(sys.argv[1], {meta}, quiet=True) as writer:
        for batch in range(5):
            writer.write(epoch=0, batch=batch, maps={{{name}: np.full((1, 2, 2), batch)}}, loss=1,
                         **{{{field}: 2.0}})
    assert (writer.committed, writer.lost) == (5, 0)
    """
)
NO_FOLDER = """
import tempfile
def none(*args, **options):
    raise FileNotFoundError(2, "No usable temporary directory found")
tempfile.TemporaryFile = none
"""


def record(
    path: bytes,
    streams: str = "",
    before: str = "",
    meta: str = "{}",
    name: str = "'a'",
    field: str = "'x'",
    arguments: tuple[bytes, ...] = (),
) -> None:
    """Records in a process of its own, whose streams the shell has closed."""
    code = PROGRAM.format(before=before, meta=meta, name=name, field=field)
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'exec "$0" "$@" {streams}',
            sys.executable,
            "-W",
            "error",
            "-c",
            code,
            path,
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")


@pytest.mark.parametrize("streams", ["0<&-", "0<&- 1>&-", "0<&- 2>&-", "0<&- 1>&- 2>&-", "1>&-"])
def test_closed_streams(tmp_path: Path, streams: str) -> None:
    path = tmp_path / "run.h5"
    record(os.fsencode(path), streams)
    with replay.open(path) as run:
        assert [float(run["a"][at][0, 0, 0]) for at in run["a"].frames] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "odd",
    [
        {"meta": r"{'who': 'a\udc80b'}"},
        {"field": r"'x\udcff'"},
        {"name": r"'layer\udcff'"},
        {"field": r"'x\0y'"},
        {"arguments": (b"\xff\xfe",)},
        {"before": NO_FOLDER},
    ],
    ids=["meta", "field", "layer", "zero", "argument", "no folder"],
)
def test_what_is_no_text_and_no_folder(tmp_path: Path, odd: dict[str, str]) -> None:
    path = tmp_path / "run.h5"
    record(os.fsencode(path), **odd)  # type: ignore[arg-type]
    with replay.open(path) as run:
        assert len(run[run.layers[0]].frames) == 5

        repr(run).encode()
    assert not replay.verify(path).problems
    assert sorted(os.listdir(tmp_path)) == ["run.h5"]


def test_a_path_of_any_bytes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/run\xff.h5"
    try:
        with open(path, "wb"):
            pass
    except OSError:
        pytest.skip("not tested: this file system takes no such name")
    os.unlink(path)
    record(path)
    with replay.open(os.fsdecode(path)) as run:
        assert len(run["a"].frames) == 5
    assert os.listdir(os.fsencode(tmp_path)) == [b"run\xff.h5"]
