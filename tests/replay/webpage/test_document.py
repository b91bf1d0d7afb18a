"""The page as a file: what it holds, that nothing in it is taken for markup, and its size."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shutil
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from pages import Reader, bytes_of, frame_of, picture_of, read
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.maps.adaptive import Shown
from replay.maps.axes import shrink_maps, spread
from replay.maps.input_picture import InputPicture
from replay.maps.scaling import Scaler
from replay.options import SCALES
from replay.raster.palette import Range, kernel_levels, kernel_reach
from replay.schema import DamagedError, OptionError, OutputError, RecordingError, SelectionError
from replay.webpage import page_content
from replay.webpage.document import canvas_pixels, page
from replay.webpage.frame_block import CONSTANT, pack_frame
from replay.webpage.manifest import color_table

HOSTILE = "</script><img src=x onerror=alert(1)>"
NOISE = "<!--<script>&quot;'\"`${1}"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(4, 24, 20), "conv2": drifting_maps(6, 9, 9, seed=3)},
        epochs=3,
        batches=5,
        kernels={"conv1": lambda e, b: np.full((4, 3, 3, 3), 0.1 * (e + 1) - 0.05 * b)},
        fields={"label": lambda e, b: b % 3, "prediction": lambda e, b: 1},
        meta={"classes": ["cat", "dog", NOISE]},
    )


@pytest.fixture
def seldom(tmp_path: Path) -> Path:
    """A run of two epochs with a fixed image that was shown at two of its eight batches."""
    there = {(0, 1), (0, 3)}
    maps = drifting_maps(3, 16, 16)
    fixed = (maps(0, 0), {"conv1": lambda e, b: maps(e, b) if (e, b) in there else None})
    return write_recording(
        tmp_path / "seldom.h5",
        {"conv1": maps},
        probes=[fixed],
        fields={"loss": lambda e, b: 8.0 - 4 * e - b},
    )


@pytest.mark.parametrize("two", [False, True])
def test_a_fixed_image_that_is_seldom_shown_has_the_loss_of_all_batches(
    seldom: Path, two: bool
) -> None:
    runs = [seldom, shutil.copy(seldom, seldom.with_name("other.h5"))] if two else seldom
    manifest, _ = read(page(runs, seldom.with_name("a.html")).path)
    part = next(one for one in manifest["sources"] if one["key"] == "probe-0")
    frames = part["frames"]
    told = part["runs"][1] if two else frames
    assert told["loss"] == ["7.00", "5.00"]
    assert told["curve"]["ends"] == "1.00 – 8.00"
    assert told["curve"]["y"] == [round(place / 7, 4) for place in range(7, -1, -1)]
    assert frames["ends"] == [0, 1]
    assert frames["at"] == pytest.approx([1 / 7, 3 / 7], abs=1e-6)
    assert told["curve"]["x"] == pytest.approx(np.arange(8) / 7, abs=1e-5)
    assert (frames["epoch"], frames["batch"]) == ([0, 0], [1, 3])


def test_the_loss_beside_a_fixed_image_is_that_of_the_chosen_frames(seldom: Path) -> None:
    for batches, heights in ((None, 4), ("3", 1), ("1,3", 2)):
        out = seldom.with_name("a.html")
        manifest, _ = read(page(seldom, out, epochs=0, batches=batches, probe=0).path)
        frames = manifest["sources"][0]["frames"]
        assert len(frames["curve"]["y"]) == heights
        assert frames["ends"][1] == 3


def test_a_run_that_was_interrupted_is_so_many_frames(tmp_path: Path) -> None:
    layers, path = {"conv1": drifting_maps(2, 4, 4)}, tmp_path / "run.h5"
    write_recording(path, layers, epochs=2, batches=4, recorded=lambda e, b: (e, b) <= (1, 1))
    assert read(page(path).path)[0]["about"] == ["6 frames of 2 epochs"]


def test_what_a_page_holds(run: Path) -> None:
    result = page(run, run.with_name("a.html"), cmap="plasma", title="A title", scale="epoch")
    assert (result.frames, result.asked, result.layers) == (15, 15, ("conv1", "conv2"))
    assert result.bytes == result.path.stat().st_size
    assert result.notes == ()
    manifest, reader = read(result.path)
    assert manifest["title"] == "A title"
    assert (manifest["cmap"], manifest["scale"]) == ("plasma", "epoch")
    assert set(manifest["colours"]) == {"plasma", "gray", "viridis", "magma", "cividis", "RdBu_r"}
    assert all(len(base64.b64decode(t)) == 768 for t in manifest["colours"].values())
    part = manifest["sources"][0]
    assert len(manifest["sources"]) == 1
    frames = part["frames"]
    assert list(zip(frames["epoch"], frames["batch"], strict=True))[4:7] == [(0, 4), (1, 0), (1, 1)]
    assert frames["label"][:4] == ["cat", "dog", NOISE, "cat"]
    assert frames["loss"][0] == "2.30"
    assert frames["curve"]["y"][0] == 1.0
    assert manifest["name"] == "run"
    assert manifest["about"] == ["3 epochs × 5 batches"]
    assert "8 bits" in manifest["notes"][-1]

    with replay.open(run) as recording:
        cells = recording.frames
        for layer, name in enumerate(result.layers):
            series, about = recording[name], part["layers"][layer]
            channels = range(series.layer.channels)
            scalers = {s: Scaler(series, cells, channels, s, count=254) for s in SCALES}
            extremes = np.frombuffer(
                zlib.decompress(bytes_of(reader.blocks[f"s0-layer-{layer}-extremes"])), "<f4"
            ).reshape(len(cells), -1, 2)
            assert about["step"] == 1
            for place, (epoch, batch) in enumerate(cells):
                maps = series[epoch, batch]
                run_range, epoch_range, frame_range = (
                    scalers[scale].range_of(epoch, batch, maps)
                    for scale in ("run", "epoch", "frame")
                )
                assert about["run"] == [run_range.low, run_range.high]
                assert about["epochs"][str(epoch)] == [epoch_range.low, epoch_range.high]
                assert about["frame"][place] == [frame_range.low, frame_range.high]
                block = frame_of(manifest, reader.blocks, layer, place)
                shown = scalers["adaptive"].channel_bounds(epoch, batch)
                assert shown is not None
                np.testing.assert_allclose(block.bounds, shown.bounds, rtol=1e-6)
                gains = np.diff(block.bounds)[:, 0] / about["largest"]
                np.testing.assert_allclose(np.minimum(gains, 1), shown.gain, rtol=1e-5)
                off = np.abs(block.values - maps.astype("f8"))
                assert (off <= block.stored.step[:, None, None] * 0.5001).all()
                assert (extremes[place, :, 0] == maps.min(axis=(1, 2))).all()
                assert (extremes[place, :, 1] == maps.max(axis=(1, 2))).all()
            ranges = [scalers["channel"].channel_range(channel) for channel in channels]
            assert about["channel"] == [[each.low, each.high] for each in ranges]
        kernels = [recording["conv1"].kernels(*cell) for cell in cells]
        assert part["layers"][0]["kernel"]["reach"] == max(map(kernel_reach, kernels))
        shown, _ = kernel_levels(kernels[7], part["layers"][0]["kernel"]["reach"])
        behind = frame_of(manifest, reader.blocks, 0, 7).kernels
        assert behind == np.rint(shown * 255).astype(np.uint8).tobytes()
        assert part["layers"][1]["kernel"] is None


def test_the_reference_is_the_colormap_under_the_range() -> None:
    from matplotlib import colormaps

    maps = np.array([[[-3.0, -1.0, 0.0, 0.5, 1.0, 3.0]]], np.float16)
    ends = np.array([[-3.0, 3.0]])
    shown = Shown(ends, np.ones(1), np.zeros(1, bool), np.zeros(1, bool))
    _, block = pack_frame(maps, ends.astype("f4"), shown)
    table = colormaps["viridis"](np.linspace(0, 1, 254), bytes=True)[:, :3]
    wide = canvas_pixels(block, None, "viridis")
    assert (wide[0, 0] == table[[0, 84, 127, 148, 169, 253]]).all()
    assert (canvas_pixels(block, Range(0.0, 3.0), "viridis", symmetric=True) == wide).all()
    own = canvas_pixels(block, Range(0.0, 1.0), "viridis")
    assert (own[0, 0, :2] == table[0]).all()
    assert (own[0, 0, 5] == table[253]).all()


def test_names_from_a_file_are_never_markup(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {f"a{HOSTILE.replace('/', '%2F')}": drifting_maps(2, 8, 8), NOISE: drifting_maps(2, 8, 8)},
        modules={NOISE: HOSTILE},
        fields={"label": lambda e, b: 0},
        meta={"classes": [HOSTILE]},
    )
    out = page(path, title=f"</title>{HOSTILE}").path
    plain = page(write_recording(tmp_path / "plain.h5", {"a": drifting_maps(2, 8, 8)})).path
    manifest, reader = read(out)
    part = manifest["sources"][0]
    assert part["layers"][0]["name"] == f"a{HOSTILE}"
    assert part["layers"][1]["name"] == NOISE
    assert part["frames"]["label"][0] == HOSTILE
    tags, others = reader.tags, read(plain)[1].tags
    assert [tag for tag in tags if tag != "script"] == [tag for tag in others if tag != "script"]
    text = out.read_text(encoding="utf-8")
    assert "<img" not in text
    assert html.escape(f"</title>{HOSTILE}: feature maps") in text
    assert text.count("<!--") == 0


def test_the_policy_lets_in_nothing_but_the_pages_own_code(run: Path) -> None:
    text = page(run).path.read_text(encoding="utf-8")
    reader = Reader(text)
    policy = next(
        attributes["content"]
        for tag, attributes in reader.attributes
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        code = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert code is not None
        digest = base64.b64encode(hashlib.sha256(code.group(1).encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    assert not {"src", "srcset", "style", "onclick", "onload"} & {
        name for _, attributes in reader.attributes for name in attributes
    }
    assert [a["href"] for _, a in reader.attributes if "href" in a] == ["data:,"]
    assert not re.search(r"innerHTML|outerHTML|document\.write|\beval\b|insertAdjacent", text)
    addresses = set(re.findall(r"https?://[^\"'\s)]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which is not fetched


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("large") / "run.h5",
        {"conv1": drifting_maps(6, 64, 64), "conv2": drifting_maps(8, 16, 16)},
        epochs=4,
        batches=20,
    )


@pytest.mark.parametrize("max_mb", [3.0, 1.0, 0.4, 0.2, 0.11])
def test_a_page_is_no_larger_than_asked_and_says_what_that_took(
    larger: Path, max_mb: float
) -> None:
    result = page(larger, max_mb=max_mb)
    assert result.path.stat().st_size <= max_mb * 1e6
    manifest, reader = read(result.path)
    assert manifest["notes"][:-1] == list(result.notes)
    part = manifest["sources"][0]
    thinned = [note for note in result.notes if "frames, evenly spread" in note]
    rounded = [note for note in result.notes if "fine detail is rounded" in note]
    assert bool(thinned) == (result.frames < 80)
    assert rounded or max_mb == 3.0
    if thinned:
        assert thinned[0].startswith(f"{result.frames} of 80 frames")
    kept = list(zip(part["frames"]["epoch"], part["frames"]["batch"], strict=True))
    with replay.open(larger) as recording:
        assert kept == spread(recording.frames, result.frames)
        for layer, about in enumerate(part["layers"]):
            maps = recording[about["name"]][kept[0]]
            pool = -(-maps.shape[1] // about["shape"][0])
            small = shrink_maps(maps, pool)
            assert small.shape[1:] == tuple(about["shape"])
            assert (pool > 1) == any(note.startswith(about["name"]) for note in result.notes)
            block = frame_of(manifest, reader.blocks, layer, 0)
            width = np.diff(block.bounds)[:, :, None]
            off = (block.values - small) / width * 253
            assert np.sqrt(np.mean(off**2)) < 10
            assert (about["step"] > 1) == bool(rounded)
    assert len(part["frames"]["curve"]["x"]) == 80  # the time axis is that of all frames


def test_all_frames_come_first_at_less_detail(larger: Path) -> None:
    sizes = {max_mb: page(larger, max_mb=max_mb) for max_mb in (3.0, 1.2)}
    assert [made.frames for made in sizes.values()] == [80, 80]
    assert sizes[3.0].notes == ()
    (note,) = sizes[1.2].notes
    assert note.startswith("fine detail is rounded so that the file stays below 1.2 MB")


def test_most_of_the_room_is_used(larger: Path) -> None:
    assert page(larger, max_mb=0.3).bytes > 0.24e6


def test_a_page_of_very_many_frames_is_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = drifting_maps(2, 3, 3)  # what stands around a frame takes more than its maps
    picture = np.zeros((3, 4, 4), np.float16)
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": maps},
        epochs=30,
        batches=20,
        image=(3, 4, 4),
        probes=[(picture, {"conv1": maps})],
    )
    monkeypatch.setattr(page_content, "_LARGE", 200)
    monkeypatch.setattr(page_content, "_TRIALS", (40, 80))
    shown: list[tuple[int, int]] = []
    made = page(path, max_mb=0.3, progress=lambda done, of: shown.append((done, of)))
    assert 0.27e6 < made.bytes <= 0.3e6
    assert 200 < made.frames < 600
    assert shown == sorted(shown)  # at no time does it begin anew
    assert len({of for _, of in shown}) == 1
    (note,) = (note for note in made.notes if "evenly spread" in note and "fixed" in note)
    assert note.startswith(f"{made.frames} of 600 frames")


def test_a_size_that_cannot_be_met_is_refused(larger: Path) -> None:
    out = larger.with_name("none.html")
    with pytest.raises(OptionError, match="not even one frame fits; the page without maps takes"):
        page(larger, out, max_mb=0.03)
    assert not out.exists()
    assert [p.name for p in out.parent.iterdir() if p.name.startswith(".")] == []


def test_a_part_of_a_recording(run: Path) -> None:
    result = page(
        run, layers="conv2", channels="1,4", epochs="-1", batches="1:", input=False, max_mb=1
    )
    manifest, reader = read(result.path)
    (part,) = manifest["sources"]
    assert [layer["name"] for layer in part["layers"]] == ["conv2"]
    assert part["layers"][0]["channels"] == [1, 4]
    assert part["layers"][0]["words"][-1] == "2 of 6 maps, 9×9"
    assert set(part["frames"]["epoch"]) == {2}
    assert part["frames"]["batches"] == "1–4"
    assert part["input"] is None
    assert not [name for name in reader.blocks if "input" in name]


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    def broken(epoch: int, batch: int) -> np.ndarray:
        maps = drifting_maps(2, 8, 8)(epoch, batch)
        maps[0, 0, : epoch + 1] = np.nan
        if epoch == 1 and batch == 3:
            maps[:] = np.nan
        maps[1, 0, 0] = np.inf
        return maps

    path = write_recording(
        tmp_path / "run.h5",
        {"a": broken, "flat": lambda e, b: np.zeros((3,), np.float16)},
        fields={"loss": lambda e, b: [1.0, float("nan"), float("inf"), 2.0][b]},
    )
    manifest, reader = read(page(path).path)
    (part,) = manifest["sources"]
    assert part["layers"][0]["unfinite"][0] == [1, 1]
    assert part["layers"][1]["unfinite"] is None
    assert part["frames"]["loss"][1:3] == ["nan", "inf"]
    assert part["frames"]["curve"]["y"][1] is None
    block = frame_of(manifest, reader.blocks, 0, 0)
    assert block.odd is not None
    assert (block.odd[0, 0, 0], block.odd[1, 0, 0], block.odd.sum()) == (1, 2, 3)
    assert (frame_of(manifest, reader.blocks, 1, 0).flat == CONSTANT).all()
    pixels = canvas_pixels(block)
    assert (pixels[0, 0, 0] == color_table("gray")[254]).all()
    assert (pixels[1, 0, 0] == color_table("gray")[255]).all()
    lost = frame_of(manifest, reader.blocks, 0, 7)  # where all is NaN
    assert lost.odd is not None
    assert (lost.odd[0] == 1).all()


def test_a_loss_that_was_not_logged_is_a_dash(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"a": drifting_maps(2, 8, 8)},
        fields={"loss": lambda e, b: float("nan") if b % 2 else 1.5},
    )
    frames = read(page(path).path)[0]["sources"][0]["frames"]
    assert [loss[:2] for loss in frames["loss"]] == ["1.", "–"] * 4
    assert [y is None for y in frames["curve"]["y"]] == [False, True] * 4


def test_a_missing_epoch_is_a_gap_in_the_curve(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"a": drifting_maps(2, 8, 8)},
        epochs=4,
        recorded=lambda epoch, batch: epoch != 2,
    )
    curve = read(page(path).path)[0]["sources"][0]["frames"]["curve"]
    assert [place for place, y in enumerate(curve["y"]) if y is None] == [8]
    assert curve["x"] == sorted(curve["x"])


def recording_with_probes(path: Path) -> Path:
    """Two fixed images beside the first of each batch; the second is not shown in every batch."""
    ramp = np.linspace(-1, 1, 3 * 8 * 8).reshape(3, 8, 8)
    fixed = drifting_maps(4, 24, 20)(0, 0)
    return write_recording(
        path,
        {"conv1": drifting_maps(4, 24, 20), "conv2": drifting_maps(3, 6, 6)},
        epochs=3,
        batches=8,
        probes=[
            (ramp, {"conv1": lambda e, b: fixed * (1 + e + b / 9)}),
            (-ramp, {"conv1": lambda e, b: fixed if b % 2 else None}),
        ],
        meta={"probe": [{"label": 1}, {"label": 0}], "classes": ["cat", "dog"]},
    )


def test_a_page_has_every_fixed_image_and_opens_with_the_first(tmp_path: Path) -> None:
    path = recording_with_probes(tmp_path / "run.h5")
    result = page(path, tmp_path / "all.html")
    manifest, reader = read(result.path)
    assert [source["key"] for source in manifest["sources"]] == ["first", "probe-0", "probe-1"]
    assert manifest["first"] == 1
    assert (result.frames, result.layers) == (24, ("conv1", "conv2"))
    first, fixed, second = manifest["sources"]
    assert fixed["frames"]["label"] == ["dog"] * 24
    assert len(second["frames"]["epoch"]) == len(second["frames"]["at"])
    assert [layer["name"] for layer in fixed["layers"]] == ["conv1"]
    assert "held while the image stays" in fixed["scales"]["adaptive"]
    assert "held" not in first["scales"]["adaptive"]
    assert sum(name.startswith("s1-input") for name in reader.blocks) == 1  # it stays the same
    with replay.open(path) as recording:
        probe = recording.probe(0)
        picture = InputPicture(probe, probe.frames, 8).show(0, 0)
        assert (picture_of(manifest, reader.blocks, 0, source=1) == picture).all()
        scaler = Scaler(probe["conv1"], probe.frames, range(4), "adaptive", count=254)
        follows = 0
        for place, cell in enumerate(probe.frames):
            block = frame_of(manifest, reader.blocks, 0, place, source=1)
            shown = scaler.channel_bounds(*cell)
            assert shown is not None
            np.testing.assert_allclose(block.bounds, shown.bounds, rtol=1e-6)
            off = np.abs(block.values - probe["conv1"][cell].astype("f8"))
            assert (off <= block.stored.step[:, None, None] * 0.5001).all()
            follows += zlib.decompress(bytes_of(reader.blocks[f"s1-layer-0-{place}"]))[0] & 2
    assert follows == 2 * (24 - 3)  # all but every tenth
    alone = page(path, tmp_path / "one.html", probe=1)
    (only,) = read(alone.path)[0]["sources"]
    assert (only["key"], alone.layers) == ("probe-1", ("conv1",))
    with pytest.raises(SelectionError, match="no fixed image 7"):
        page(path, tmp_path / "none.html", probe=7)


def test_the_time_axis_of_a_long_run_keeps_its_spikes() -> None:
    from replay.raster.time_axis import TimeAxis
    from replay.webpage.manifest import loss_curve

    loss = np.linspace(2, 1, 50_000)
    loss[31_234] = 2.5
    curve = loss_curve(loss, TimeAxis([(0, batch) for batch in range(50_000)]))
    assert len(curve["x"]) <= 4000
    assert max(y for y in curve["y"] if y is not None) == 1.0
    assert curve["x"] == sorted(curve["x"])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"out": "a.pdf"}, OutputError),
        ({"out": "none/a.html"}, OutputError),
        ({"layers": "conv9"}, SelectionError),
        ({"channels": "9"}, SelectionError),
        ({"cmap": "virdis"}, OptionError),
        ({"scale": "kanal"}, OptionError),
        ({"probe": 0}, SelectionError),
        ({"max_mb": 0}, OptionError),
        ({"max_mb": float("nan")}, OptionError),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, options: dict, error: type[RecordingError]
) -> None:
    monkeypatch.chdir(run.parent)
    with pytest.raises(error):
        page(run, **options)
    assert [p.name for p in run.parent.iterdir()] == ["run.h5"]


def test_the_command(
    larger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(larger.parent)
    assert (
        main(["page", "run.h5", "-o", "b.html", "--layer", "conv1", "conv2", "--max-mb", "0.11"])
        == 0
    )
    out, err = capsys.readouterr()
    assert out.startswith("b.html  ")
    assert err.startswith("note: ")
    assert "so that the file stays below 0.11 MB" in err
    assert main(["page", "run.h5", "--layer", "conv2", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("run.html  ")
    assert main(["page", "run.h5", "--probe", "0"]) == 2
    assert "no fixed image in run.h5" in capsys.readouterr().err
    assert main(["page", "run.h5", "--max-mb", "0.01"]) == 2
    assert capsys.readouterr().err.startswith("error: max-mb 0.01: not even one frame fits")


def test_the_same_recording_gives_the_same_page(run: Path) -> None:
    assert replay.page(run).path.read_bytes() == page(run).path.read_bytes()


def test_a_page_of_an_open_recording_replaces_what_stood_there(run: Path) -> None:
    out = run.with_name("a.html")
    out.write_text("old")
    with replay.open(run) as recording:
        with pytest.raises(OutputError, match="does not say that mapreel made it"):
            page(recording, out)
        assert out.read_text() == "old"
        page(recording, out, overwrite=True)
        before = out.stat().st_mtime_ns
        page(recording, out)  # its own
        assert out.stat().st_mtime_ns > before
        assert recording["conv1"][0, 0].shape == (4, 24, 20)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("group", ["maps", "kernels"])
def test_a_damaged_frame_is_said_and_the_others_are_shown(
    run: Path, tmp_path: Path, group: str
) -> None:
    whole = read(page(run, tmp_path / "whole.html", layers="conv1").path)[0]
    with h5py.File(run, "r+") as file:
        file[f"{group}/conv1"][0, 1, 0, 0] += 1
    made = page(run, tmp_path / "damaged.html", layers="conv1")
    shown = read(made.path)[0]
    assert made.notes[-1].startswith(f"conv1: damaged {group} of 1 frame, first epoch 0 batch 1")
    assert made.notes[-1] in shown["notes"]
    before, layer = whole["sources"][0]["layers"][0], shown["sources"][0]["layers"][0]
    count = len(shown["sources"][0]["frames"]["epoch"])
    assert len(layer["frame"]) == len(before["frame"]) == count
    if group == "kernels":
        assert np.flatnonzero(layer["bare"]).tolist() == [1]
        assert layer["frame"] == before["frame"]
    else:
        assert np.flatnonzero(np.array(layer["unfinite"])[:, 0]).tolist() == [1]
    with pytest.raises(DamagedError), replay.open(run) as recording:
        recording["conv1"].kernels(0, 1) if group == "kernels" else recording["conv1"][0, 1]


def test_kernels_that_were_not_recorded_do_not_widen_the_scale(tmp_path: Path) -> None:
    kernels = np.full((2, 1, 3, 3), 0.25, np.float16)
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": drifting_maps(2, 8, 8)},
        batches=3,
        kernels={"conv": lambda e, b: kernels * (np.nan if b == 1 else 1)},
    )
    about = read(page(path).path)[0]["sources"][0]["layers"][0]
    assert about["kernel"]["reach"] == 0.25
    bare = np.array(about["bare"]).reshape(-1, 3)  # (epoch, batch)
    assert bare[:, 1].all()
    assert not bare[:, ::2].any()


def test_channels_that_can_be_read_only_once_hold_for_every_layer(run: Path) -> None:
    made = page(run, layers=["conv1", "conv2"], channels=iter([0, 2]))
    manifest, _ = read(made.path)
    (part,) = manifest["sources"]
    assert [layer["channels"] for layer in part["layers"]] == [[0, 2], [0, 2]]
