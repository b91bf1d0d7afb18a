"""A figure that was drawn: its files, what each page shows, and what LaTeX needs to show it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from replay.figures.canvas import Canvas, to_pdf
from replay.figures.latex import snippets
from replay.figures.paper import FULL, PaperWidth
from replay.figures.style import own_settings
from replay.formatting import format_bytes, format_count
from replay.html import file_html
from replay.output import check_writable, replacing
from replay.overwriting import check_replaceable
from replay.schema import DamagedError, SelectionError

_LONGEST_NAME = 80  # letters of a layer's name in the name of a file


@dataclass(frozen=True)
class Figure:
    r"""A figure that was drawn.

    Attributes:
        path: The file; of several, the first.
        width: The width of its first page in pixels at `dpi`.
        height: Its height likewise.
        bytes: The size of all files together.
        seconds: How long drawing took.
        remarks: What a reader should know: batches or layers left out, recordings of different
            runs.
        paths: All files: several where a PNG or an SVG of several layers was asked for.
        layers: The layer of each page; empty where a page is of all of them.
        captions: What each page shows, in words.
        dpi: Pixels an inch, of the first page.
        paper_width: Its width on paper as LaTeX spells it, such as `3.3in` or `\textwidth`.
        replaced: The files that were there before.
    """

    path: Path
    width: int
    height: int
    bytes: int
    seconds: float
    remarks: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    layers: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    dpi: int = 200
    paper_width: str = r"\textwidth"
    replaced: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        files = f", {format_count(len(self.paths), 'file')}" if len(self.paths) > 1 else ""
        remarks = f"; {format_count(len(self.remarks), 'remark')}" if self.remarks else ""
        return f"<Figure {str(self.path)!r}: {self._in_words()}{files}{remarks}>"

    def _repr_html_(self) -> str:
        """Shows itself in a notebook: each file, or a link to it."""
        words = self.captions or ("",)
        shown = zip(self.paths or (self.path,), words, strict=False)
        return "".join(file_html(path, text, self._in_words()) for path, text in shown)

    def _in_words(self) -> str:
        layers = ", ".join(self.layers[:3]) + (" ..." if len(self.layers) > 3 else "")
        size = f"{self.width}×{self.height} pixels, {format_bytes(self.bytes)}"
        return f"{layers}, {size}" if layers else size

    def latex(self) -> str:
        """Returns a figure environment for each page, with its caption and its label."""
        return snippets(self.paths, self.paper_width, self.captions, self.layers or ("",))


def write_figure(
    path: Path,
    layers: Sequence[str],
    draw: Callable[[str], Canvas],
    width: PaperWidth | None,
    remarks: list[str],
    overwrite: bool,
) -> Figure:
    """Draws a page for each layer, and writes them: into one PDF, or a file each.

    Of several layers, one that cannot be drawn is left out, and it is said.

    Args:
        path: The file; of several, what their names are made of.
        layers: The names of the layers.
        draw: Draws the page of a layer; returns it closed.
        width: The width that was asked for, if any.
        remarks: To which is added what a reader should know.
        overwrite: Whether files may be replaced that mapreel has not made.

    Raises:
        OutputError: A file cannot be written; nothing is left half-written. What may not be
            replaced is found before anything is drawn.
        SelectionError: None of the layers can be drawn.
        DamagedError: Likewise.
    """
    start = time.perf_counter()
    in_one = path.suffix.lower() == ".pdf" or len(layers) == 1
    replaced = check_replaceable([path] if in_one else _paths(path, layers), overwrite)
    drawn: list[str] = []
    problems: list[SelectionError | DamagedError] = []

    def pages() -> Iterator[Canvas]:
        for layer in layers:
            try:
                with own_settings():
                    page = draw(layer)
            except (SelectionError, DamagedError) as problem:
                if len(layers) == 1:
                    raise
                problems.append(problem)
                remarks.append(f"left out {layer}: {problem}")
                continue
            drawn.append(layer)
            remarks.extend(each for each in page.remarks if each not in remarks)
            yield page
        if not drawn:
            raise problems[0]

    if in_one:
        paths = [path]
        with replacing(path) as unfinished:
            if path.suffix.lower() == ".pdf":
                data, canvases = to_pdf(pages())
            else:
                canvases = list(pages())
                data = canvases[0].to_bytes()
            unfinished.write_bytes(data)
    else:
        check_writable(path)
        canvases, contents = [], []
        for canvas in pages():
            contents.append(canvas.to_bytes())
            canvases.append(canvas)
        paths = _paths(path, drawn)
        replaced = check_replaceable(paths, overwrite)  # of those that could be drawn
        with ExitStack() as stack:
            for each, content in zip(paths, contents, strict=True):
                stack.enter_context(replacing(each)).write_bytes(content)
    first = canvases[0]
    return Figure(
        paths[0],
        *first.size,
        sum(each.stat().st_size for each in paths),
        time.perf_counter() - start,
        tuple(remarks),
        tuple(paths),
        tuple(drawn),
        tuple(canvas.description for canvas in canvases),
        first.dpi,
        _words(width, first),
        replaced,
    )


def _words(width: PaperWidth | None, page: Canvas) -> str:
    """Returns the width on paper as LaTeX spells it; what is as wide as a page spans its text."""
    if width is not None:
        return width.words
    inches = page.size[0] / page.dpi
    return r"\textwidth" if inches >= FULL - 0.5 else f"{inches:.2f}in"


def _paths(path: Path, layers: Sequence[str]) -> list[Path]:
    """Returns a file for each layer: `sheet-conv1.png`; no two of them are the same."""
    found: list[Path] = []
    taken: set[str] = set()
    for layer in layers:
        word = re.sub(r"[^\w.#-]+", "_", layer)[:_LONGEST_NAME] or "_"
        name, number = word, 1
        while name.lower() in taken:
            number += 1
            name = f"{word}-{number}"
        taken.add(name.lower())
        found.append(path.with_name(f"{path.stem}-{name}{path.suffix}"))
    return found
