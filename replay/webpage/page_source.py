"""What a page shows of one kind of image: the first of each batch, or one that stays the same.

A page holds one of them or several; the reader switches between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from replay.maps.axes import spread
from replay.option_values import Numbers
from replay.options import FilmOptions
from replay.recording import Recording
from replay.schema import Cell
from replay.webpage.components_data import has_components
from replay.webpage.input_data import InputData
from replay.webpage.layer_data import KEYS, LayerData
from replay.webpage.manifest import describe_frames, describe_source, made_of, tell_layers_apart
from replay.webpage.pair import describe_runs, join_items, layers_of, pictures_of
from replay.webpage.size_budget import Fidelity, PageItem

_TYPICAL = Fidelity(1, 8.0)  # of what does not fit as it is


class PageSource:
    """The layers and pictures of one kind of image, of one run or of two.

    Args:
        runs: One recording or two; of a fixed image, what each has of it.
        labels: What to call each of them.
        names: The layers.
        channels: As in `page`.
        cells: (epoch, batch) of the frames that were asked for.
        input: Whether the input pictures are in the page.
        place: The source's place among those of the page.
        options: The view, and the colours that suit it.
        made: What a page makes of its maps, if that alone is shown: `maps`, `components` or
            `overlay`.
        timeline: The frames along the time axis, as in `describe_frames`.

    Attributes:
        cells: As given.
        key: What it is called in the address of a page.
        words: What it is called in notes.
        probe: The number of the fixed image; None for the first image of each batch.
        tells: Whether maps are told from input pictures.
    """

    def __init__(
        self,
        runs: Sequence[Recording],
        labels: Sequence[str],
        names: Sequence[str],
        channels: Numbers,
        cells: Sequence[Cell],
        input: bool,
        place: int,
        options: FilmOptions,
        made: str = "",
        timeline: Sequence[Cell] | None = None,
    ) -> None:
        self._runs, self._labels, self.cells, self._place = runs, labels, list(cells), place
        self._timeline = self.cells if timeline is None else timeline
        self.probe, self._options, self._made = runs[0].probe_number, options, made
        about = describe_source(runs[0], options)
        self.key, self.words = about["key"], about["words"]
        if options.view != "maps":
            self.words += f", {options.view}"
        self._groups = [layers_of(runs, name, channels, cells, place) for name in names]
        self._pictures: list[InputData | None] = [None] * len(runs)
        if input:
            self._pictures = pictures_of(runs, cells, place)
        self._kept = self.cells
        self.tells = False

    @property
    def has_components(self) -> bool:
        """Whether components of its maps are shown."""
        return has_components(self._options.view, self._made)

    @property
    def items(self) -> list[PageItem]:
        """What each of its frames has."""
        items = [join_items([layer.item for layer in group]) for group in self._groups]
        pictures = [picture.item for picture in self._pictures if picture]
        return items + ([join_items(pictures)] if pictures else [])

    def tell_from_pictures(self) -> None:
        """Has maps told from the input pictures where both then take fewer bytes.

        The pictures are kept as they are for it; those of two runs are not used.
        """
        pictures = self._pictures[0]
        if pictures is None or len(self._runs) > 1:
            return
        told = [layer for layer in self.layers if layer.may_tell_from(pictures)]
        if not told:
            return
        apart, together = pictures.item.cost(_TYPICAL), pictures.item.cost(Fidelity())
        for layer in told:
            apart += layer.item.cost(_TYPICAL)
            layer.tell_from(pictures)
            together += layer.item.cost(_TYPICAL)
        self.tells = together < apart
        if self.tells:
            pictures.keep()
        else:
            for layer in told:
                layer.tell_from(None)

    @property
    def layers(self) -> list[LayerData]:
        """The layers; of two runs, those of one name follow each other."""
        return [layer for group in self._groups for layer in group]

    @property
    def kept(self) -> int:
        """Number of frames in the page."""
        return len(self._kept)

    def prepare(self, frames: int, fidelity: Sequence[Fidelity]) -> None:
        """Sets how many frames the page holds, and how much of each item."""
        self._kept = spread(self.cells, frames)
        for group, each in zip(self._groups, fidelity, strict=False):
            for layer in group:
                layer.prepare(self._kept, each)
        for picture in self._pictures:
            if picture is not None:
                picture.prepare(self._kept, fidelity[-1])

    @property
    def count(self) -> int:
        """Number of blocks that `blocks` yields, about."""
        return sum(part.packed_frames for part in self.parts)

    @property
    def parts(self) -> list[LayerData | InputData]:
        """The layers and pictures, whose frames are to be packed."""
        return [*self.layers, *(picture for picture in self._pictures if picture)]

    def blocks(self, packed: Sequence[list[Any]]) -> Iterator[tuple[str, bytes]]:
        """Yields the name and the bytes of each block.

        Args:
            packed: The packed frames of each of the `parts`.
        """
        found = iter(packed)
        for number, layer in enumerate(self.layers):
            for place, block in enumerate(layer.blocks(next(found))):
                last = "extremes" if place == len(self._kept) else str(place)
                yield f"s{self._place}-layer-{number}-{last}", block
        for run, picture in enumerate(self._pictures):
            name = "input-b" if run else "input"
            for place, block in enumerate(next(found) if picture else ()):
                yield f"s{self._place}-{name}-{place}", block

    @property
    def opening(self) -> set[str]:
        """The names of the blocks that its last frame needs, of the layer that is shown first."""
        last = len(self._kept) - 1
        first = last // KEYS * KEYS if self.probe is not None else last
        layers = range(len(self._groups[0]))
        found = {
            f"s{self._place}-layer-{layer}-{place}"
            for layer in layers
            for place in range(first, last + 1)
        }
        return found | {
            f"s{self._place}-{name}-{place}" for name in ("input", "input-b") for place in (0, last)
        }

    def describe(self) -> dict[str, Any]:
        """Returns the source's part of the manifest, after `blocks`."""
        stays = any(layer.stays for layer in self.layers)
        about = describe_source(self._runs[0], self._options, len(self._runs), stays)
        about |= made_of(about, self._made)
        about["layers"] = tell_layers_apart([layer.describe() for layer in self.layers])
        if len(self._runs) == 1:
            picture = self._pictures[0].describe() if self._pictures[0] else None
            frames = describe_frames(self._runs[0], self.cells, self._kept, timeline=self._timeline)
            return {**about, "frames": frames, "input": picture}
        frames, runs = describe_runs(
            self._runs, self._labels, self.cells, self._kept, self._pictures, self._timeline
        )
        return {**about, "frames": frames, "input": None, "runs": runs}

    def pooled(self) -> list[str]:
        """Returns what was done to the maps so that they fit, a sentence for each layer."""
        return [note for group in self._groups if (note := group[0].note())]

    def damage(self) -> list[str]:
        """Returns what is damaged, a sentence for each layer."""
        return [each for layer in self.layers for each in layer.damage()]

    def errors(self) -> dict[str, float]:
        """Returns by how much pixels are off, as in `LayerData.error`, by the layer's name."""
        return {
            group[0].outline()["name"]: max(layer.error for layer in group)
            for group in self._groups
        }
