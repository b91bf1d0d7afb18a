"""The modules of a network: their names, and which of them are recorded.

`find_layers` finds the modules that names, globs and class names stand for, `default_layers` those
that are recorded where nobody chose any. `named_modules` and `unwrap` see through wrappers such as
DistributedDataParallel.
"""

from record.modules.defaults import default_layers
from record.modules.names import named_modules, unwrap
from record.modules.selection import Patterns, find_layers

__all__ = ["Patterns", "default_layers", "find_layers", "named_modules", "unwrap"]
