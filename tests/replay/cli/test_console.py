"""What commands write to a terminal: a progress bar where there is one, nothing elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from replay.cli.console import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"),
    [(Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)],
)
def test_a_bar_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool, shown: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(quiet, " layers") as progress:
        progress(1, 4)
        progress(4, 4)
    assert (" layers" in stream.getvalue()) == shown
