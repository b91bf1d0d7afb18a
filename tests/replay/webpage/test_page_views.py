"""Attention and gradients in pages: what a page holds, what a live one says as it grows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from browser import EXECUTABLE, Browser
from looking import GRID, PREFIX, Frames, class_rows, gradient, stored_gradient, write_looking
from page_tabs import READY, pixels_of
from pages import frame_of, read
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.schema import OptionError, SelectionError
from replay.webpage.components_data import PageBasis
from replay.webpage.document import page
from replay.webpage.live import Live


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_looking(tmp_path / "run.h5", epochs=2, batches=2, probes=1)


def test_a_page_has_all_that_was_recorded(path: Path) -> None:
    result = page(path)
    manifest, reader = read(result.path)
    kinds = [(source["words"], source["view"]) for source in manifest["sources"]]
    views = ("maps", "attention", "gradient")
    assert kinds[:6] == [
        (image, view) for image in ("first image", "fixed image 0") for view in views
    ]
    assert kinds[6:] == [("fixed image 0", "cam")]
    assert [source["key"] for source in manifest["sources"]][2:4] == ["first-gradient", "probe-0"]
    assert manifest["first"] == 3  # the maps of the fixed image
    attention, slope = manifest["sources"][1], manifest["sources"][2]
    assert attention["quantity"] == "attention"
    assert attention["layers"][1]["maps"] == "4 heads of 8×8"
    assert "attention of the class token" in attention["layers"][1]["words"]
    assert attention["layers"][0]["remarks"][0].startswith("class token ")
    assert slope["colours"] == ["RdBu_r", True]
    assert slope["layers"][0]["remarks"][1].startswith("largest ±")
    assert "frame's largest" in slope["scales"]["adaptive"]
    for place, frame in ((1, (0, 0)), (1, (1, 1))):
        block = frame_of(manifest, reader.blocks, 1, 2 * frame[0] + frame[1], source=place)
        right = class_rows()(*frame)[:, PREFIX:].reshape(4, *GRID).astype("f8")
        width = np.ptp(block.bounds, axis=1)[:, None, None]
        assert (np.abs(block.values - right) / width).max() < 0.05
    block = frame_of(manifest, reader.blocks, 0, 3, source=2)
    true = gradient("conv1", 1, 1)
    assert np.abs(block.values - true / np.abs(true).max()).max() < 0.05
    cam = manifest["sources"][6]
    assert cam["colours"] == ["plasma", False]
    assert "Grad-CAM of the score of the label" in cam["layers"][0]["words"]
    block = frame_of(manifest, reader.blocks, 0, 3, source=6)
    with replay.open(path) as run:
        values = run.cam()[1, 1]
    assert np.abs(block.values[0] - values / values.max()).max() < 0.05


def test_a_gradient_far_below_the_others_leaves_them_their_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in any training: zero nearly everywhere, a few values hundreds of times the others."""

    def sparse(name: str, probe: int | None = None) -> Frames:
        def frames(epoch: int, batch: int) -> np.ndarray:
            made = stored_gradient(name, probe)(epoch, batch) / np.float16(64)
            made[:, 2, 3] = -60_000
            return made.astype("<f2")

        return frames

    monkeypatch.setattr("looking.stored_gradient", sparse)
    path = write_looking(tmp_path / "run.h5", epochs=2, batches=2, probes=0, attention=False)
    result = page(path, view="gradient")
    manifest, reader = read(result.path)
    for layer, name in enumerate(("conv1", "conv2")):
        block = frame_of(manifest, reader.blocks, layer, 3)
        right = sparse(name)(1, 1).astype("f8") / 60_000
        assert (np.abs(block.values - right) <= block.stored.step[:, None, None]).all()
    if EXECUTABLE is not None:
        with Browser() as browser:
            tab = browser.open(f"{result.path.as_uri()}#layer=conv1&frame=1.1")
            tab.wait(READY)
            shown = pixels_of(tab, '.map[data-channel="0"] canvas')[..., :3].astype(int)
        others = np.delete(shown.reshape(-1, 3), 2 * shown.shape[1] + 3, axis=0)
        assert (others.min(axis=1) > 200).all()  # next to zero, which is white
        assert shown[2, 3, 0] < 60  # the one that is far below: blue


def test_only_one_view_is_asked_for(path: Path, tmp_path: Path) -> None:
    for view, count in (("maps", 2), ("attention", 2), ("gradient", 2)):
        manifest, _ = read(page(path, tmp_path / f"{view}.html", view=view).path)
        assert [source["view"] for source in manifest["sources"]] == [view] * count
    chosen = page(path, tmp_path / "chosen.html", layers="blocks.1.attn", probe=0)
    assert chosen.layers == ("blocks.1.attn",)
    plain = write_recording(tmp_path / "plain.h5", {"conv1": drifting_maps(2, 4, 4)})
    with pytest.raises(SelectionError, match="no attention"):
        page(plain, view="attention")
    with pytest.raises(OptionError, match="did you mean 'gradient'"):
        page(plain, view="gradients")


def test_a_page_of_two_runs(path: Path, tmp_path: Path) -> None:
    other = write_looking(tmp_path / "other.h5", epochs=2, batches=2, probes=0)
    manifest, _ = read(page([path, other], tmp_path / "both.html").path)
    assert [source["view"] for source in manifest["sources"]] == ["maps", "attention", "gradient"]
    assert len(manifest["sources"][1]["layers"]) == 4


def test_watch_shows_what_comes(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5", epochs=2, batches=2, probes=1, closed=False)
    with h5py.File(path, "r+") as file:
        file["state"][0] = 2
    with Live(path) as live:
        state = live.state()
        assert [source["count"] for source in state["sources"]] == [2] * 7
        assert state["sources"][1]["layers"] == ["blocks.0.attn", "blocks.1.attn"]
        text = live.page().decode()
        manifest = json.loads(
            text.partition('id="manifest">')[2].partition("</script>")[0].replace("\\u003c", "<")
        )
        assert [source["view"] for source in manifest["sources"]][:3] == [
            "maps",
            "attention",
            "gradient",
        ]
        assert manifest["first"] == 3
        with h5py.File(path, "r+") as file:
            file["state"][0] = 4
        time.sleep(0.3)
        assert [source["count"] for source in live.state()["sources"]] == [4] * 7
        for source, word in ((1, "class token"), (2, "largest ±"), (5, "largest ±")):
            block = live.block(f"s{source}-layer-0-3")
            assert block is not None
            facts = json.loads(block[4 : 4 + int.from_bytes(block[:4], "little")])
            assert facts["remarks"].startswith(word)
            assert facts["largest"] > 0
            assert live.block(f"s{source}-layer-1-extremes")
    with Live(path, view="attention") as live:
        assert len(live.state()["sources"]) == 2
    plain = write_recording(tmp_path / "plain.h5", {"conv1": drifting_maps(2, 4, 4)})
    with pytest.raises(SelectionError, match="no gradients"):
        Live(plain, view="gradient")


def test_watch_has_components_of_what_there_is(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5", epochs=2, batches=2, probes=2, closed=False)
    with h5py.File(path, "r+") as file:
        file["state"][0] = 2

    def basis(live: Live, source: int, layer: int = 0) -> PageBasis:
        block = live.block(f"s{source}-layer-{layer}-components")
        assert block is not None
        return PageBasis.unpack(block[4 + int.from_bytes(block[:4], "little") :], 4)

    with Live(path) as live:
        text = live.page().decode()
        manifest = json.loads(
            text.partition('id="manifest">')[2].partition("</script>")[0].replace("\\u003c", "<")
        )
        sources = manifest["sources"]
        assert sources[0]["views"] == ["maps", "components"]
        assert sources[0]["layers"][0]["components"] == "components"
        probes = [
            place for place, one in enumerate(sources) if one["key"] in ("probe-0", "probe-1")
        ]
        first = basis(live, 0)
        assert first.words.startswith("red ")
        one, other = (basis(live, place) for place in probes)
        np.testing.assert_array_equal(one.parts, other.parts)  # all fixed images have one
        assert not np.array_equal(first.parts, one.parts)
        with h5py.File(path, "r+") as file:
            file["state"][0] = 4
        time.sleep(0.3)
        assert live.count == 4
        assert not np.array_equal(basis(live, 0).offset, first.offset)  # of the run so far
        assert live.block("s1-layer-0-components") is None  # attention has none
        assert live.block("s0-layer-99-components") is None
    for view, over in (("components", False), ("overlay", True)):
        with Live(path, view=view) as live:
            assert len(live.state()["sources"]) == 3
            assert f'"over":{str(over).lower()}' in live.page().decode()


def test_a_fixed_image_has_the_frames_that_it_was_shown_in(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for kind in ("", "cam/", "gradients/", "attention/"):
            for name, none in (("maps", np.nan), ("ranges", np.nan), ("checksums", 0)):
                for dataset in file.get(f"probe/0/{kind}{name}", {}).values():
                    dataset[1, 1] = none
    manifest, _ = read(page(path).path)
    counts = {one["key"]: len(one["frames"]["epoch"]) for one in manifest["sources"]}
    assert counts["first"] == counts["first-attention"] == 4
    assert counts["probe-0"] == counts["probe-0-cam"] == counts["probe-0-gradient"] == 3
    with Live(path) as live:
        assert [one["count"] for one in live.state()["sources"]] == [4, 4, 4, 3, 3, 3, 3]


@pytest.mark.slow
def test_many_images_share_the_room(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5", epochs=3, batches=8, probes=2)
    whole = page(path, tmp_path / "whole.html")
    small = page(path, tmp_path / "small.html", max_mb=whole.bytes / 1e6 * 0.45)
    manifest, _ = read(small.path)
    counts = {one["key"]: len(one["frames"]["epoch"]) for one in manifest["sources"]}
    assert counts["probe-0-cam"] == counts["probe-1-cam"] == 24  # which takes little
    assert counts["probe-0"] > 1.2 * counts["first"]
    shared = [note for note in small.notes if "share" in note]
    assert len(shared) == 1
    assert "fixed image 0, which the page opens with, has the most" in shared[0]
    assert "probe=0 gives all of it to one" in shared[0]
    assert len(small.notes) < 12
    assert any("others" in note for note in small.notes)


def test_watch_waits_for_attention(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5", epochs=1, batches=2, probes=0, closed=False)
    with h5py.File(path, "r+") as file:
        file["state"][0] = 0
    with Live(path, view="attention") as live:
        assert live.count == 0
        with h5py.File(path, "r+") as file:
            file["state"][0] = 2
        time.sleep(0.3)
        assert live.count == 2
        assert live.page()


@pytest.mark.skipif(EXECUTABLE is None, reason="not tested: a browser is missing")
def test_the_reader_switches_between_them(path: Path) -> None:
    result = page(path)
    with Browser() as browser:
        tab = browser.open(result.path.as_uri(), width=1300, height=820)
        ready = "document.getElementById('maps').getAttribute('aria-busy') === 'false'"
        address = "location.hash"

        def choose(row: str, words: str) -> None:
            buttons = f"[...document.querySelectorAll('#{row} button')]"
            tab.run(f"{buttons}.find((one) => one.textContent === {words!r}).click()")

        tab.wait(f"{ready} && {address}.includes('layer=conv1')")
        choose("views", "attention")
        tab.wait(f"{ready} && {address}.includes('image=probe-0-attention&layer=blocks.0.attn')")
        assert tab.run("document.querySelectorAll('#maps canvas').length") == 4
        said = tab.run("document.getElementById('unfinite').textContent")
        assert said.startswith("class token ")
        choose("views", "gradient")
        tab.wait(f"{ready} && {address}.includes('image=probe-0-gradient')")
        tab.wait(f"{address}.includes('colours=RdBu_r&symmetric=1')")
        choose("sources", "first image")
        tab.wait(f"{ready} && {address}.includes('image=first-gradient')")
        choose("views", "maps")
        tab.wait(f"{ready} && {address}.includes('image=first&layer=conv1')")
        tab.wait(f"{address}.includes('colours=gray') && !{address}.includes('symmetric')")
        assert tab.run("document.getElementById('wrong').hidden")


def test_an_export_has_what_is_in_the_file(path: Path, tmp_path: Path) -> None:
    made = replay.export(path, tmp_path / "a.npz", view="attention", layer="blocks.1.attn")
    assert (made.frames, made.shape, made.dtype) == (4, (4, 65), "float16")
    with np.load(made.path) as arrays:
        np.testing.assert_array_equal(arrays["maps"][3], class_rows()(1, 1))
        assert arrays["grid"].tolist() == [8, 8]
    made = replay.export(path, tmp_path / "g.npy", view="gradient", layer="conv2", channels="1,3")
    assert made.dtype == "float32"
    found = np.load(made.path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[2], gradient("conv2", 1, 0)[[1, 3]], rtol=1e-6)
    folder = replay.export(path, tmp_path / "of/", view="gradient", probe=0, epochs=1)
    one = np.load(folder.path / "epoch0001_batch0001.npy")
    np.testing.assert_allclose(one, gradient("conv1", 1, 1, 0), rtol=1e-6)
    made = replay.export(path, tmp_path / "p.npz", view="components", layer="conv2", epochs=1)
    assert (made.frames, made.shape, made.dtype) == (2, (3, 8, 8), "float32")
    with np.load(made.path) as arrays, replay.open(path) as run:
        planes = np.stack([run["conv2"][cell] for cell in run["conv2"].frames]).astype("f8")
        spread = np.stack([each.reshape(6, -1) for each in planes])
        spread -= spread.mean(axis=2, keepdims=True)
        first = arrays["maps"][:, 0].reshape(2, -1)
        # The first component varies more than any channel does.
        assert (first.var(axis=1) > 0.9 * spread[2:].var(axis=2).max(axis=1)).all()
    words = ["export", str(path), "--show", "attention", "-o", str(tmp_path / "b.npz"), "--quiet"]
    assert main(words) == 0
    with pytest.raises(SelectionError, match="no attention of 'conv1'"):
        replay.export(path, tmp_path / "c.npz", view="attention", layer="conv1")


def test_in_notebooks(path: Path) -> None:
    with replay.open(path) as run:
        assert "attention of 2 layers · gradients of 2 layers" in run._repr_html_()
        shown = (
            run.attention("blocks.0.attn"),
            run.gradient("conv1"),
            run.attention("blocks.1.attn", probe=0),
            run.beside("attention"),
            run.probe(0).beside("cam"),
        )
        for each in shown:
            html = each._repr_html_()
            assert html is not None
            assert "data:image/png" in html, html
