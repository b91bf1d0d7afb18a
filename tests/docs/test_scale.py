"""The recipe of docs/scale.md renders runs, here by threads, and passes over one that is broken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from documents import ROOT, code_blocks
from samples import drifting_maps, write_recording


def test_the_recipe_renders_what_is_whole_and_says_what_is_not(tmp_path: Path) -> None:
    (code,) = code_blocks(ROOT / "docs" / "scale.md", "python")
    found: dict[str, Any] = {}
    exec(code, found)
    maps = {"conv1": drifting_maps(2, 8, 8)}
    runs = [write_recording(tmp_path / f"{name}.h5", maps, batches=2) for name in "ab"]
    broken = tmp_path / "c.h5"
    broken.write_bytes(b"no recording")
    films = tmp_path / "films"
    films.mkdir()
    with ThreadPoolExecutor(2) as executor:
        wrong = found["render_all"]([*runs, broken], films, executor)
        assert list(wrong) == [broken]
        assert "c.h5" in wrong[broken]
        times = {film.name: film.stat().st_mtime_ns for film in films.iterdir()}
        assert sorted(times) == ["a.mp4", "b.mp4"]
        assert list(found["render_all"]([*runs, broken], films, executor)) == [broken]
    assert times == {film.name: film.stat().st_mtime_ns for film in films.iterdir()}
