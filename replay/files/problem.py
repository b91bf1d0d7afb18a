"""One thing in a recording that is not as it was recorded."""

from __future__ import annotations

from dataclasses import dataclass

from replay.schema import DamagedError


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was recorded.

    Attributes:
        what: `maps`, `kernels`, `ranges`, `input`, `values` (of a field such as `loss`), `counts`,
            `state`, `order` or `file`; of what lies beside the maps `attention`, `gradients` or
            `cam`.
        text: What was expected and what was found.
        layer: The layer's name, `fixed image 0: conv1` for a fixed one, `conv1 gradients` for what
            lies beside its maps; empty where it is none's.
        epoch: Where, or None for the whole file.
        batch: Where, or None for the whole file.
    """

    what: str
    text: str
    layer: str = ""
    epoch: int | None = None
    batch: int | None = None

    @classmethod
    def told(cls, error: Exception, what: str, layer: str, epoch: int, batch: int) -> Problem:
        """Returns the problem that an error tells of, whose frame and file need no second name."""
        text = error.short if isinstance(error, DamagedError) else str(error)
        return cls(what, text, layer, epoch, batch)

    def __str__(self) -> str:
        if self.what == "file":
            return f"file: {self.text}"
        where = [self.layer] if self.layer else []
        if self.epoch is not None:
            where.append(f"epoch {self.epoch} batch {self.batch}")
        return f"{' '.join(where) or 'file'}: {self.what}: {self.text}"
