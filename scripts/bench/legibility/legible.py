"""How much of each map one sees in a film, on the scales run, adaptive and map.

Each layer is rendered to MP4 at default settings but for the scale, and the film is decoded again.
Printed is, for each layer and epoch, the standard deviation of the decoded gray levels (0 to 255)
within each tile: its median, and the share of tiles below 10 levels, which look flat. Tiles that
the film marks as constant or faint are counted by themselves. Of a fixed image also how much the
tiles change, in levels, from frame to frame in the last epoch, in a film of the whole run: the
range of `run` is that of all of its frames.

    python scripts/bench/legibility/legible.py run.h5 [--every 6] [--layer NAME]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

import replay
from replay.film.film import Film
from replay.options import OWN_SCALES, FilmOptions
from replay.recording import Recording
from replay.schema import Cell

SCALES = ("run", "adaptive", "map")
FLAT = 10  # levels
Tiles = npt.NDArray[np.float64]


@dataclass
class Seen:
    """What is seen of a layer on one scale.

    Attributes:
        deviations: The deviation of each tile that is not marked, by epoch.
        changes: The mean change from frame to frame in the last epoch, in levels.
        marked: How many tiles are marked as constant or faint.
    """

    deviations: dict[int, list[float]] = field(default_factory=dict)
    changes: list[float] = field(default_factory=list)
    marked: int = 0

    @property
    def all(self) -> npt.NDArray[np.float64]:
        """The deviations of all tiles."""
        return np.concatenate([np.array(each) for each in self.deviations.values()] or [[]])

    @property
    def medians(self) -> list[float]:
        """The median deviation in each epoch."""
        return [float(np.median(each)) for each in self.deviations.values() if each]


def decoded_tiles(
    recording: Recording, layer: str, options: FilmOptions, folder: Path
) -> Iterator[tuple[Cell, Tiles, npt.NDArray[np.bool_]]]:
    """Yields the tiles of a rendered film, (C, H, W) in levels, and which of them are marked."""
    film = Film(recording, replace(options, layers=[layer]))
    out = folder / "film.mp4"
    replay.animate(
        recording,
        out,
        layers=[layer],
        scale=options.scale,
        epochs=options.epochs,
        batches=options.batches,
    )
    mosaic, (top, left) = film.panels[0].mosaic, film.layout.mosaic_corners[0]
    height, width = mosaic.tile
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(out)]
    decode += ["-f", "rawvideo", "-pix_fmt", "gray", "-"]
    with subprocess.Popen(decode, stdout=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdout is not None
        for cell, _ in zip(film.cells, film.frames(), strict=True):
            frame = ffmpeg.stdout.read(film.size[0] * film.size[1])
            gray = np.frombuffer(frame, np.uint8).reshape(film.size).astype(np.float64)
            tiles = []
            for place in range(mosaic.count):
                y, x = mosaic.corner(place)
                tiles.append(gray[top + y : top + y + height, left + x : left + x + width])
            gains = film.map_sections[0].gains
            each = mosaic.count // len(gains) if gains else 1
            marked = [bool(gain.mark) for gain in gains or []] or [False] * mosaic.count
            yield cell, np.stack(tiles), np.repeat(np.array(marked), each)
    out.unlink()


def measure(recording: Recording, layer: str, scale: str, every: int, folder: Path) -> Seen:
    """Returns what is seen of a layer on one scale.

    Args:
        recording: The run, or a fixed image of it.
        layer: The layer.
        scale: The scale.
        every: The deviations of one in so many batches are measured; for the changes all of the
            last epoch are.
        folder: An existing folder for the film.
    """
    seen, before = Seen(), None
    fixed, last_epoch = recording.probe_number is not None, recording[layer].frames[-1][0]
    sampled = FilmOptions(scale=scale, batches=f"::{every}")
    last = FilmOptions(scale=scale, epochs=-1)
    if fixed and scale not in OWN_SCALES:  # the range is that of all frames of the film
        sampled = last = FilmOptions(scale=scale)
    films = [sampled, last] if fixed and last is not sampled else [sampled]
    for options in films:
        for (epoch, batch), tiles, marked in decoded_tiles(recording, layer, options, folder):
            if options is sampled and batch % every == 0:
                seen.marked += int(marked.sum())
                seen.deviations.setdefault(epoch, []).extend(tiles.std(axis=(1, 2))[~marked])
            if fixed and options is last and epoch == last_epoch:
                if before is not None:
                    seen.changes.append(float(np.abs(tiles - before).mean()))
                before = tiles
    return seen


def report(layer: str, scale: str, seen: Seen) -> str:
    """Returns the line of a layer and scale."""
    epochs = " ".join(f"{each:.1f}" for each in seen.medians)
    moved = f"  last epoch moves {np.mean(seen.changes):.3f}" if seen.changes else ""
    tiles = seen.all
    return (
        f"{layer:<10} {scale:<9} median {np.median(tiles) if len(tiles) else 0:5.1f}  "
        f"flat {(tiles < FLAT).mean() if len(tiles) else 0:6.1%}  marked {seen.marked:3}  "
        f"by epoch {epochs}{moved}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--every", type=int, default=6, help="measure every n-th frame (default 6)")
    parser.add_argument("--layer", nargs="+", help="which layers (default: all)")
    options = parser.parse_args()
    with replay.open(options.recording) as run, tempfile.TemporaryDirectory() as folder:
        shown: list[tuple[str, Recording]] = [("the first image of each batch", run)]
        shown += [(f"fixed image {number}", run.probe(number)) for number in range(run.probes)]
        for words, recording in shown:
            print(words)
            for name in options.layer or recording.layers:
                for scale in SCALES:
                    seen = measure(recording, name, scale, options.every, Path(folder))
                    print(report(name, scale, seen), flush=True)


if __name__ == "__main__":
    main()
