"""What results show of themselves in a terminal and in a notebook; `dir` and `help`."""

from __future__ import annotations

import base64
import io
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_lines import ROOT
from PIL import Image
from samples import drifting_maps, write_recording
from strict_html import Strict

import record
import replay
from replay.maps.input_picture import InputPicture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("shown")

    def dead(epoch: int, batch: int) -> np.ndarray:
        maps = drifting_maps(4, 12, 16)(epoch, batch)
        maps[2] = 0
        return maps

    layers = {name: drifting_maps(4, 12, 16) for name in ("conv1", "b<i>", "c", "d")}
    write_recording(
        found / "run.h5",
        {**layers, "e": dead},
        epochs=2,
        image=(3, 12, 16),
        probes=[(np.zeros((3, 12, 16)), {"conv1": drifting_maps(4, 12, 16)})],
    )
    return found


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[replay.Recording]:
    monkeypatch.chdir(folder)
    with replay.open("run.h5") as recording:
        yield recording


def results(run: replay.Recording) -> dict[str, Any]:
    return {
        "Recording": run,
        "Layer": run["conv1"],
        "Inputs": run.inputs,
        "probe": run.probe(0),
        "probe layer": run.probe(0)["conv1"],
        "fixed image": run.probe(0).inputs,
        "Animation": replay.animate(run, "a.gif", layers="conv1"),
        "Figure": replay.grid(run, "g.png", dpi=60),
        "Figure svg": replay.sheet(run, "s.svg", dpi=60),
        "Figure pdf": replay.sheet(run, "s.pdf", layer="all", probe=False, dpi=60),
        "Page": replay.page(run, "p.html"),
        "Health": replay.health(run),
        "Report": replay.verify(run),
        "Exported": replay.export(run, "e.npz", overwrite=True),
        "Repaired": replay.repair("run.h5", "new.h5", overwrite=True),
    }


@pytest.fixture(scope="module")
def made(folder: Path) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with replay.open("run.h5") as recording:
            yield results(recording)


def test_a_terminal_shows_what_one_wants_to_know(made: dict[str, Any]) -> None:
    wanted = {
        "Recording": "<Recording 'run.h5': conv1, b<i>, c ...; 2 epochs, 5 layers, 8 frames>",
        "Layer": "<Layer 'conv1' of 'run.h5': *4x12x16; 8 frames, [epoch, batch] reads one>",
        "Inputs": "<Inputs of 'run.h5': 3x12x16, 8 images, [epoch, batch] reads one>",
        "probe": "<Recording 'run.h5': conv1; 2 epochs, 1 layer, 8 frames of fixed image 0>",
        "probe layer": "<Layer 'conv1' of 'run.h5', fixed image 0: *",
        "fixed image": "<Fixed image 0 of 'run.h5': 3x12x16, 8 frames, [epoch, batch] reads one>",
        "Animation": "<Animation 'a.gif': 8 frames of *×*, 4 a second, *B>",
        "Figure": "<Figure 'g.png': conv1, *×* pixels, * kB>",
        "Figure svg": "<Figure 's.svg': conv1, *×* pixels, * kB>",
        "Figure pdf": "<Figure 's.pdf': conv1, b<i>, c ..., *×* pixels, * kB>",
        "Page": "<Page 'p.html': * frames, * layer*, * kB>",
        "Health": "<Health of 'run.h5': * (*dead 1*) in 5 layers, 8 frames; print() tells all>",
        "Report": "<Report of 'run.h5': 0 problems in 8 frames>",
        "Exported": "<Exported 'e.npz': 8×4×12×16 float16, * kB>",
        "Repaired": "<Repaired 'new.h5': 8 frames, * kB; 0 damaged arrays left out>",
    }
    assert wanted.keys() == made.keys()
    for name, expected in wanted.items():
        text = repr(made[name])
        start = 0
        for part in expected.split("*"):
            assert part in text[start:], (name, text)
            start = text.index(part, start) + len(part)
        assert len(text) < 180
        assert text.count("\n") <= 1


SHOWN = ["Recording", "Layer", "Inputs", "probe", "probe layer", "fixed image", "Animation"]


@pytest.mark.parametrize("name", [*SHOWN, "Figure", "Figure svg", "Figure pdf", "Page", "Health"])
def test_a_notebook_shows_html_without_scripts(
    name: str, made: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    html = Strict(made[name]._repr_html_())
    assert not html.open
    assert "script" not in {tag for tag, _ in html.tags}
    assert "i" not in {tag for tag, _ in html.tags}  # a layer is called b<i>
    pictures = [attributes for tag, attributes in html.tags if tag == "img"]
    assert bool(pictures) == (name not in ("Figure pdf", "Page", "Health"))
    assert all(each["alt"] for each in pictures)


def test_a_layer_shows_its_last_frame_and_inputs_their_last_image(made: dict[str, Any]) -> None:
    html = Strict(made["Layer"]._repr_html_())
    assert "conv1, epoch 1, batch 3" in html.words
    assert html.picture().size[0] > 16
    image = Strict(made["Inputs"]._repr_html_())
    assert "epoch 1, batch 3" in image.words
    assert image.picture().size == (160, 120)
    assert np.ptp(np.asarray(image.picture())) > 20


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("values", ["0 to 1", "0 to 255", "normalised"])
def test_inputs_and_fixed_images_show_the_pictures_of_films(
    tmp_path: Path, channels: int, values: str
) -> None:
    low, high = {"0 to 1": (0, 1), "0 to 255": (0, 255)}.get(values, (-2, 2))

    def image(epoch: int, batch: int) -> np.ndarray:  # the last is the darkest
        ramp = np.linspace(0, 1 if batch == 0 else 0.3, channels * 16 * 20)
        return np.rint((low + (high - low) * ramp) * 100).reshape(channels, 16, 20) / 100

    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 4, 4)},
        epochs=1,
        batches=2,
        images=image,
        probes=[(image(0, 1), {"conv1": drifting_maps(2, 4, 4)})],
    )
    with replay.open(path) as run:
        for each in (run, run.probe(0)):
            film = InputPicture(each, each.frames)
            expected = film.show(0, 1).repeat(8, axis=0).repeat(8, axis=1)
            html = Strict(each.inputs._repr_html_())
            assert np.array_equal(np.asarray(html.picture().convert("RGB")), expected)
            assert f"epoch 0, batch 1{film.channels_in_words}" in html.words


def test_findings_are_a_table_with_what_to_do(made: dict[str, Any]) -> None:
    html = Strict(made["Health"]._repr_html_())
    rows = sum(tag == "tr" for tag, _ in html.tags)
    assert rows >= 2
    assert "channel 2" in html.words
    (finding,) = [each for each in made["Health"].all_findings if each.kind == "dead"]
    assert finding.advice.split("\n")[0][:60] in html.words


def test_what_is_gone_is_said(made: dict[str, Any], tmp_path: Path) -> None:
    figure = replay.grid(made["Recording"], tmp_path / "x.png", dpi=60)
    figure.path.unlink()
    assert "no longer there" in figure._repr_html_()


def test_a_page_and_a_pdf_are_linked(made: dict[str, Any]) -> None:
    for name, file in (("Page", "p.html"), ("Figure pdf", "s.pdf")):
        html = Strict(made[name]._repr_html_())
        assert ("a", {"href": file}) in html.tags


def test_reprs_read_no_maps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from replay.recording.snapshot import Snapshot

    with replay.open(folder / "run.h5") as recording:
        monkeypatch.setattr(Snapshot, "read_frame", None)
        texts = [repr(each) for each in (recording, recording["conv1"], recording.inputs)]
        assert all(text.startswith("<") for text in texts)


def test_an_animation_of_the_last_frame_is_a_picture(made: dict[str, Any], folder: Path) -> None:
    (source,) = [
        attributes["src"]
        for tag, attributes in Strict(made["Animation"]._repr_html_()).tags
        if tag == "img"
    ]
    assert source is not None
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as film:
        assert film.n_frames == 8  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", [replay, record], ids=["replay", "record"])
def test_dir_has_all_names_and_help_describes_them(module: Any) -> None:
    names = dir(module)
    assert set(module.__all__) <= set(names)
    assert [name for name in names if not name.startswith("__")] == sorted(
        name for name in module.__all__ if name != "__version__"
    )
    text = pydoc.plain(pydoc.render_doc(module))
    for name in set(module.__all__) - {"__version__", "RecordingError"}:
        called = getattr(module, name).__name__
        assert f"class {called}" in text or f"{called}(" in text, name


def test_dir_imports_nothing_and_tab_completes() -> None:
    code = (
        "import sys, rlcompleter, {0}\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        "dir({0})\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        "found = rlcompleter.Completer(globals()).attr_matches('{0}.{1}')\n"
        "assert [each.rstrip('()') for each in found] == ['{0}.{2}'], found\n"
    )
    for words in (("replay", "anim", "animate"), ("record", "pla", "plan")):
        command = [sys.executable, "-c", code.format(*words)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_record_without_torch_has_a_dir_and_help(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u, sys\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "sys.modules['torch'] = None\nimport record, pydoc\n"
        "assert 'Recorder' not in dir(record) and 'RecordingError' in dir(record)\n"
        "assert 'Records a network' in pydoc.render_doc(record)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
