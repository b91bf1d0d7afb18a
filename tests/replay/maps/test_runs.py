"""Several recordings in one picture, and the film of a fixed image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_lines import without_next
from matplotlib import colormaps
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.cli.parser import spell_out
from replay.film.film import Film
from replay.maps.runs import RunSet, choose_layers_of
from replay.options import FilmOptions
from replay.recording import info
from replay.schema import FileError, OptionError, OutputError, SelectionError


def rank(folder: Path, number: int, **options: Any) -> Path:
    maps = drifting_maps(3, 8, 6, seed=number)
    layers = {"conv1": lambda e, b: maps(e, b) * (1 + 4 * number), "conv2": drifting_maps(2, 4, 4)}
    options = {
        "meta": {"rank": number, "world_size": 4},
        "fields": {"label": lambda e, b: number, "loss": lambda e, b: 1.0 + number + b / 10},
        **options,
    }
    return write_recording(folder / f"run.rank{number}.h5", layers, **options)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    return [rank(tmp_path, 0), rank(tmp_path, 1)]


def test_each_layer_of_each_rank_has_a_row_on_one_scale(paths: list[Path]) -> None:
    with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
        film = Film([a, b], FilmOptions(layers=["conv1", "conv2"], scale="run"))
        names = ["conv1, rank 0", "conv1, rank 1", "conv2, rank 0", "conv2, rank 1"]
        assert [part.name for part in film.panels] == names
        frames = list(film.frames())
        assert len(frames) == 8
        shown = [section.shown for section in film.map_sections]
        assert shown[0] == shown[1] != shown[2]
        both = np.concatenate([run["conv1"][cell].ravel() for run in (a, b) for cell in a.frames])
        low, high = np.percentile(both.astype("f4"), (0.5, 99.5))
        np.testing.assert_allclose((shown[0].low, shown[0].high), (low, high))  # type: ignore[union-attr]
        assert len(frames[0].pictures) == 2
        assert film.remarks == []
        one = Film([a, b], FilmOptions(layers=["conv2"]))
        assert [part.name for part in one.panels] == ["rank 0", "rank 1"]


@pytest.mark.parametrize("scale", ["adaptive", "map"])
def test_each_recording_has_ranges_of_its_own(paths: list[Path], scale: str) -> None:
    with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
        both = Film([a, b], FilmOptions(layers=["conv1"], scale=scale))
        alone = [Film(run, FilmOptions(layers=["conv1"], scale=scale)) for run in (a, b)]
        for cell in both.cells:
            for place, film in enumerate(alone):
                bounds = both.map_sections[place].scaler.channel_bounds(*cell)
                expected = film.map_sections[0].scaler.channel_bounds(*cell)
                assert bounds is not None
                assert expected is not None
                assert (bounds.bounds == expected.bounds).all()


@pytest.mark.parametrize("scale", ["run", "epoch", "frame", "channel"])
def test_every_scale_is_that_of_all_recordings(paths: list[Path], scale: str) -> None:
    with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
        film = Film([a, b], FilmOptions(layers=["conv1"], scale=scale))
        for _ in film.frames():
            assert film.map_sections[0].shown == film.map_sections[1].shown
        assert film.map_sections[0].scaler is film.map_sections[1].scaler
        assert "the same for all recordings" in film.map_sections[0].scaler.words


def test_films_and_figures_of_two_ranks(paths: list[Path], tmp_path: Path) -> None:
    made = replay.animate(paths, tmp_path / "a.gif", channels="top:2")
    with Image.open(made.path) as image:
        assert image.n_frames == made.frames == 8
    assert replay.animate([replay.open(paths[0]), str(paths[1])], captions=False).frames == 8
    words = replay.grid(
        paths, tmp_path / "a.svg", dpi=72, epochs="0,1", scale="run"
    ).path.read_text()
    for word in (">rank 0<", ">rank 1<", ">epoch 1<", ">label 1<", "the same for all recordings"):
        assert word in words
    second = paths[1].rename(tmp_path / "run.mp4")
    with pytest.raises(OutputError, match="the recording itself"):
        replay.animate([paths[0], second], second)
    with pytest.raises(OptionError, match="no recording was given"):
        replay.animate([])


def test_a_figure_of_two_runs_has_every_map_of_both_on_one_scale(tmp_path: Path) -> None:
    paths = [rank(tmp_path, number, run_id=str(number), meta={}) for number in (0, 1)]
    asked = {"epochs": "0,1", "layer": "conv1", "input": False, "scale": "run"}
    made = replay.grid(paths, tmp_path / "a.png", **asked)  # type: ignore[arg-type]
    with Image.open(made.path) as image:
        rows = {row.tobytes() for row in np.array(image.convert("RGB"))}
    with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
        values = np.stack([[run["conv1"][cell] for cell in a.frames] for run in (a, b)])
        low, high = np.percentile(values.astype("f4"), (0.5, 99.5))
        gray = colormaps["gray"](np.linspace(0, 1, 254), bytes=True)[:, :3]
        place = np.rint((values.astype("f8") - low) / (high - low) * 253)
        colours = gray[np.clip(place, 0, 253).astype(int)]  # (run, frame, C, H, W, 3)
        shown = colours[:, [a.frames.index((0, 3)), a.frames.index((1, 3))]]
    blocks = [
        block
        for block in range(1, 200)
        if all(
            any(line.repeat(block, 0).tobytes() in row for row in rows)
            for line in shown.reshape(-1, *shown.shape[-2:])
        )
    ]
    assert blocks  # one size of a pixel at which every line of every map is there


def test_what_not_all_recordings_have_is_left_out_and_said(tmp_path: Path) -> None:
    a = rank(tmp_path, 0)
    b = rank(tmp_path, 1, batches=7, epochs=1, recorded=lambda e, b: b > 1)
    c = rank(tmp_path, 2, recorded=lambda e, b: e == 1)
    made = replay.animate([a, b], tmp_path / "a.mp4")
    assert made.frames == 2
    assert made.remarks == ("left out 9 batches that not every recording has",)
    assert replay.grid([a, b], tmp_path / "a.png", dpi=72).remarks == made.remarks
    with pytest.raises(SelectionError) as caught:
        replay.animate([b, c], tmp_path / "b.mp4")
    assert str(caught.value) == (
        f"no epoch and batch is in every recording: {b} has epoch 0, batches 2-6; "
        f"{c} has epoch 1, batches 0-3"
    )
    with pytest.raises(SelectionError, match="no batch 1; there: 2-3"):
        replay.animate([a, b], batches=1)
    with pytest.raises(SelectionError, match="no batch 1 in epoch 0 of .*rank0.h5 and .*rank1.h5"):
        replay.grid([a, b], batch=1, epochs=0)


def test_recordings_are_named_by_rank_or_file(paths: list[Path], tmp_path: Path) -> None:
    other = rank(tmp_path, 2, run_id="another", meta={"rank": 7})
    (tmp_path / "x").mkdir()
    same = rank(tmp_path / "x", 1, meta={})
    for files, labels, words in [
        (paths, ["rank 0", "rank 1"], "2 of 4 ranks"),
        ([paths[0], other], ["run.rank0", "run.rank2"], "2 recordings"),
        ([paths[1], same], [f"{tmp_path.name}/run.rank1", "x/run.rank1"], "2 recordings"),
        ([paths[0], paths[0]], ["run.rank0 (0)", "run.rank0 (1)"], "2 recordings"),
        ([paths[0]], [""], ""),
    ]:
        shown = RunSet([replay.open(file) for file in files], ["conv1"])
        assert (shown.labels, shown.describe()) == (labels, words)
        assert bool(shown.remarks) == (other in files)
    shown = RunSet([replay.open(paths[0]), replay.open(other)], ["conv1"])
    assert shown.remarks == ["run.rank0.h5, run.rank2.h5 are of different runs"]


def test_recordings_need_not_have_the_same_layers(paths: list[Path], tmp_path: Path) -> None:
    other = write_recording(
        tmp_path / "other.h5",
        {"conv1": drifting_maps(5, 4, 4), "extra": drifting_maps(1, 2, 2)},
        image=None,
        fields={},
    )
    with replay.open(paths[0]) as a, replay.open(other) as b:
        assert choose_layers_of([a, b], "all") == ["conv1", "conv2", "extra"]
        assert choose_layers_of([a, b], None) == ["conv1"]
        assert choose_layers_of([a, b], ["ex*", "conv2"]) == ["extra", "conv2"]
        with pytest.raises(SelectionError, match=r"no layer 'fc' in .*rank0.h5"):
            choose_layers_of([a, b], ["conv1", "fc"])
        with pytest.raises(SelectionError, match=r"no layer 'conv2' in .*other.h5"):
            Film([a, b], FilmOptions(layers=["conv2"]))
        film = Film([a, b], FilmOptions(layers=["conv1", "extra"]))
        assert len(film.map_sections) == 3
        assert [len(frame.pictures) for frame in film.frames()] == [1] * 8
        with pytest.raises(SelectionError, match="no channel 4"):  # of three
            Film([a, b], FilmOptions(layers=["conv1"], channels="4"))
        with pytest.raises(SelectionError, match="frames of 3x8x6 in .* and of 5x4x4 in"):
            replay.grid([a, b], tmp_path / "a.png")
    empty = write_recording(
        tmp_path / "empty.h5", {"conv1": drifting_maps(1, 2, 2)}, recorded=lambda e, b: False
    )
    with pytest.raises(FileError, match="no frame was committed"):
        replay.animate([paths[0], empty])


def test_pictures_neither_overlap_nor_leave_the_frame(tmp_path: Path) -> None:
    paths = [rank(tmp_path, number) for number in range(6)]
    for captions in (True, False):
        film = Film(
            [replay.open(p) for p in paths], FilmOptions(layers=["conv1"], captions=captions)
        )
        *_, frame = film.frames()
        boxes = [*film.layout.boxes]
        for picture in frame.pictures:
            rows, columns = (side * picture.zoom for side in picture.pixels.shape[:2])
            boxes.append((picture.top, picture.left, picture.top + rows, picture.left + columns))
        taken = np.zeros(film.size, np.uint8)
        for top, left, bottom, right in boxes:
            assert 0 <= top < bottom <= film.size[0]
            assert 0 <= left < right <= film.size[1]
            assert not taken[top + 1 : bottom - 1, left:right].any()
            taken[top + 1 : bottom - 1, left:right] = 1
        assert len(frame.pictures) == 6


def test_several_files_on_the_command_line(
    paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [path.name for path in paths]
    assert main(["animate", "--layer", "conv1", "conv2", *files, "-o", "both.gif"]) == 0
    assert main(["animate", files[0], "-o", "again.gif", "--layer", "conv*", files[1]]) == 0
    assert (tmp_path / "both.gif").read_bytes() == (tmp_path / "again.gif").read_bytes()
    assert main(["grid", *files, "-o", "both.png", "--dpi", "60"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["both.gif", "again.gif", "both.png"]
    assert without_next(err) == ""
    rank(tmp_path, 3, run_id="another", batches=2)
    assert main(["grid", *files, "run.rank3.h5", "-o", "three.png", "--dpi", "60"]) == 0
    assert without_next(capsys.readouterr().err).splitlines() == [
        "warning: run.rank0.h5, run.rank1.h5, run.rank3.h5 are of different runs",
        "warning: left out 4 batches that not every recording has",
    ]
    assert main(["info", *files]) == 0
    text = capsys.readouterr().out
    assert text.count("\nlayer ") == 2
    assert "\n\nfile " in text
    assert main(["info", "--json", *files]) == 0
    assert [found["file"] for found in json.loads(capsys.readouterr().out)] == files
    assert main(["info", "--json", files[0]]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == files[0]
    for words in (["animate", *files, "--nothing"], ["grid", files[0], "nowhere.h5"]):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image = np.linspace(-2, 2, 3 * 64).reshape(3, 8, 8)
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(3, 8, 8)},
        fields={"label": lambda e, b: 1, "prediction": lambda e, b: 1},
        probes=[
            (image, {"conv1": drifting_maps(3, 8, 8, seed=5)}),
            (image[:, :4], {"conv1": drifting_maps(3, 4, 8, seed=6)}),
        ],
        meta={"probe": [{"label": 0}, {"label": 1}], "classes": ["cat", "dog"]},
    )


def test_a_film_of_a_fixed_image(probed: Path, tmp_path: Path) -> None:
    with replay.open(probed) as run:
        film = Film(run.probe(0), FilmOptions(layers=["conv1"], scale="run"))
        assert film.layout._inputs[0].text == "fixed image 0, evaluation mode"
        assert [word for word, _ in film.layout._inputs[0].fields] == ["label"]
        pictures = [frame.pictures[0].pixels for frame in film.frames()]
        assert len(pictures) == 8
        assert all(np.array_equal(pictures[0], other) for other in pictures)
        values = np.stack([run.probe(0)["conv1"][cell] for cell in run.frames]).astype("f4")
        shown = film.map_sections[0].shown
        assert shown is not None
        np.testing.assert_allclose((shown.low, shown.high), np.percentile(values, (0.5, 99.5)))
    one = replay.animate(probed, tmp_path / "0.gif", probe=0)
    two = replay.animate(probed, tmp_path / "1.gif", probe=1)
    assert one.path.read_bytes() != two.path.read_bytes()
    words = replay.grid(probed, tmp_path / "a.svg", probe=1, epochs="0,1", dpi=72).path.read_text()
    for word in ("fixed image 1", "label dog", "3 maps of 4×8"):
        assert word in words


def test_probes_on_the_command_line(
    probed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["animate", "--probe", "run.h5", "-o", "0.gif"]) == 0
    assert main(["animate", "run.h5", "-o", "zero.gif", "--probe", "0"]) == 0
    assert main(["animate", "run.h5", "--probe", "1", "--layer", "conv1", "-o", "1.gif"]) == 0
    same = [(tmp_path / f"{name}.gif").read_bytes() for name in ("0", "zero", "1")]
    assert same[0] == same[1] != same[2]
    assert main(["grid", "run.h5", "--probe", "--dpi", "60"]) == 0
    assert main(["info", "run.h5"]) == 0
    out, err = capsys.readouterr()
    assert without_next(err) == ""
    assert "0: image of 3x8x8, label 0, evaluation mode, layer conv1" in out
    assert main(["animate", "run.h5", "--probe", "2"]) == 2
    assert "no fixed image 2 in run.h5; there: 0-1" in capsys.readouterr().err
    assert main(["grid", "run.h5", "--probe", "-1"]) == 2
    capsys.readouterr()
    rank(tmp_path, 0)
    assert main(["animate", "run.rank0.h5", "--probe"]) == 2
    assert "record train --probe 1" in capsys.readouterr().err
    with replay.open(probed) as run:
        found = json.loads(info.to_json(info.describe(run)))["probes"]
    assert [(probe["shape"], probe["label"]) for probe in found] == [([3, 8, 8], 0), ([3, 4, 8], 1)]
    assert found[0]["layers"][0]["name"] == "conv1"


def test_words_around_a_probe_are_not_mistaken() -> None:
    assert spell_out(["animate", "--probe", "run.h5"]) == ["animate", "--probe=0", "run.h5"]
    assert spell_out(["grid", "--probe", "2", "run.h5"]) == ["grid", "--probe", "2", "run.h5"]
    assert spell_out(["animate", "a.h5", "--layer", "x", "a.h5", "b.h5", "--probe"]) == (
        ["animate", "a.h5", "--layer=x", "a.h5", "b.h5", "--probe=0"]
    )
