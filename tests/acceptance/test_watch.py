"""`watch` before there is anything to watch, and the browser that it opens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from samples import drifting_maps, write_recording

from replay.cli import waiting

ROOT = Path(__file__).parents[2]
BROWSER = """#!/bin/sh
echo "$1" > "$(dirname "$0")/opened"
"""


def watch(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    known = {key: value for key, value in os.environ.items() if not key.endswith("DISPLAY")}
    return subprocess.Popen(
        [sys.executable, "-m", "replay", "watch", "run.h5", "--port", "0", *words],
        cwd=folder,
        env={**known, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ctrl-C, and what it said."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    return out, err


def test_it_waits_for_a_file_and_ctrl_c_ends_that(tmp_path: Path) -> None:
    process = watch(tmp_path)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("note: run.h5 does not exist yet; waiting for a training to write it")
    time.sleep(0.5)
    assert process.poll() is None
    out, err = end(process)
    assert out == ""
    assert "Traceback" not in err


def test_it_begins_when_the_file_turns_up_and_opens_the_browser(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    process = watch(tmp_path, DISPLAY=":7", BROWSER=f"{browser} %s")
    assert process.stderr is not None
    assert process.stdout is not None
    assert "does not exist yet" in process.stderr.readline()
    made = write_recording(tmp_path / "made.h5", {"conv": drifting_maps(2, 8, 8)})
    # As it is written: at first not yet a recording, then one.
    whole = made.read_bytes()
    (tmp_path / "run.h5").write_bytes(whole[:100])
    time.sleep(1.0)
    assert process.poll() is None
    made.replace(tmp_path / "run.h5")
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url) as answer:
        assert b"feature maps, live" in answer.read()
    limit = time.monotonic() + 20
    while not (tmp_path / "opened").exists():
        assert time.monotonic() < limit, "the browser was not opened"
        time.sleep(0.05)
    time.sleep(0.2)
    assert (tmp_path / "opened").read_text().strip() == url
    _, err = end(process)
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [(), ("--no-browser",)])
def test_no_browser_without_a_screen_or_where_none_is_wanted(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    write_recording(tmp_path / "run.h5", {"conv": drifting_maps(2, 8, 8)})
    browser = tmp_path / "browser"
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    screen = {"DISPLAY": ":7"} if words else {}
    process = watch(tmp_path, *words, BROWSER=f"{browser} %s", **screen)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://")
    time.sleep(0.5)
    assert not (tmp_path / "opened").exists()
    end(process)


def test_a_browser_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import webbrowser

    def fail(_: str) -> bool:
        raise webbrowser.Error("none")

    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr(webbrowser, "open", fail)
    assert not waiting.open_browser("http://127.0.0.1:1/")
