"""Descriptions that print as the Python that makes them, without what is as always."""

from __future__ import annotations

import dataclasses


class Brief:
    """A dataclass of which `repr` leaves the defaults out."""

    def __repr__(self) -> str:
        words = []
        for place, field in enumerate(dataclasses.fields(self)):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if place == 0 and field.default is dataclasses.MISSING:
                words.append(repr(value))
            elif value != field.default:
                words.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(words)})"
