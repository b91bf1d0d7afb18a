"""What stands over the maps of each layer where a film shows several: its name, and what it is."""

from __future__ import annotations

from collections.abc import Sequence

from replay.maps.runs import LayerPanel
from replay.raster.histogram import label_width
from replay.raster.names import tell_apart_at
from replay.raster.text import fit, width_of
from replay.raster.widgets import SMALL, ColorBar

SECTION_SIZE = 14  # pixels of the font of a layer's name
HEAD_GAP = 10  # between a name and what follows it
_APART = "   "  # between a module and its maps
_VALUES_OF = "values of "


def fit_heads(
    panels: Sequence[LayerPanel], space: int, names_first: bool = False
) -> list[tuple[str, str]]:
    """Returns the name and the details of each layer, as much of both as fits a line.

    Names take the space that the shortest details leave, and differ where they do in full.

    Args:
        panels: All layers that are shown together.
        space: Pixels for a name and its details.
        names_first: Whether details have only what the name leaves of the line, if they fit.
    """
    least = (
        [0]
        if names_first
        else [min(width_of(_versions(panel)[-1], SMALL), space // 3) for panel in panels]
    )
    width = space - HEAD_GAP - max(least, default=0)
    names = tell_apart_at([panel.name for panel in panels], SECTION_SIZE, width, bold=True)
    heads = []
    for name, panel in zip(names, panels, strict=True):
        left = space - HEAD_GAP - width_of(name, SECTION_SIZE, bold=True)
        versions = _versions(panel)
        fitting = [text for text in versions if width_of(text, SMALL) <= left]
        rest = "" if names_first else fit(versions[1], SMALL, left)
        heads.append((name, fitting[0] if fitting else rest))
    return heads


def bar_width(panels: Sequence[LayerPanel]) -> int:
    """Returns the width of the colour bars beside the heads, with numbers where there are any."""
    own = all(panel.gains for panel in panels)  # each map has a range of its own
    return ColorBar.WITHOUT_NUMBERS if own else ColorBar.WIDTH_BESIDE


def histogram_titles(panels: Sequence[LayerPanel], width: int) -> list[str]:
    """Returns what stands over the histogram of each layer: `values of conv1`, or the name alone.

    Args:
        panels: The layers.
        width: Pixels of a histogram.
    """
    names = [panel.name for panel in panels]
    left = label_width(width)
    whole = [_VALUES_OF + name for name in names]
    if all(width_of(text, SMALL) <= left for text in whole):
        return whole
    return tell_apart_at(names, SMALL, left)


def _versions(panel: LayerPanel) -> list[str]:
    """Returns the details of a layer: all, the last part, and how maps were made smaller, if so."""
    smaller = panel.mosaic.in_words()
    return [panel.details, panel.details.split(_APART)[-1], *([smaller] if smaller else [])]
