"""Imports torchvision, also beside a torch that it was not built for.

The wheel of torchvision that package indexes serve is built for CUDA. Beside a CPU build of torch
its compiled operators do not load, and the import ends in "operator torchvision::nms does not
exist": its Python code attaches implementations to operators that nobody has declared. Declaring
them makes models, data sets and transforms work; the operators themselves (non-maximum suppression
for detection) stay without an implementation.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType

import torch

from replay.schema import OptionError

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")

_libraries: list[torch.library.Library] = []  # a declaration lasts as long as its library


def import_torchvision() -> ModuleType:
    """The package torchvision.

    Raises:
        OptionError: It is not installed, or does not fit the installed torch.
    """
    for _ in range(4):
        try:
            import torchvision
        except ImportError as error:
            raise OptionError(
                f"this needs torchvision ({error}); install it with pip install 'mapreel[record]'"
            ) from error
        except RuntimeError as error:
            if not declare_missing(error):
                raise OptionError(
                    f"torchvision does not fit torch {torch.__version__}: {error}"
                ) from error
            for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
                del sys.modules[name]
        else:
            module: ModuleType = torchvision
            return module
    raise OptionError(f"torchvision does not fit torch {torch.__version__}")


def declare_missing(error: RuntimeError) -> bool:
    """Declares the operator without which an import of torchvision failed.

    Args:
        error: What the import raised.

    Returns:
        Whether it was that; the import can then be tried again.
    """
    missing = _MISSING.search(str(error))
    if missing is None:
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define(missing.group(1) + _SCHEMA)  # type: ignore[no-untyped-call]
    _libraries.append(library)
    return True
