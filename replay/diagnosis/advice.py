"""What to do about a finding, in a line: what the field knows, and no more than that.

A finding is told from numbers alone, so advice names what is worth a look, and how to tell whether
it is a fault at all.
"""

from __future__ import annotations

import re

_RECTIFIERS = {"ReLU", "ReLU6", "Hardtanh", "Threshold"}
_SQUASHING = {"Sigmoid", "Tanh", "Softsign", "Hardsigmoid", "LogSigmoid", "Softmax"}

_DEAD_RECTIFIER = (
    "a ReLU that is zero for every input learns no more: try a lower learning rate or warm-up, "
    "LeakyReLU or GELU, He initialisation, a normalisation before it"
)
_DEAD = (
    "its kernel or what it is fed is all zero: look at the layer before, at pruning and weight "
    "decay, and for an initialisation with zeros"
)
_FLAT = (
    "only the bias, or one number for the image, is left: look at the layer before, whether it is "
    "dead, and at a normalisation over maps that are too small"
)
_STUCK = (
    "what it puts out depends on nothing any more: look for weights that are zero or far too "
    "large; try a lower learning rate, a normalisation before it"
)
_SATURATED_SQUASHING = (
    "where it is saturated next to no gradient passes: try smaller initial weights, a "
    "normalisation before it, a lower learning rate, or ReLU"
)
_SPARSE = (
    "nearly all is zero: good if sparse features are wanted, else on the way to be dead: try a "
    "lower learning rate or LeakyReLU"
)
_SATURATED = (
    "clipped at a bound, where no gradient passes: try a normalisation before it, smaller "
    "weights, or a lower learning rate"
)
_UNCHANGING_KERNELS = (
    "if it is not frozen on purpose: look at requires_grad, at what the optimizer was given, and "
    "at the learning rate"
)
_UNCHANGING = (
    "if it is not frozen on purpose: look at requires_grad, at what the optimizer was given, and "
    "whether the layers before it are dead or stuck"
)
_DUPLICATE = (
    "one of both may do: fewer channels, or pruning; if there are many, look for weights that "
    "began alike (a constant initialisation)"
)
_NAN = (
    "with mixed precision: GradScaler or bfloat16; else a lower learning rate, clipped gradients, "
    "an epsilon in log, sqrt and divisions; torch.autograd.set_detect_anomaly(True) names the spot"
)
_INF = (
    "above 65,504, or truly infinite, since recordings are float16: look at how values grow from "
    "layer to layer; try a normalisation, a lower learning rate, clipped gradients, bfloat16"
)
_VANISHING = (
    "it learns next to nothing, as does what lies before it: try residual connections, a "
    "normalisation, ReLU or GELU for sigmoid and tanh, He initialisation; look for dead layers "
    "behind it"
)
_EXPLODING = (
    "try clipped gradients (clip_grad_norm_), a lower learning rate or warm-up, a normalisation, "
    "smaller initial weights; in recurrent networks shorter sequences"
)
_ONE_TOKEN = (
    "an attention sink where that is the class token, a register or padding: try register tokens; "
    "if it came suddenly, a lower learning rate, warm-up or normalised queries and keys"
)
_UNIFORM = (
    "the head averages all tokens, as most do at first; if it stays so, look at the scale of "
    "queries and keys and the learning rate, or prune it"
)


def advise(kind: str, module: str = "", text: str = "", value: float | None = None) -> str:
    """Returns what to do about a finding, in a line without a capital and a full stop.

    Args:
        kind: One of the kinds of findings.
        module: The repr of the layer's module, such as `ReLU(inplace=True)`.
        text: What was found, in words.
        value: The value at which it is saturated.
    """
    match = re.match(r"\w+", module)
    name = match[0] if match else ""
    if kind == "dead":
        return _DEAD_RECTIFIER if name in _RECTIFIERS else _DEAD
    if kind == "saturated":
        if name in _SQUASHING:
            return _SATURATED_SQUASHING
        return _SPARSE if value == 0 else _SATURATED
    if kind == "unchanging":
        return _UNCHANGING_KERNELS if text.startswith("the kernels") else _UNCHANGING
    return {
        "flat": _FLAT,
        "stuck": _STUCK,
        "duplicate": _DUPLICATE,
        "nan": _NAN,
        "inf": _INF,
        "vanishing": _VANISHING,
        "exploding": _EXPLODING,
        "one-token": _ONE_TOKEN,
        "uniform": _UNIFORM,
    }[kind]
