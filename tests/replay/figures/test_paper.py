"""Figures for print: as wide as was asked for, with type that can be read, measured in the files."""

import base64
import io
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording
from svg_maps import svg_maps

import replay
from replay.__main__ import main
from replay.figures.grid_layout import draw_out
from replay.figures.latex import escape
from replay.figures.paper import choose_dpi, read_width
from replay.figures.wrapping import wrap
from replay.raster.palette import colormap, enlarge
from replay.schema import OptionError, SelectionError

LONG = "resnet.encoder.stages.2.layers.0.layer.1.convolution"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("paper") / "run.h5",
        {
            "conv1": drifting_maps(12, 32, 32),
            LONG: drifting_maps(20, 7, 7),
            "tiny": drifting_maps(256, 2, 2),
            "large": drifting_maps(3, 40, 900),
        },
        epochs=3,
        batches=2,
        fields={"label": lambda e, b: 1, "prediction": lambda e, b: 0},
        meta={"classes": ["cat", "a class with a name of many words"]},
    )


def pdf_parts(path: Path) -> tuple[list[float], list[float]]:
    """The width of each page in points, and the size of every text."""
    data = path.read_bytes()
    widths = [float(box.split()[2]) for box in re.findall(rb"/MediaBox \[([^\]]*)\]", data)]
    sizes: list[float] = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL):
        try:
            text = zlib.decompress(stream)
        except zlib.error:
            continue
        sizes += [float(size) for size in re.findall(rb"/F\d+ ([\d.]+) Tf", text)]
    return widths, sizes


def svg_parts(path: Path) -> tuple[float, list[float]]:
    """The width in points, and the size of every text in points."""
    text = path.read_text(encoding="utf-8")
    (width,) = re.findall(r'<svg [^>]*width="([\d.]+)pt" [^>]*viewBox="0 0 \1 ', text)
    return float(width), [
        float(s) for s in re.findall(r"<text [^>]*?(?:font|font-size): (?:\w+ )*([\d.]+)px", text)
    ]


def svg_texts(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", ["grid", "sheet"])
@pytest.mark.parametrize(
    ("width", "inches", "layer"),
    [("3.3in", 3.3, "conv1"), ("8.4cm", 8.4 / 2.54, LONG), ("140mm", 14 / 2.54, "conv1"),
     ("239pt", 239 / 72.27, "tiny"), ("full", 7.0, LONG), (2.5, 2.5, "large")],
)  # fmt: skip
def test_a_figure_is_as_wide_as_was_asked_for_and_its_type_is_no_smaller_than_7_points(
    path: Path, tmp_path: Path, command: str, width: Any, inches: float, layer: str
) -> None:
    draw = getattr(replay, command)
    made = draw(path, tmp_path / "a.pdf", layer=layer, width=width)
    (points,), sizes = pdf_parts(made.path)
    assert points == pytest.approx(72 * inches, abs=0.4)
    assert len(sizes) > 10
    assert min(sizes) >= 7
    made = draw(path, tmp_path / "a.svg", layer=layer, width=width)
    points, sizes = svg_parts(made.path)
    assert points == pytest.approx(72 * inches, abs=0.4)
    assert min(sizes) >= 7
    maps = svg_maps(made.path.read_text())
    assert max(each.x + each.width * each.across for each in maps) <= points
    made = draw(path, tmp_path / "a.png", layer=layer, width=width)
    with Image.open(made.path) as picture:
        assert picture.width / picture.info["dpi"][0] == pytest.approx(inches, abs=0.02)


def test_without_a_width_type_is_no_smaller_either(path: Path, tmp_path: Path) -> None:
    for made in (
        replay.grid(path, tmp_path / "a.pdf", epochs="0,-1"),
        replay.sheet(path, tmp_path / "b.pdf"),
    ):
        assert min(pdf_parts(made.path)[1]) >= 7
    main(["health", str(path), "-o", str(tmp_path / "c.pdf")])
    assert min(pdf_parts(tmp_path / "c.pdf")[1]) >= 7


def test_maps_fill_the_width_in_whole_blocks(path: Path, tmp_path: Path) -> None:
    made = replay.grid(path, tmp_path / "a.png", width="3.3in", clip=(-2, 2))
    with Image.open(made.path) as picture:
        page = np.asarray(picture.convert("RGB"))
    with replay.open(path) as run:
        values = run["conv1"][2, 1].astype("f8")
    levels = np.clip(np.rint((values + 2) / 4 * 253), 0, 253).astype(int)
    tiles = colormap("gray", 254)[levels]
    blocks = [
        block
        for block in range(1, 9)
        if any(row.tobytes().find(enlarge(tiles[0], block)[0].tobytes()) >= 0 for row in page)
    ]
    assert len(blocks) == 1
    last = max(
        row.tobytes().find(line.tobytes()) // 3 + tile.shape[1]
        for tile in (enlarge(each, blocks[0]) for each in tiles)
        for line in tile[:1]
        for row in page
    )
    assert 0.975 * made.width < last <= made.width  # but for a margin of 0.04 inches


def test_fewer_columns_stand_in_a_narrow_figure_and_as_many_as_are_asked_for(
    path: Path, tmp_path: Path
) -> None:
    def columns(command: str, **options: Any) -> int:
        made = getattr(replay, command)(path, tmp_path / "a.svg", **options)
        maps = svg_maps(made.path.read_text())
        assert len(maps) % 12 == 0
        return len({round(each.x, 1) for each in maps})

    assert columns("sheet", width="full") == 12
    assert columns("sheet", width="3.3in") == 4  # beside the images of the rows
    assert columns("sheet", width="3.3in", columns=4) == 4
    assert columns("sheet", columns=5) == 5
    assert columns("grid", width="3.3in", columns=3) == 3
    assert columns("grid", columns=2, width="2in") == 2
    assert columns("grid", width="3.3in") < 8
    assert columns("grid", columns=99) == 12


def test_a_sheet_in_blocks_has_every_channel_in_every_epoch(path: Path, tmp_path: Path) -> None:
    made = replay.sheet(path, tmp_path / "a.svg", width="3.3in", columns=5)
    words = svg_texts(made.path)
    assert [word for word in words if word.isdigit() and word != "0"] == [
        str(n) for n in range(1, 12)
    ]
    assert words.count("epoch 0") == words.count("epoch 2") == 3
    assert len(svg_maps(made.path.read_text())) == 12 * 3


@pytest.mark.parametrize("command", ["grid", "sheet"])
def test_headings_are_wrapped_and_nothing_is_left_out(
    path: Path, tmp_path: Path, command: str
) -> None:
    made = getattr(replay, command)(path, tmp_path / "a.svg", layer=LONG, width="2in")
    words = svg_texts(made.path)
    assert "…" not in "".join(words)
    lines = [place for place, word in enumerate(words) if word and word in LONG]
    assert LONG in "".join(words)
    assert len(lines) > 1
    title = "A heading of more words than a column of a journal has space for in one line"
    made = getattr(replay, command)(path, tmp_path / "a.svg", title=title, width="3.3in")
    assert title in " ".join(svg_texts(made.path))
    assert "conv1" in " ".join(svg_texts(made.path))  # the layer is still named


@pytest.mark.parametrize("cmap", ["gray", "viridis"])
def test_an_svg_has_pictures_of_a_byte_a_pixel(path: Path, tmp_path: Path, cmap: str) -> None:
    noise = np.random.default_rng(0)
    maps = noise.random((16, 64, 64)).astype("f2")
    noisy = write_recording(tmp_path / "noise.h5", {"conv": lambda e, b: maps}, image=None)
    for width, scale in ((None, "adaptive"), ("full", "adaptive"), ("3.3in", "run")):
        made = replay.grid(noisy, tmp_path / "a.svg", width=width, cmap=cmap, scale=scale)
        assert made.bytes < 16 * 64 * 64 * 4 / 3 + 16 * 3_000 + 12_000  # with palettes and bars
        text = made.path.read_text()
        assert text.count('id="map"') == 16
        assert text.count("<path") < 20 + 16 * 2  # a bar with a part of it filled for each map
        assert "image-rendering:pixelated" in text
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(each.png))).convert("RGB"))
        for each in svg_maps(text)
    ]
    with replay.open(noisy) as run:
        values = run["conv"][1, 3].astype("f8")
    low, high = np.percentile(values, (0.5, 99.5))
    assert len(shown) == 16
    if cmap == "gray":
        order = np.argsort(values[3].ravel())
        assert (np.diff(shown[3][..., 0].ravel()[order].astype(int)) >= 0).all()
        assert shown[3][values[3] >= high].min() == 255
        assert shown[3][values[3] <= low].max() == 0
    assert {picture.shape for picture in shown} == {(64, 64, 3)}


def test_all_layers_are_pages_of_a_pdf_and_files_otherwise(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("grid", "sheet"):
        target = tmp_path / f"{command}.pdf"
        made = getattr(replay, command)(path, target, layer="all", width="full")
        assert made.layers == ("conv1", LONG, "tiny", "large")
        assert len(made.captions) == 4
        assert made.paths == (target,)
        assert pdf_parts(target)[0] == pytest.approx([504] * 4, abs=0.5)
        assert len(re.findall(rb"/Type /Page\b", target.read_bytes())) == 4
        made = getattr(replay, command)(path, tmp_path / f"{command}.svg", layer=["tiny", "conv*"])
        names = [each.name for each in made.paths]
        assert names == [f"{command}-tiny.svg", f"{command}-conv1.svg"]
        assert ["tiny" in svg_texts(each) for each in made.paths] == [True, False]
        assert made.bytes == sum(each.stat().st_size for each in made.paths)
    out = str(tmp_path / "a.png")
    assert main(["sheet", str(path), "--layer", "conv1", "tiny", "-o", out, "--dpi", "60"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        str(tmp_path / "a-conv1.png"), str(tmp_path / "a-tiny.png")
    ]  # fmt: skip
    assert not Path(out).exists()


def test_names_of_files_differ_and_stay_in_the_folder(tmp_path: Path) -> None:
    maps = drifting_maps(2, 4, 4)
    path = write_recording(tmp_path / "run.h5", {"x" * 300: maps, "a:b": maps, "a*b": maps})
    made = replay.grid(path, tmp_path / "g.png", layer="all", dpi=60)
    assert len({each.name.lower() for each in made.paths}) == 3
    assert all(each.parent == tmp_path and each.is_file() for each in made.paths)
    assert [each.name for each in made.paths][1:] == ["g-a_b.png", "g-a_b-2.png"]


def test_of_several_layers_one_that_cannot_be_drawn_is_left_out_and_said(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = replay.grid(path, tmp_path / "a.pdf", layer="all", channels="5")
    assert made.layers == ("conv1", LONG, "tiny")
    assert made.remarks == ("left out large: no channel 5; there: 0-2",)
    assert (
        main(["grid", str(path), "--layer=all", "--channels", "5", "-o", str(tmp_path / "b.pdf")])
        == 0
    )
    assert "left out large: no channel 5" in capsys.readouterr().err
    with pytest.raises(SelectionError, match="no channel 300"):
        replay.grid(path, tmp_path / "c.pdf", layer="all", channels="300")
    with pytest.raises(SelectionError, match="no channel 300"):
        replay.grid(path, tmp_path / "c.png", layer="all", channels="300")
    assert not list(tmp_path.glob("c*"))


def test_axes_of_ones_own_have_one_layer(path: Path) -> None:
    with pytest.raises(SelectionError, match="expected one layer, found 4: conv1, "):
        replay.draw(path, layer="all")


def test_what_latex_needs_is_printed(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["grid", str(path), "-o", "my_fig.pdf", "--width", "8.4cm", "--latex"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("note: my_fig.pdf  ")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == r"\begin{figure}"
    assert lines[2] == r"\includegraphics[width=8.4cm]{my_fig.pdf}"
    assert lines[3].startswith(r"\caption{Feature maps of conv1 (Conv2d 3 $\rightarrow$ 12, ")
    assert lines[4] == r"\label{fig:my-fig}"
    assert lines[-1] == r"\end{figure}"
    made = replay.sheet(path, "s 1.pdf", layer="all", width="full")
    assert made.latex().count(r"\begin{figure*}") == 4
    assert r"\includegraphics[page=3,width=\textwidth]{\detokenize{s 1.pdf}}" in made.latex()
    assert r"\label{fig:s-1-tiny}" in made.latex()
    assert r"\includesvg[width=2in]{a.svg}" in replay.grid(path, "a.svg", width=2).latex()
    assert escape(r"50% of a_b & {c} → $x^2$ \d   e") == (
        r"50\% of a\_b \& \{c\} $\rightarrow$ \$x\textasciicircum{}2\$ \textbackslash{}d, e"
    )


def test_labels_differ_and_files_are_found_whatever_layers_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["слой", "модель", "a_1", "a-1", "relu", "relu#1"]
    layers = {name: drifting_maps(2, 8, 8, seed) for seed, name in enumerate(names)}
    run = write_recording(Path("run.h5"), layers, epochs=1, batches=1)
    for name in ("g.pdf", "g.png"):
        made = replay.grid(run, name, layer="all")
        labels = re.findall(r"\\label{fig:(.*)}", made.latex())
        assert len(set(labels)) == len(names)
        assert labels[:2] == ["g", "g-2"]
    files = re.findall(r"\\includegraphics\[.*\]{(.*)}", made.latex())
    assert files[-2:] == ["g-relu.png", r"\detokenize{g-relu}\string#\detokenize{1.png}"]
    assert Path("g-relu#1.png") in made.paths
    whole = replay.grid(run, "50%.pdf", layer="relu").latex()
    assert r"{\detokenize{50}\csname @percentchar\endcsname\detokenize{.pdf}}" in whole


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here: not compiled")
def test_what_latex_needs_compiles_with_its_figures(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = write_recording(
        Path("run 1.h5"), {"a_b#1 50%25 ~x^2 → é «ð» 中文 λ": drifting_maps(3, 8, 8)}, epochs=2
    )
    snippets = []
    for command in (
        ["grid", str(path), "-o", "my_fig.pdf", "--width", "3.3in"],
        ["sheet", str(path), "-o", "s 1.pdf", "--layer", "all", "--width", "full"],
        ["grid", str(path), "-o", "dots.2.png", "--width", "8.4cm"],
        [
            "grid",
            str(odd),
            "-o",
            "odd.pdf",
            "--width",
            "60mm",
            "--title",
            "100 % {of} \\maps & $x$",
        ],
    ):
        assert main([*command, "--latex"]) == 0
        snippets.append(capsys.readouterr().out)
    body = "\n".join(["See Figure~\\ref{fig:my-fig}.", *snippets])
    Path("paper.tex").write_text(
        "\\documentclass[twocolumn]{article}\n\\usepackage{graphicx}\n"
        f"\\begin{{document}}\n\\listoffigures\n{body}\n\\end{{document}}\n",
        encoding="utf-8",
    )
    for _ in range(2):  # the second time with the references and the list of figures
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            capture_output=True,
            timeout=120,
        )
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, said[-2000:]
    assert "undefined" not in said
    assert Path("paper.pdf").stat().st_size > 20_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": "3.3"}, r"width '3.3': expected a length such as 3.3in"),
        ({"width": "wide"}, "or full"),
        ({"width": "1mm"}, "1 to 40 inches"),
        ({"width": float("nan")}, "1 to 40 inches"),
        ({"width": "90in"}, "1 to 40 inches"),
        ({"width": True}, "expected a length"),
        ({"columns": 0}, "columns 0"),
        ({"layer": "large", "columns": 3, "width": "1in"}, "need more than 2400 an inch"),
    ],
)
def test_a_width_that_cannot_be_is_refused(
    path: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    for draw in (replay.grid, replay.sheet):
        with pytest.raises(OptionError, match=words):
            draw(path, tmp_path / "a.png", **options)
    assert not list(tmp_path.iterdir())


def test_a_resolution_is_chosen_at_which_little_is_left() -> None:
    def width_at(dpi: int) -> int:  # 5 maps of 100 pixels and margins of a tenth of an inch
        return 5 * 100 * max(1, (3 * dpi - dpi // 5) // 500) + dpi // 5

    dpi = choose_dpi(3.0, 200, width_at)
    assert 200 <= dpi < 400
    assert 0.99 <= width_at(dpi) / (3 * dpi) <= 1
    assert choose_dpi(3.0, 1000, width_at) >= 1000
    assert read_width("72.27pt").inches == 1.0


@pytest.mark.parametrize("width", range(1, 30))
def test_lines_fit_and_all_letters_are_there(width: int) -> None:
    text = "epoch 4   batch 59   a.very.long.name_of-a/layer1 word"
    lines = wrap(text, width, len)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert wrap("", width, len) == wrap("  ", width, len) == []


def test_names_are_broken_where_their_parts_end() -> None:
    assert wrap("encoder.layers.0.convolution", 17, len) == ["encoder.layers.0.", "convolution"]
    assert wrap("block_12/expand-conv", 12, len) == ["block_12/", "expand-conv"]


@pytest.mark.parametrize("command", ["grid", "sheet"])
@pytest.mark.parametrize("width", [None, "3.3in"])
def test_maps_far_longer_than_wide_are_drawn_out_like_signals(
    tmp_path: Path, command: str, width: str | None
) -> None:
    layers = {
        "wide": drifting_maps(4, 4, 1200),
        "tall": drifting_maps(4, 1200, 4),
        "row": drifting_maps(4, 1, 300),
    }
    path = write_recording(tmp_path / "run.h5", layers, epochs=1, batches=2)
    for layer in layers:
        made = getattr(replay, command)(path, tmp_path / "a.svg", layer=layer, width=width)
        found = svg_maps(made.path.read_text())
        assert len(found) == 4
        for each in found:
            size = each.width * each.across, each.height * each.down
            assert min(size) > 72 * (0.11 if layer == "row" else 0.28)
            assert size[0] < 72 * (3.3 if width else 8)


def test_maps_that_are_no_signals_keep_their_shape() -> None:
    assert [draw_out(size, 3, 200, 999) for size in ((9, 9), (4, 20), (100, 900), (1, 1))] == [
        (3, 3)
    ] * 4
    assert draw_out((2, 40), 3, 200, 999) == (30, 3)
    assert draw_out((40, 2), 3, 200, 30) == (3, 15)  # no wider than there is space


def test_an_svg_keeps_its_spaces_and_its_title(tmp_path: Path) -> None:
    """As a browser shows it, where `3×3   12 maps` became `3×3 12 maps`."""
    modules = {"conv1": "Conv2d(3, 12, kernel_size=(3, 3), stride=(1, 1))"}
    path = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(12, 8, 8)}, modules=modules)
    svg = replay.grid(path, tmp_path / "a.svg", title="A & B").path.read_text(encoding="utf-8")
    assert "3×3\u00a0\u00a0 12 maps of 8×8<" in svg
    assert "<title>A &amp; B, conv1   Conv2d 3 → 12" in svg
    assert not re.search(r"<text[^>]*>[^<]*  ", svg)


@pytest.mark.parametrize(("command", "width"), [("grid", "3.3in"), ("sheet", "3.4in")])
def test_maps_too_small_to_be_seen_on_paper_are_said(
    command: str, width: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"wide": drifting_maps(1024, 7, 7)}, epochs=1, batches=1, image=None
    )
    make: Any = getattr(replay, command)
    more: dict[str, Any] = {"width": width, "channels": range(1024)}
    if command == "sheet":
        more["columns"] = 50
    made = make(path, tmp_path / "a.svg", **more)
    found = re.findall(
        r'id="map" width="7" height="7" transform="matrix\(([\d.]+) ', made.path.read_text()
    )
    millimetres = 7 * float(found[0]) / 72 * 25.4
    (said,) = made.remarks
    assert said == (
        f"wide: each of 1,024 maps is {millimetres:.1f} mm across, too small to be seen on paper; "
        "channels='top:64' shows fewer, larger"
    )
    assert not make(path, tmp_path / "a.svg", width=width, channels="top:64").remarks
    if command == "grid":
        assert main(["grid", str(path), "-o", str(tmp_path / "b.png"), "--width", width]) == 0
        assert "--channels top:64 shows fewer, larger" in capsys.readouterr().err
