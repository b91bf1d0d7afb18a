"""What a `with` block closes when it ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

_Closing = TypeVar("_Closing", bound="Closing")


class Closing(ABC):
    """Has a method `close`, which a `with` block calls when it ends, however it ends."""

    def __enter__(self: _Closing) -> _Closing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Releases what is held; a second call does nothing."""
