"""An option that is taken changes the picture; one that would change nothing is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from looking import write_looking
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.encoding.formats import FORMATS
from replay.options import CAM_METHODS, MADE, VIEWS
from replay.schema import OptionError

VALUES: dict[str, Any] = {
    "channels": "0,1",
    "scale": "frame",
    "clip": (-0.3, 0.3),
    "symmetric": True,
    "cmap": "viridis",
    "title": "A run",
    "input": False,
    "tokens": "strip",
    "slices": "all",
    "query": "mean",
    "cam_method": CAM_METHODS[1],
    "order": "similar",
    "columns": 1,
    "zoom": 2,
    "captions": False,
    "theme": "dark",
}
# What changes nothing of this recording, though it would of another: gradients and channels over
# the input are symmetric anyway.
OF_OTHERS = {(view, "symmetric") for view in ("gradient", "overlay")}
# What is refused for its layers alone: there is no volume, and only a convolution has gradients.
OF_LAYERS = {("maps", "slices"), ("gradient", "slices"), ("gradient", "tokens")}
LAYERS = {  # in which an option can be seen
    ("maps", "tokens"): "blocks.0",
    ("overlay", "tokens"): "blocks.0.attn",
    ("overlay", "query"): "blocks.0.attn",
}
FACES = {name: getattr(replay, name) for name in ("animate", "grid", "sheet", "compare", "draw")}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("looking")
    return write_looking(folder / "run.h5", epochs=1, batches=1, full=True)


def picture_of(path: Path, folder: Path, **options: Any) -> np.ndarray:
    replay.animate(path, f"{folder}/", probe=0, **options)
    return np.asarray(Image.open(next(folder.glob("*.png"))).convert("RGB"))


@pytest.mark.parametrize("view", VIEWS)
def test_an_option_changes_the_picture_or_is_refused(path: Path, tmp_path: Path, view: str) -> None:
    plain: dict[str | None, np.ndarray] = {}
    refused: dict[str, str] = {}
    for number, (name, value) in enumerate(VALUES.items()):
        chosen = LAYERS.get((view, name))
        if chosen not in plain:
            plain[chosen] = picture_of(path, tmp_path / f"plain{number}", view=view, layers=chosen)
        try:
            options = {"view": view, "layers": chosen, name: value}
            made = picture_of(path, tmp_path / f"{number}", **options)
        except OptionError as error:
            refused[name] = str(error)
            continue
        if (view, name) not in OF_OTHERS:
            assert not np.array_equal(made, plain[chosen]), name
    for name in [each for each in refused if (view, each) in OF_LAYERS]:
        of_layers = f"{name} has no effect: no layer that is shown is "
        assert refused.pop(name).startswith(of_layers)
    for name, said in refused.items():
        assert said.startswith(f"{name} has no effect with view='{view}'; it goes with ")
    assert list(refused) == {
        "maps": ["query", "cam_method"],
        "attention": ["slices", "cam_method"],
        "cam": ["channels", "tokens", "slices", "query", "order", "columns"],
        "gradient": ["query", "cam_method"],
        "overlay": ["slices", "cam_method", "order"],
    }.get(
        view,
        [n for n in VALUES if n not in ["title", "input", "tokens", "zoom", "captions", "theme"]],
    )


def faces_with(option: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, face in FACES.items():
        if option in inspect.signature(face).parameters:
            yield name, face


def test_slices_and_tokens_are_of_a_layer_that_is_shown(tmp_path: Path) -> None:
    layers = {
        "conv": drifting_maps(2, 8, 8),
        "cube": lambda e, b: np.arange(256).reshape(2, 2, 8, 8),
    }
    layers["words"] = lambda e, b: np.arange(48).reshape(16, 3)
    axes = {"cube": "CDHW", "words": "TC"}
    path = write_recording(tmp_path / "run.h5", layers, axes=axes)
    of = {"slices": "cube", "tokens": "words"}
    for name, kind in (("slices", "a volume"), ("tokens", "of tokens")):
        for face, function in faces_with(name):
            recordings = [path] * (2 if face == "compare" else 1)
            layer = "layers" if face in ("animate", "compare") else "layer"
            out = {} if face == "draw" else {"overwrite": True}
            places = [] if face == "draw" else [tmp_path / f"{name}-{face}.png"]
            for shown in ("conv", of["tokens" if name == "slices" else "slices"]):
                with pytest.raises(OptionError, match=f"^{name} has no effect: no .* is {kind};"):
                    function(*recordings, *places, **{layer: shown, name: VALUES[name]})
            assert not [place for place in places if place.exists()]
            usual = {"slices": "middle", "tokens": "auto"}
            function(*recordings, *places, **{layer: "conv", **usual}, **out)
            function(*recordings, *places, **{layer: of[name], name: VALUES[name]}, **out)
            if face != "draw":  # of the layers one is of that kind
                function(*recordings, *places, **{layer: "all", name: VALUES[name]}, **out)


def test_figures_and_comparisons_refuse_what_films_refuse(path: Path, tmp_path: Path) -> None:
    for view, name in (("maps", "query"), ("components", "cmap"), ("cam", "channels")):
        for face, function in faces_with(name):
            recordings = [path] * (2 if face == "compare" else 1)
            out = [] if face == "draw" else [tmp_path / "a.png"]
            with pytest.raises(OptionError, match=f"^{name} has no effect with view='{view}'"):
                function(*recordings, *out, view=view, **{name: VALUES[name]})
    for view in MADE:
        with pytest.raises(OptionError, match="^cam_method has no effect"):
            replay.grid(path, tmp_path / "a.png", view=view, cam_method="hirescam")
    assert not list(tmp_path.iterdir())


def test_pages_exports_and_pushes_refuse_it_too(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("scale", "cmap", "symmetric"):
        with pytest.raises(OptionError, match=f"^{name} has no effect with view='components'"):
            replay.page(path, tmp_path / "a.html", view="components", **{name: VALUES[name]})
    replay.page(path, tmp_path / "a.html", cmap="viridis", scale="run")  # of all views
    assert main(["watch", str(path), "--no-browser", "--show", "components", "--cmap", "jet"]) == 2
    assert "--cmap has no effect with --show components; it goes with" in capsys.readouterr().err
    with pytest.raises(OptionError, match="^cam_method has no effect with view='maps'; .* cam$"):
        replay.export(path, tmp_path / "a.npy", cam_method="hirescam")
    replay.export(path, tmp_path / "a.npy", view="components", channels="1")  # the second one
    with pytest.raises(OptionError, match="^query has no effect with view='maps'"):
        replay.push(path, f"folder={tmp_path / 'out'}", query=3)
    assert not (tmp_path / "out").exists()


def test_several_are_said_at_once_in_the_words_of_a_command_line(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["animate", str(path), "-o", str(tmp_path / "a.gif"), "--show", "components"]
    assert main([*words, "--cmap", "jet", "--scale", "run", "--symmetric"]) == 2
    said = "error: --scale, --symmetric and --cmap have no effect with --show components; leave"
    assert said in capsys.readouterr().err
    assert main([*words[:-2], "--query", "3"]) == 2
    said = "error: --query has no effect with --show maps; it goes with attention or overlay\n"
    assert capsys.readouterr().err == said
    assert main([*words[:-1], "overlay", "--layer", "conv1", "--query", "3"]) == 2
    assert "--query has no effect with --show overlay of maps" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_options_that_another_option_leaves_without_effect(path: Path, tmp_path: Path) -> None:
    def refused(words: str, **options: Any) -> None:
        function = replay.compare if "difference_cmap" in options else replay.animate
        recordings = [path] * (2 if function is replay.compare else 1)
        with pytest.raises(OptionError, match=f"^{words}; leave one of them out"):
            function(*recordings, tmp_path / "a.gif", **options)

    refused("scale has no effect with clip, which is the range", scale="frame", clip=(0, 1))
    refused("title has no effect with captions=False", title="A run", captions=False)
    refused("difference_cmap has no effect without difference=True", difference_cmap="PuOr")
    for name in ("columns", "order", "slices"):
        words = f"{name} has no effect with grid_of_probes=True"
        refused(words, grid_of_probes=True, **{name: VALUES[name]})
    assert not list(tmp_path.iterdir())
    replay.animate(path, tmp_path / "a.gif", scale="run", clip=(0, 1))  # which say the same
    options: dict[str, Any] = {"scale": "frame", "clip": (0, 1), "difference": True}
    replay.compare(path, path, tmp_path / "b.gif", **options)  # the difference keeps its scale


def test_options_of_encoding_are_of_their_formats(path: Path, tmp_path: Path) -> None:
    of = {
        "codec": (".mp4", ".webm", ".mov"),
        "crf": (".mp4", ".webm"),
        "quality": (".webp",),
    }
    values: dict[str, Any] = {"codec": "av1", "crf": 30, "quality": 80}
    for each in FORMATS:
        suffix = each.suffixes[0]
        for name, formats in of.items():
            if suffix in formats:
                continue
            out = f"{tmp_path / 'a'}{suffix}"
            with pytest.raises(OptionError, match=rf"^{name}={values[name]!r}: expected .*found a"):
                replay.animate(path, out, **{name: values[name]})
    with pytest.raises(OptionError, match=r"^crf=20: expected \.mp4 or \.webm, found run\.gif"):
        replay.animate(path, preset="github", crf=20)
    assert not list(tmp_path.iterdir())


def test_a_gif_among_what_is_pushed_is_made_without_what_is_of_video(
    path: Path, tmp_path: Path
) -> None:
    pushed = replay.push(path, f"folder={tmp_path / 'out'}", only="film", gif=True, crf=30)
    assert [each.kind for each in pushed.files] == ["film"]
    assert pushed.remarks == ("crf has no effect on a film that is a .gif",)
    assert not replay.push(path, f"folder={tmp_path / 'b'}", only="film", crf=30).remarks


def test_symmetric_widens_a_range_that_was_asked_for_in_every_view(
    path: Path, tmp_path: Path
) -> None:
    for view in ("maps", "attention", "gradient", "overlay", "cam"):
        asked = picture_of(path, tmp_path / f"{view}0", view=view, clip=(-0.1, 0.2))
        wider = picture_of(path, tmp_path / f"{view}1", view=view, clip=(-0.1, 0.2), symmetric=True)
        assert not np.array_equal(asked, wider), view


def test_health_takes_options_of_its_figure_with_a_figure(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", str(path), "--theme", "dark"]) == 2
    assert (
        capsys.readouterr().err == "error: --theme has no effect without -o: it is of the figure\n"
    )
    assert main(["health", str(path), "--overwrite"]) == 2
    assert main(["health", str(path), "-o", str(tmp_path / "a.png"), "--theme", "dark"]) == 0
