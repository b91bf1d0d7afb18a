"""What is said of a recording: in one line when it ends, and where it is shown."""

from __future__ import annotations

import html
from pathlib import Path

from record.formatting import format_bytes, format_count
from record.protocol.layout import BatchLayout
from record.short_path import short_path
from replay.schema import Layer
from replay.schema.faces import command

_LAYERS = 12  # rows of the table

NO_EPOCHS = (
    "nothing said where an epoch begins: use track(loader) for the batches of each epoch, or call "
    "epoch(number)"
)
GOES_ON = (
    "the training goes on: nothing more is recorded; close it behind the last epoch (the whole "
    "loop belongs inside of the with block)"
)


def closing_line(
    path: Path,
    model: str,
    batches: int,
    layout: BatchLayout,
    lost: int = 0,
    no_probe: str = "",
) -> str:
    """Returns the line at the end of a recording: what was recorded, where, and what to type next.

    Args:
        path: The recording.
        model: The model's class.
        batches: The number of batches that a reader can see.
        layout: The layers.
        lost: The number of frames that were lost or dropped.
        no_probe: Why the first image was not shown again, in words; empty where it was, or where
            nobody wanted it.
    """
    layers = format_count(len(_layers_of(layout)), "layer")
    facts = [f"recorded {format_count(batches, 'batch')} of {model}", layers]
    try:
        facts.append(format_bytes(path.stat().st_size))
    except OSError:
        facts.append("which is no file any more")
    if lost:
        facts.append(f"{format_count(lost, 'frame')} lost")
    if no_probe:
        facts.append(f"no fixed image ({no_probe})")
    typed = short_path(path)
    return f"{', '.join(facts)}: {typed}; {command('replay', 'animate', typed)}"


def _layers_of(layout: BatchLayout) -> list[Layer]:
    """Returns the layers of the batches' own images."""
    return [layer for layer in layout.layers if layer.is_main]


def recorder_text(path: Path, model: str, state: str, layout: BatchLayout) -> str:
    """Returns a recorder in one line."""
    layers = _layers_of(layout)
    names = format_count(len(layers), "layer") if layers else "no layer has fired yet"
    return f"<Recorder of {model} into {path}: {state}, {names}>"


def recorder_html(path: Path, model: str, state: str, layout: BatchLayout) -> str:
    """Returns a recorder as a notebook shows it: a table of its layers, as HTML."""
    layers = _layers_of(layout)
    style = "style='text-align:left'"
    cells = [
        (layer.name, layer.module, "×".join(map(str, layer.shape))) for layer in layers[:_LAYERS]
    ]
    rows = "".join(
        f"<tr>{''.join(f'<td {style}>{html.escape(text)}</td>' for text in row)}</tr>"
        for row in cells
    )
    if len(layers) > _LAYERS:
        rows += f"<tr><td colspan=3>and {len(layers) - _LAYERS:,} more</td></tr>"
    head = "".join(f"<th {style}>{name}</th>" for name in ("layer", "module", "maps"))
    table = f"<table><tr>{head}</tr>{rows}</table>" if layers else "<br>no layer has fired yet"
    return (
        f"<div><b>{html.escape(str(path))}</b><br><small>{html.escape(model)} · "
        f"{html.escape(state)}</small>{table}</div>"
    )
