"""All rows, in the order of the table."""

from __future__ import annotations

import rows
import rows_axes
import rows_failing
import rows_graphs
import rows_outputs
import rows_processes
from training import Row

_ROOMS = (rows, rows_failing, rows_axes, rows_graphs, rows_outputs, rows_processes)
ALL: dict[str, Row] = {name: row for room in _ROOMS for name, row in room.ROWS.items()}
