"""Attention as maps: of each head, where the tokens of the image stand in it, how much it gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import format_count
from replay.maps.runs import choose_layers_of
from replay.options import FilmOptions
from replay.recording import Recording, Series
from replay.recording.derived import DerivedRecording, DerivedSeries
from replay.recording.snapshot import parse_key
from replay.schema import Cell, DamagedError, Float16Array, Layer, OptionError, SelectionError
from replay.schema.faces import choose, spell
from replay.schema.token_grid import TokenGrid, find_grid

_WORDS = ("class", "mean", "all")
_PLACE = re.compile(r"\s*(-?\d+)\s*(?:[,x×]\s*(-?\d+)\s*)?$")

Query = str | tuple[int, ...]
"""One of `_WORDS`, the number of a token, or its row and column; empty for what suits."""


def look_at(runs: Sequence[Recording], options: FilmOptions) -> tuple[list[Recording], FilmOptions]:
    """Returns the attention of recordings as maps, a head each; see `views.look_at`.

    The last layer is shown where none is asked for, since there the heads look at things.
    """
    query = read_query(options.query)
    sources = [run.beside(schema.ATTENTION) for run in runs]
    for source in sources:
        source.require_frames()
    if options.layers is None:
        options = replace(options, layers=sources[0].layers[-1])
    names = choose_layers_of(sources, options.layers)
    found = [AttentionRecording(source, query, options.tokens, names) for source in sources]
    return [*found], options


def read_query(text: str | int | tuple[int, int] | None) -> Query:
    """Returns whose attention was asked for.

    Raises:
        OptionError: The text is no number, no place and no known word.
    """
    if text is None:
        return ""
    if isinstance(text, (int, np.integer)):
        return (int(text),)
    if isinstance(text, str):
        word = text.strip()
        if word in _WORDS:
            return word
        match = _PLACE.match(word)
        if match:
            return tuple(int(part) for part in match.groups() if part is not None)
    elif len(text) == 2 and all(isinstance(part, (int, np.integer)) for part in text):
        return int(text[0]), int(text[1])
    raise OptionError(
        f"{spell('query')} {text!r}: expected the number of a token, its row and column such as "
        f"3,4, or one of {', '.join(_WORDS)}"
    )


class AttentionRecording(DerivedRecording):
    """The attention of a recording, a map for each head.

    Args:
        source: The attention, as `Recording.beside` gives it.
        query: As `read_query` gives it.
        tokens: As in `FilmOptions`: whether they stand as in the picture, as a square, or in a row.
        names: The layers that are shown; all by default.
    """

    quantity = "attention"

    def __init__(
        self,
        source: Recording,
        query: Query = "",
        tokens: str = "auto",
        names: Sequence[str] | None = None,
    ) -> None:
        self._query, self._tokens, self._names = query, tokens, names
        super().__init__(source)

    def derive(self) -> Mapping[str, Series]:
        """Returns the attention of each layer as maps."""
        names = self.source.layers if self._names is None else self._names
        each = (self.source[name] for name in names if name in self.source)
        return {series.name: AttentionSeries(series, self._query, self._tokens) for series in each}


class AttentionSeries(DerivedSeries):
    """A layer's attention as maps, float16 (heads, rows, columns).

    Without places in an image it is a signal, (heads, T), or of all queries a matrix for each head.

    Args:
        source: The attention, (heads, T) or (heads, T_q, T_k).
        query: As `read_query` gives it.
        tokens: As in `FilmOptions`.

    Raises:
        OptionError: The query was not recorded.
        SelectionError: There is no such query.

    Attributes:
        grid: Where the tokens stand; None where that is not known, or not asked for.
        row: The number of the query; None for the mean over all, or for all of them.
    """

    tile = "head"

    def __init__(self, source: Series, query: Query = "", tokens: str = "auto") -> None:
        about = source.layer
        self._whole = about.axes == "CQT"
        self.grid = _find(source, about.shape[-1], tokens)
        self.row: int | None = None
        self.matrix = False
        words = self._choose(source, query, tokens) if self._whole else _recorded(about, query)
        self._last: tuple[Cell, float] | None = None
        heads = about.shape[0]
        shape: tuple[int, ...] = (heads, about.shape[-1])
        axes = "CL"
        if self.matrix:
            shape, axes = about.shape, "CHW"
        elif self.grid is not None:
            shape, axes = (heads, self.grid.rows, self.grid.columns), "CHW"
        note = ", ".join([f"attention {words}", *filter(None, [about.note])])
        layer = Layer(about.name, about.module, shape, axes=axes, probe=about.probe, note=note)
        super().__init__(source, layer)

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns one frame; all NaN where there is none. See `Series`."""
        cell = self._snapshot.locate(*parse_key(key))
        frame = self.source[cell]
        if self.matrix:
            return frame
        rows = self._rows(frame)
        if self.grid is None:
            return rows
        before = rows[:, : self.grid.prefix].astype(np.float32)
        self._last = cell, float(before.sum(axis=1).mean()) if before.size else 0.0
        return rows[:, self.grid.prefix :].reshape(self.layer.shape)

    def remark(self, cell: Cell) -> str:
        """Returns how much goes to the tokens that have no place in the image, in words."""
        if self.grid is None or self.matrix or not self.grid.prefix:
            return ""
        if self._last is None or self._last[0] != cell:
            try:
                self[cell]
            except DamagedError:
                return ""
        assert self._last is not None
        share = self._last[1]
        whose = "class token" if self.grid.prefix == 1 else f"first {self.grid.prefix} tokens"
        return "" if np.isnan(share) else f"{whose} {100 * share:.0f} %"

    def _rows(self, frame: Float16Array) -> npt.NDArray[np.float16]:
        """Returns what is shown of a frame, float16 (heads, T)."""
        if not self._whole:
            return frame
        if self.row is not None:
            return frame[:, self.row]
        with np.errstate(invalid="ignore"):
            mean: Float16Array = frame.mean(axis=1, dtype=np.float32).astype(np.float16)
        return mean

    def _choose(self, source: Series, query: Query, tokens: str) -> str:
        """Notes which query is shown, and returns it in words."""
        count = source.layer.shape[1]
        own = count == source.layer.shape[2]  # each token asks all, itself among them
        places = self.grid if own else _find(source, count, tokens)
        if not query and self.grid is not None:
            query = "class" if own and self.grid.prefix else "mean"
        query = query or "all"
        if query == "all":
            self.matrix = True
            return "of all tokens (down) to all (across)" if own else "of all queries (down)"
        if query == "mean":
            return f"of {format_count(count, 'token')}, their mean"
        if query == "class":
            if places is not None and not places.prefix:
                raise OptionError(
                    f"layer {source.name!r} has no class token: all of its {count:,} tokens stand "
                    f"in the image; {spell('query')} takes the number of a token, or mean"
                )
            self.row = 0
            return "of the class token"
        try:
            self.row = _number(query, places, count)
        except IndexError:
            what = f"{places.rows}×{places.columns} of the image" if places else "no image"
            raise SelectionError(
                f"no query {','.join(map(str, query))} in layer {source.name!r}; there are "
                f"{count:,} tokens, {what}"
            ) from None
        place = None if places is None else places.place(self.row)
        where = "" if place is None else f" (row {place[0]}, column {place[1]})"
        return f"of token {self.row}{where}"


def _recorded(about: Layer, query: Query) -> str:
    """Returns in words whose attention there is, where no choice is left.

    Raises:
        OptionError: Another one was asked for.
    """
    if query not in ("", about.queries):
        full = choose("--attention full", "attention='full'")
        raise OptionError(
            f"layer {about.name!r} has the attention of "
            f"{'the class token' if about.queries == 'class' else 'all tokens, their mean'} only; "
            f"{spell('query')} can choose where it was recorded with {full}"
        )
    known = {"class": "of the class token", "mean": "of all tokens, their mean"}
    return known.get(about.queries, "of one query")


def _number(query: Query, places: TokenGrid | None, count: int) -> int:
    """Returns the number of a token.

    Raises:
        IndexError: There is none.
    """
    if len(query) == 2:
        if places is None:
            raise IndexError
        return places.token(int(query[0]), int(query[1]))
    if not -count <= int(query[0]) < count:
        raise IndexError
    return int(query[0]) % count


def _find(source: Series, count: int, tokens: str) -> TokenGrid | None:
    """Returns where so many tokens stand in the picture that the frames belong to."""
    if tokens == "strip":
        return None
    shape = source.inputs.shape
    image = None if shape is None or len(shape) != 3 else shape[1:]
    recorded = source.layer.grid if count == source.layer.shape[-1] else None
    if tokens == "square":
        recorded, image = None, (1, 1)
    return find_grid(count, recorded, None if image is None else (image[0], image[1]))
