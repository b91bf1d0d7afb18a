"""What users import and call is what `public_face.json` says: names, parameters and defaults.

A change of the face is a change of that file, in the same commit: by hand, and on purpose.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FACE: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("public_face.json").read_text(encoding="utf-8")
)


def parameters(thing: Any) -> list[str]:
    """Each parameter with its default, without its type."""
    found = inspect.signature(thing).parameters.values()
    return [str(each.replace(annotation=inspect.Parameter.empty)) for each in found]


def described(thing: Any) -> Any:
    """The parameters of a function, the members of a class, or nothing."""
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        members = {
            name: described(getattr(thing, name)) for name in dir(thing) if not name.startswith("_")
        }
        return {"parameters": parameters(thing), "members": members}
    return parameters(thing) if inspect.isfunction(thing) else None


@pytest.fixture(params=FACE)
def module(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "record.lightning":
        pytest.importorskip("lightning.pytorch")
    return importlib.import_module(request.param)


def test_the_exported_names(module: ModuleType) -> None:
    assert sorted(module.__all__) == sorted(FACE[module.__name__])
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_parameters_and_defaults(module: ModuleType) -> None:
    for name, expected in FACE[module.__name__].items():
        found = described(getattr(module, name))
        if isinstance(expected, dict):
            kept = {member: found["members"].get(member, "gone") for member in expected["members"]}
            found = {**found, "members": kept}  # more may be there, for other modules
        assert found == expected, f"{module.__name__}.{name}"


def test_a_name_that_is_not_there_is_an_attribute_error(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name
