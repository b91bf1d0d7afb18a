"""Which batches of a run are recorded, and how many bytes that takes.

`Schedule` decides by the numbers of a batch, `Budget` thins what it keeps to so many bytes,
`BatchChoice` asks both of them, once for each batch. `make_plan` says beforehand what will be
recorded. `Cadence` says how often a fixed image is shown.
"""

from record.schedule.budget import Budget, parse_bytes
from record.schedule.cadence import Cadence
from record.schedule.choice import BatchChoice
from record.schedule.plan import Plan, make_plan
from record.schedule.schedule import Schedule

__all__ = ["BatchChoice", "Budget", "Cadence", "Plan", "Schedule", "make_plan", "parse_bytes"]
