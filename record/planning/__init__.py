"""What a recording of a model will consist of, and what it takes, before anything is trained.

`plan` is what users call, `find_layout` does one forward of a copy of the model, and `make_whole`
gives lazy modules their parameters.
"""

from record.planning.layout import find_layout
from record.planning.plan import plan

__all__ = ["find_layout", "plan"]
