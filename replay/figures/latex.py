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


def plain_label(text: str) -> str:
    """Returns a text as a label, in which letters that no label can have are replaced."""
    return re.sub(r"[^A-Za-z0-9.:/+-]+", "-", text).strip("-") or "maps"


def _file_name(path: str) -> str:
    r"""Returns a path as LaTeX reads it; within `\detokenize`, # is doubled and % a comment."""
    if not re.search(r"[^\w./+-]", path, re.ASCII):
        return path
    special = {"#": r"\string#", "%": r"\csname @percentchar\endcsname"}
    parts = re.split("([#%])", path)
    return "".join(special.get(each, rf"\detokenize{{{each}}}") for each in parts if each)


def snippet(path: Path, page: int | None, width: str, caption: str, label: str) -> str:
    r"""Returns a figure environment.

    Args:
        path: The figure's file.
        page: Which of its pages, from 1; None where there is but one.
        width: How wide it is, as LaTeX spells it; `\textwidth` makes it span both columns.
        caption: What it shows, in plain text.
        label: What refers to it, without `fig:`, as `plain_label` gives it.
    """
    environment = "figure*" if width == r"\textwidth" else "figure"
    number = f"page={page}," if page is not None else ""
    name = _file_name(path.as_posix())
    include = rf"\includegraphics[{number}width={width}]{{{name}}}"
    if path.suffix.lower() == ".svg":  # of the package svg
        include = rf"\includesvg[width={width}]{{{name}}}"
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
    found: list[str] = []
    labels: list[str] = []
    for place, (caption, layer) in enumerate(zip(captions, layers, strict=True)):
        path = paths[0] if one_file else paths[place]
        label = name = plain_label(f"{path.stem}-{layer}" if one_file else path.stem)
        again = 2
        while name in labels:  # what has no letters in common with ASCII leaves nothing of it
            name, again = f"{label}-{again}", again + 1
        labels.append(name)
        found.append(snippet(path, place + 1 if one_file else None, width, caption, name))
    return "\n\n".join(found)
