"""Draws figures with matplotlib: of feature maps, and of what `health` found.

To be imported from here:

- `grid` and `sheet`, which write a file and give a `Figure`;
- `draw`, which draws into axes of one's own;
- `draw_health`, the chart of the health of a network.
"""

from replay.figures.axes import draw
from replay.figures.contact_sheet import sheet
from replay.figures.figure import Figure
from replay.figures.health_chart import draw_health
from replay.figures.map_grid import grid

__all__ = ["Figure", "draw", "draw_health", "grid", "sheet"]
