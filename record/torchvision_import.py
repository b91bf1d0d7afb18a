"""Imports torchvision, also beside a torch that it was not built for."""

from __future__ import annotations

from types import ModuleType

import torch

from record import torchvision_operators
from replay.schema import OptionError


def import_torchvision() -> ModuleType:
    """Returns the package torchvision.

    Raises:
        OptionError: torchvision is not installed, or does not fit the installed torch.
    """
    torchvision_operators.install()
    try:
        import torchvision
    except ImportError as error:
        raise OptionError(
            f"this needs torchvision ({error}); install it with pip install 'mapreel[record]'"
        ) from error
    except RuntimeError as error:
        raise OptionError(f"torchvision does not fit torch {torch.__version__}: {error}") from error
    module: ModuleType = torchvision
    return module
