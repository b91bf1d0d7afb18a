"""Nothing of the user's is replaced unasked; what mapreel made is, and it is said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest
from matplotlib import pyplot
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.overwriting import is_ours
from replay.schema import OutputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("run.h5", "b.h5"):
        maps = {"conv1": drifting_maps(4, 8, 8)}
        write_recording(tmp_path / name, maps, epochs=2, image=(3, 8, 8))
    return tmp_path


COMMANDS = [
    *("animate run.h5 -o a.mp4", "animate run.h5 -o a.gif", "animate run.h5 -o a.webp"),
    *("animate run.h5 -o a.png", "animate run.h5 -o a.apng", "animate run.h5 -o one.png --epoch 0"),
    *("animate run.h5 -o one.webp --epoch 0 --batch 0", "animate run.h5 -o a.mp4 --codec av1"),
    *("animate run.h5 -o a.mp4 --jobs 2", "animate run.h5 -o a.gif --jobs 2"),
    *("animate run.h5 -o a.webp --jobs 2", "animate run.h5 -o a.png --jobs 2"),
    *("animate run.h5 -o a.gif --max-mb 0.2", "animate run.h5 --preset github"),
    *("compare run.h5 b.h5", "compare run.h5 b.h5 -o c.gif"),
    *("grid run.h5 -o g.png", "grid run.h5 -o g.pdf", "grid run.h5 -o g.svg"),
    *("sheet run.h5 -o s.png", "sheet run.h5 -o s.pdf", "sheet run.h5 -o s.svg"),
    *("page run.h5", "page run.h5 b.h5 -o both.htm"),
    *("health run.h5 -o h.png", "health run.h5 -o h.pdf", "health run.h5 -o h.svg"),
]


@pytest.mark.parametrize("words", COMMANDS)
def test_only_what_mapreel_made_is_replaced(
    words: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(folder.iterdir())
    assert main(words.split()) == 0
    assert "replaced" not in capfd.readouterr().err
    (path,) = set(folder.iterdir()) - before
    assert is_ours(path)
    made = path.read_bytes()

    assert main(words.split()) == 0  # again
    assert f"note: replaced {path.name}\n" in capfd.readouterr().err

    path.write_bytes(b"mine")
    assert main(words.split()) == 2
    said = capfd.readouterr().err
    assert said.startswith(f"error: {path.name} exists, and does not say that mapreel made it")
    assert "--overwrite" in said
    assert path.read_bytes() == b"mine"

    assert main([*words.split(), "--overwrite"]) == 0
    assert f"note: replaced {path.name}\n" in capfd.readouterr().err
    assert path.suffix == ".mp4" or path.read_bytes() == made or path.suffix in (".htm", ".html")


CALLS: dict[str, Callable[..., object]] = {
    "a.mp4": lambda **more: replay.animate("run.h5", "a.mp4", **more),
    "c.mp4": lambda **more: replay.compare("run.h5", "b.h5", "c.mp4", **more),
    "a.html": lambda **more: replay.page("run.h5", "a.html", **more),
    "g.svg": lambda **more: replay.grid("run.h5", "g.svg", **more),
    "s.pdf": lambda **more: replay.sheet("run.h5", "s.pdf", **more),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_from_python(name: str, folder: Path) -> None:
    (folder / name).touch()  # an empty file, such as tempfile makes, holds nothing
    assert not CALLS[name]().replaced  # type: ignore[attr-defined]
    assert CALLS[name]().replaced  # type: ignore[attr-defined]
    (folder / name).write_text("mine")
    with pytest.raises(OutputError, match=r"another out, or overwrite=True to replace it"):
        CALLS[name]()
    assert (folder / name).read_text() == "mine"
    assert CALLS[name](overwrite=True).replaced  # type: ignore[attr-defined]


def test_it_is_refused_before_anything_is_drawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was begun")

    for name in ("animation.Film", "comparison.ComparisonFilm"):
        monkeypatch.setattr(f"replay.rendering.{name}", never)
    for name in ("map_grid.RunSet", "contact_sheet.RunSet"):
        monkeypatch.setattr(f"replay.figures.{name}", never)
    monkeypatch.setattr("replay.webpage.document.PageContent", never)
    for name, call in CALLS.items():
        (folder / name).write_text("mine")
        with pytest.raises(OutputError):
            call()


@pytest.mark.parametrize("beside", ["a.alt.txt", "a.poster.png"])
def test_what_lies_beside_a_film_is_left_alone_too(
    beside: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["animate", "run.h5", "-o", "a.gif", "--alt", "--poster"]
    assert main(words) == 0
    assert main(words) == 0
    said = capfd.readouterr().err
    assert [f"replaced {name}" in said for name in ("a.gif", "a.alt.txt", "a.poster.png")] == [
        True
    ] * 3
    (folder / beside).write_text("My own words")
    kept = (folder / "a.gif").read_bytes()
    assert main(words) == 2
    assert f"error: {beside} exists" in capfd.readouterr().err
    assert (folder / beside).read_text() == "My own words"
    assert (folder / "a.gif").read_bytes() == kept
    assert main([*words, "--overwrite"]) == 0


def foreign(folder: Path) -> list[Path]:
    """Files of the same formats that other programs have made."""
    picture = Image.new("RGB", (8, 8), "red")
    for name in ("a.gif", "a.png", "a.webp"):
        picture.save(folder / name)
    picture.save(folder / "b.gif", save_all=True, append_images=[picture.rotate(9)], comment="me")
    picture.save(folder / "b.webp", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    figure, _ = pyplot.subplots()
    for name in ("f.png", "f.pdf", "f.svg"):
        figure.savefig(folder / name)
    pyplot.close(figure)
    (folder / "a.html").write_text("<!doctype html><title>about mapreel</title>mapreel")
    (folder / "a.txt").write_text("notes on mapreel: Animation of cats")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    source = ["-f", "lavfi", "-i", "color=red:size=16x16:duration=0.2"]
    for name in ("a.mp4", "fast.mp4"):
        more = ["-movflags", "+faststart"] if name == "fast.mp4" else []
        subprocess.run([ffmpeg, "-loglevel", "error", *source, *more, folder / name], check=True)
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:40])
    (folder / "zero.mp4").write_bytes(bytes(64))
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:20])
    (folder / "a.unknown").write_text("mapreel")
    return [path for path in folder.iterdir() if path.suffix != ".h5"]


def test_what_others_have_made_is_not_taken_for_ours(folder: Path) -> None:
    found = foreign(folder)
    assert len(found) == 16
    assert [path.name for path in found if is_ours(path)] == []
    assert not is_ours(folder / "none.gif")


def test_a_film_under_a_name_of_another_kind_is_not_replaced(folder: Path) -> None:
    replay.animate("run.h5", "a.gif")
    shutil.copy("a.gif", "b.mp4")
    assert not is_ours(Path("b.mp4"))


def test_the_mark_disturbs_no_reader(folder: Path) -> None:
    for name in ("a.gif", "a.webp", "a.png"):
        for options in ({}, {"jobs": 2}):
            replay.animate("run.h5", name, **options)  # type: ignore[arg-type]
            with Image.open(name) as film:
                assert film.n_frames == 8  # type: ignore[attr-defined]
                film.seek(7)
                film.load()
    replay.animate("run.h5", "one.webp", epochs=0, batches=0)
    with Image.open("one.webp") as film:
        film.load()
    replay.animate("run.h5", "a.mp4", jobs=2)
    assert imageio_ffmpeg.count_frames_and_secs("a.mp4")[0] == 8


def test_a_link_stays_and_what_it_leads_to_is_replaced(folder: Path) -> None:
    (folder / "films").mkdir()
    (folder / "latest.png").symlink_to("films/one.png")
    (folder / "frames").symlink_to("films/two", target_is_directory=True)
    for _ in range(2):  # one that leads to nothing yet, and one that leads to ours
        assert main(["grid", "run.h5", "-o", "latest.png"]) == 0
    assert (folder / "latest.png").readlink() == Path("films/one.png")
    assert is_ours(folder / "films/one.png")
    assert main(["animate", "run.h5", "--batches", "0", "-o", "frames/"]) == 0
    assert (folder / "films/two/000000.png").is_file()
    assert (folder / "frames").is_symlink()


def test_a_link_to_the_recording_is_never_written_through(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (folder / "run.h5").read_bytes()
    (folder / "a.png").symlink_to("run.h5")
    assert main(["grid", "run.h5", "-o", "a.png", "--overwrite"]) == 2
    assert "a.png: it is a link to" in capsys.readouterr().err
    assert (folder / "run.h5").read_bytes() == kept


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("grid run.h5 -o p.png", "sheet run.h5 -o p.svg", "page run.h5 -o p.html"):
        os.mkfifo(pipe := folder / words.split()[-1])
        assert main(words.split()) == 2
        assert capsys.readouterr().err == (
            f"error: cannot write {pipe.name}: it is a pipe or a device; expected a file name\n"
        )
        assert pipe.is_fifo()


def test_a_name_that_is_too_long_is_said_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ("grid run.h5 -o {}.png", "animate run.h5 -o {}.gif", "export run.h5 -o {}/"):
        assert main(words.format("long" * 70).split()) == 2
        said = capsys.readouterr().err
        assert "longlong" in said
        assert "file name too long" in said
        assert said.count("\n") == 1
        assert len(said) < 200


def test_a_large_pdf_says_at_its_end_who_made_it(folder: Path) -> None:
    """Behind what it says stands a table of all objects, of which each map is one."""
    assert main(["grid", "run.h5", "-o", "a.pdf"]) == 0
    body, table, end = (folder / "a.pdf").read_bytes().rpartition(b"\nxref\n")
    entries = b"0000000000 00000 f \n" * 8_000  # as of a figure of 4,000 maps
    (folder / "b.pdf").write_bytes(body + table + entries + end)
    assert is_ours(folder / "b.pdf")
    (folder / "c.pdf").write_bytes(body.replace(b"mapreel", b"another") + table + entries + end)
    assert not is_ours(folder / "c.pdf")
