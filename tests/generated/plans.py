"""Random models in words."""

from __future__ import annotations

from dataclasses import dataclass

from generated.brief import Brief

LEAVES = (
    "conv", "transposed", "norm", "activation", "dropout", "pool", "linear", "identity", "tokens",
    "swap", "mean", "flatten", "number", "encoder", "attention", "recur", "fourier", "opaque",
    "integers", "again", "scan", "norm", "norm", "activation", "tokens", "encoder", "attention",
    "recur", "recur", "pool",
)  # fmt: skip
HOLDERS = (
    "fork", "sequential", "row", "table", "bypassed", "residual", "repeated", "checkpoint",
    "frozen", "snapshot", "fallback", "still",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Part(Brief):
    """One part of a model; `a` and `b` say which of its kind, `inner` what it holds."""

    kind: str
    a: int = 0
    b: int = 0
    inner: tuple[Part, ...] = ()


@dataclass(frozen=True, repr=False)
class Plan(Brief):
    """A model in words.

    Attributes:
        rank: Spatial axes of its images, 1 to 3; 0 for tokens (T, D).
        size: Of an image: channels (or width of a token), and each spatial axis (or tokens).
        batched: Whether its images come in batches, else one by one without an axis for that.
        style: How it takes its images: tensor, keyword, list, dict, bytes, strided (not contiguous in
            memory), learning (they need gradients).
        parts: What it consists of.
        calls: How often it calls itself within a forward.
        some: Whether it does so with a part of the batch.
        precision: In which it computes.
        clash: Whether a sequence may be as long as the batch is large, so that nobody can tell
            their axes apart.
    """

    rank: int = 2
    size: tuple[int, int] = (3, 5)
    batched: bool = True
    style: str = "tensor"
    parts: tuple[Part, ...] = ()
    calls: int = 0
    some: bool = False
    precision: str = "float32"
    clash: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        first, other = self.size
        return (other, first) if self.rank == 0 else (first, *[other] * self.rank)
