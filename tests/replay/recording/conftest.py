from __future__ import annotations

from pathlib import Path

import pytest

from replay.recording import remote_file


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that is not the recording's; nobody waits for a lost connection."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(remote_file, "PAUSES", (0.0, 0.0))
    return folder
