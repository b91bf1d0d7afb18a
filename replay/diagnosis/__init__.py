"""Finds what goes wrong with the channels of a network while it trains.

To be imported from here: `health`, which examines a recording, and what it gives: `Health`, with a
`LayerHealth` for each layer, `Finding` and `Change`.
"""

from replay.diagnosis.examination import health
from replay.diagnosis.report import KINDS, Change, Finding, Health, LayerHealth

__all__ = ["KINDS", "Change", "Finding", "Health", "LayerHealth", "health"]
