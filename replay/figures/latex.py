"""What LaTeX needs to show a figure: a snippet with its caption and label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
}


# What pdfLaTeX does not set without another package: all but ASCII and most of Latin-1.
_BEYOND = re.compile(
    "[^ -~\u00a1-\u00aa\u00ac-\u00ba\u00bc-\u00cf\u00d1-\u00dd\u00df-\u00ef\u00f1-\u00fd\u00ff]+"
)


def escape(text: str) -> str:
    """Returns a text as LaTeX that shows it; three spaces between facts become a comma.

    Letters that pdfLaTeX does not know stand there for LuaLaTeX and XeLaTeX, which have fonts for
    them; for pdfLaTeX they are numbers, as in films without such a font.
    """
    text = re.sub(r"\s{2,}", ", ", text.strip())
    parts, at = [], 0
    for found in _BEYOND.finditer("".join(" " if each in _ESCAPED else each for each in text)):
        parts.append(_escape_known(text[at : found.start()]))
        numbers = " ".join(f"U+{ord(letter):04X}" for letter in found[0])
        parts.append(rf"\ifdefined\Umathchar {found[0]}\else {numbers}\fi{{}}")
        at = found.end()
    return "".join([*parts, _escape_known(text[at:])])


def _escape_known(text: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def snippet(path: Path, page: int | None, width: str, caption: str, label: str) -> str:
    r"""Returns a figure environment.

    Args:
        path: The figure's file.
        page: Which of its pages, from 1; None where there is but one.
        width: How wide it is, as LaTeX spells it; `\textwidth` makes it span both columns.
        caption: What it shows, in plain text.
        label: What refers to it, without `fig:`; letters that a label cannot have are replaced.
    """
    environment = "figure*" if width == r"\textwidth" else "figure"
    number = f"page={page}," if page is not None else ""
    name = path.as_posix()
    if re.search(r"[^\w./+-]", name, re.ASCII):
        name = rf"\detokenize{{{name}}}"
    include = rf"\includegraphics[{number}width={width}]{{{name}}}"
    if path.suffix.lower() == ".svg":  # of the package svg
        include = rf"\includesvg[width={width}]{{{name}}}"
    label = re.sub(r"[^A-Za-z0-9.:/+-]+", "-", label).strip("-") or "maps"
    lines = [
        rf"\begin{{{environment}}}",
        r"  \centering",
        f"  {include}",
        rf"  \caption{{{escape(caption)}}}",
        rf"  \label{{fig:{label}}}",
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines)


def snippets(
    paths: Sequence[Path], width: str, captions: Sequence[str], layers: Sequence[str]
) -> str:
    """Returns a figure environment for each page of a figure.

    Args:
        paths: The file of each page; one for all of them where it has several pages.
        width: As in `snippet`.
        captions: What each page shows.
        layers: The layer of each page.
    """
    several = len(captions) > 1
    one_file = several and len(paths) == 1
    found = []
    for place, (caption, layer) in enumerate(zip(captions, layers, strict=True)):
        path = paths[0] if one_file else paths[place]
        label = f"{path.stem}-{layer}" if one_file else path.stem
        found.append(snippet(path, place + 1 if one_file else None, width, caption, label))
    return "\n\n".join(found)
