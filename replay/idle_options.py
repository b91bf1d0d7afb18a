"""Which options a view, a format or another option leaves without effect, and who refuses them.

An option that changes nothing is refused, before anything is read: whoever gave it expects that it
does something. What the layers decide, `slices` and `tokens`, is asked once they are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from replay.options import ComparisonRequest, RenderRequest, declared
from replay.schema import OptionError
from replay.schema.faces import spell
from replay.value_kinds import check_kinds

_WITHOUT = {
    "maps": "query cam_method",
    "attention": "cam_method slices",
    "cam": "channels order columns query slices tokens",
    "gradient": "query cam_method",
    "components": "channels scale clip symmetric cmap order columns query cam_method slices",
    "overlay": "order cam_method slices",  # whether `query` is of use, the layers decide
}
"""By view, the options that change nothing of what it shows."""

_OF_FORMATS = {
    "codec": (".mp4", ".webm", ".mov"),
    "crf": (".mp4", ".webm"),
    "quality": (".webp",),
}
"""By option, the suffixes of the formats that it changes; other options change all."""

_OF_AXES = {"slices": ("D", "a volume"), "tokens": ("T", "of tokens")}
"""By option, the axis that layers have of which it is, and what these are in words."""

_DEFAULTS = {
    name: default
    for kind in (RenderRequest, ComparisonRequest)
    for name, (default, _) in declared(kind).items()
}


def check_given(given: Mapping[str, Any], taken: str | None = None) -> None:
    """Makes sure that every option that was given is of its kind, and changes something.

    Args:
        given: What a public function was called with, by the names of the options; what is no
            option is passed over.
        taken: The options that may change nothing, with spaces between them; by default all.

    Raises:
        OptionError: One of them has a value of another kind, or changes nothing; the message says
            with which other option, and with which views it would.
    """
    check_kinds(given)
    names = [each for each in _DEFAULTS if each in given and _is_asked(each, given[each])]
    if taken is not None:
        names = [each for each in names if each in taken.split()]
    view = given.get("view")
    unused = [each for each in names if each in _WITHOUT.get(str(view), "").split()]
    if unused:
        useful = [
            each for each, without in _WITHOUT.items() if not set(unused) & set(without.split())
        ]
        instead = f"it goes with {_enumerate(useful)}" if len(unused) == 1 else "leave them out"
        raise OptionError(f"{_have_no_effect(given, unused)} with {spell('view', view)}; {instead}")
    for name, other in _idle(given):
        if name in names:
            raise OptionError(f"{_have_no_effect(given, [name])} {other}; leave one of them out")


def check_layers(given: Mapping[str, Any], axes: Iterable[str]) -> None:
    """Makes sure that what was asked of volumes or tokens is of one of the layers shown.

    Args:
        given: The values of options, by their names, the view among them.
        axes: The axes of each layer.

    Raises:
        OptionError: None of the layers is of that kind.
    """
    if given.get("view", "maps") not in ("maps", "gradient"):  # others make frames of their own
        return
    found = set("".join(axes))
    for name, (axis, kind) in _OF_AXES.items():
        if name in given and _is_asked(name, given[name]) and axis not in found:
            raise OptionError(
                f"{_have_no_effect(given, [name])}: no layer that is shown is {kind}; leave it out"
            )


def idle_for_format(given: Mapping[str, Any], suffix: str) -> list[str]:
    """Returns those options that were asked for and change nothing of a format.

    Args:
        given: The values of options, by their names.
        suffix: The format's: `.gif`, or `/` for a folder of numbered PNG.
    """
    return [
        name
        for name, formats in _OF_FORMATS.items()
        if suffix not in formats and name in given and _is_asked(name, given[name])
    ]


def check_format_options(request: RenderRequest, suffix: str, file: str) -> None:
    """Makes sure that what was asked of the encoding changes something in the format.

    Args:
        request: What was asked for.
        suffix: As in `idle_for_format`.
        file: The name of the file, or of the folder.

    Raises:
        OptionError: It does not; the message says of which formats it is.
    """
    for name in idle_for_format(vars(request), suffix):
        formats = _OF_FORMATS[name]
        expected = _enumerate(formats) if len(formats) > 1 else f"a {formats[0]}"
        more = f"; of a video it is {spell('crf')}" if name == "quality" else ""
        raise OptionError(
            f"{spell(name, getattr(request, name))}: expected {expected}, found {file}{more}"
        )


def _idle(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns options that change nothing, each with what makes it so in words."""
    found: list[tuple[str, str]] = []
    measured = given.get("difference")  # which keeps a range that the scale chooses
    if given.get("clip") is not None and given.get("scale") != "run" and not measured:
        found.append(("scale", f"with {spell('clip')}, which is the range"))
    if given.get("captions") is False:
        found.append(("title", f"with {spell('captions', False)}"))
    if given.get("difference") is False:
        found.append(("difference_cmap", f"without {spell('difference', True)}"))
    if given.get("grid_of_probes"):
        grid = f"with {spell('grid_of_probes', True)}"
        found += [(name, grid) for name in ("columns", "order", "slices")]
    return found


def _is_asked(name: str, value: Any) -> bool:
    """Returns whether an option is not what it is by default."""
    default = _DEFAULTS[name]
    if value is None or value is default:
        return False
    return type(value) is not type(default) or value != default


def _have_no_effect(given: Mapping[str, Any], names: Sequence[str]) -> str:
    spelled = [spell(name, False if given[name] is False else None) for name in names]
    return f"{_enumerate(spelled, 'and')} {'has' if len(names) == 1 else 'have'} no effect"


def _enumerate(words: Sequence[str], last: str = "or") -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
