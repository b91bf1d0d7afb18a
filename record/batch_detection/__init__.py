"""Detects which forwards of an unchanged script make up the batches that it trains on.

`record.launch` imports `LoaderTracker` (what the script's loaders hand out), `BatchDetector` (which
forwards are a batch, of which epoch) and `HeldFrames` (frames that wait for that decision). The
modules `deliveries`, `unconsumed`, `epochs`, `candidate` and `detector` know no torch, and neither
does this package's `__init__`; import the others by their module.
"""

from record.batch_detection.candidate import BatchCandidate
from record.batch_detection.deliveries import Deliveries, LoaderItem, LoaderPass
from record.batch_detection.detector import BatchDetector, ForwardRole
from record.batch_detection.epochs import BatchPosition, EpochNumbering
from record.batch_detection.unconsumed import UnconsumedItems

__all__ = [
    "BatchCandidate",
    "BatchDetector",
    "BatchPosition",
    "Deliveries",
    "EpochNumbering",
    "ForwardRole",
    "LoaderItem",
    "LoaderPass",
    "UnconsumedItems",
]
