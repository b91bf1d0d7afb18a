"""Lightning, where it is installed."""

from __future__ import annotations

from types import ModuleType

import pytest
from lightning_trainings import need


@pytest.fixture
def lightning() -> ModuleType:
    return need("lightning.pytorch")
