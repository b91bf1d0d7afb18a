"""Single channels of a layer over the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from replay import schema
from replay.formatting import format_count
from replay.maps import attention_view
from replay.maps.axes import choose_channels
from replay.maps.input_picture import InputPicture
from replay.maps.overlaid import ChannelTiles, describe_scale, drawn_as_given
from replay.maps.overlay_series import OverlaySeries, share_ranges
from replay.maps.planes import Planes
from replay.maps.runs import choose_layers_of
from replay.options import FilmOptions
from replay.recording import Recording, Series
from replay.recording.derived import DerivedRecording
from replay.schema import OptionError, SelectionError
from replay.schema.faces import spell

_USUAL = 4  # channels, those that vary most: each is a picture of the input's size


def look_at(runs: Sequence[Recording], options: FilmOptions) -> tuple[list[Recording], FilmOptions]:
    """Returns channels of layers, or heads of attention, over the input, see `views.look_at`."""
    names, heads = choose_names(runs, options)
    sources = list(runs)
    if options.query is not None and not heads:
        raise OptionError(
            f"{spell('query')} has no effect with {spell('view', options.view)} of maps; name a "
            "layer whose attention was recorded"
        )
    if heads:
        sources, _ = attention_view.look_at(runs, replace(options, layers=names))
    check_pictures(runs, "attention" if heads else "maps")
    names = choose_placed(sources, names, options)
    like = sources[0]
    found: list[Recording] = [OverlayRecording(each, names, options, like) for each in sources]
    for each in found:
        each.require_frames()
    if len(found) > 1:
        share_ranges(found, names, options)
    return found, drawn_as_given(replace(options, layers=names))


def check_pictures(runs: Sequence[Recording], alone: str = "maps") -> None:
    """Makes sure that there are pictures over which something can lie.

    Args:
        runs: The recordings.
        alone: The view that shows the same without them.

    Raises:
        SelectionError: One of them has none.
    """
    for run in runs:
        if not InputPicture.possible(run):
            raise SelectionError(
                f"no input picture in {run.path}, over which a map could lie; "
                f"{spell('view', alone)} shows it alone"
            )


def choose_names(runs: Sequence[Recording], options: FilmOptions) -> tuple[list[str], bool]:
    """Returns the names of the layers, and whether it is their attention that is meant.

    Raises:
        SelectionError: Neither is there under such a name.
    """
    try:
        return choose_layers_of(runs, options.layers), False
    except SelectionError:
        attention = [run.beside(schema.ATTENTION) for run in runs]
        if not any(each.layers for each in attention):
            raise
        with suppress(SelectionError):
            return choose_layers_of(attention, options.layers), True
        raise


def choose_placed(
    sources: Sequence[Recording], names: Sequence[str], options: FilmOptions
) -> list[str]:
    """Returns those of some layers that have places in the input; by default the first that has.

    Raises:
        SelectionError: None has.
    """

    def is_placed(name: str) -> bool:
        return all(Planes(run[name], options.tokens).placed for run in sources if name in run)

    placed = list(filter(is_placed, names))
    if not placed and options.layers is None:
        placed = list(filter(is_placed, choose_layers_of(sources, "all")))[:1]
    if not placed:
        what = f"layer {names[0]!r}" if len(names) == 1 else "no layer that was chosen"
        raise SelectionError(
            f"{what} of {sources[0].path} has {'no ' if len(names) == 1 else ''}places in the "
            "input, over which it could lie"
        )
    return placed


class OverlayRecording(DerivedRecording):
    """Channels of the layers of a recording over the input.

    Args:
        source: The recording, or one of attention, whose heads are the channels.
        names: The layers, which have places in the input.
        options: Which channels, the scale and the colormap. Where none are asked for, the four
            that vary most, or all heads.
        like: The recording whose channels are looked at for that; by default the same.
    """

    def __init__(
        self,
        source: Recording,
        names: Sequence[str],
        options: FilmOptions,
        like: Recording | None = None,
    ) -> None:
        self._names, self._options, self._like = names, options, like or source
        self.quantity = source.quantity
        self.scale_words = describe_scale(options, source.probe_number is not None)
        super().__init__(source)

    def derive(self) -> Mapping[str, Series]:
        """Returns those layers over the input."""
        return {name: self._lay(name) for name in self._names if name in self.source}

    def _lay(self, name: str) -> OverlaySeries:
        series, options = self.source[name], self._options
        planes = Planes(series, options.tokens)
        heads = self.quantity == "attention"
        usual = None if heads or planes.channels <= _USUAL else f"top:{_USUAL}"
        numbers = usual if options.channels is None else options.channels
        like = Planes(self._like[name], options.tokens)
        chosen = choose_channels(like, numbers, like.series.frames)
        what = "head" if heads else "channel"
        of = f"{len(chosen)} of " if len(chosen) < planes.channels else ""
        parts = [of + format_count(planes.channels, what)]
        parts += [f"{planes.size[0]}×{planes.size[1]}, over the input", series.layer.note]
        tiles = ChannelTiles(planes, chosen, f"{what} ")
        note = ", ".join(filter(None, parts))
        found = OverlaySeries(self.source, series, tiles, options, "nearest", note)
        found.subject = parts[0]
        return found
