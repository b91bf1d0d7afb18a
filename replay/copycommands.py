"""The commands that copy what a recording holds: `repair` and `export`."""

from __future__ import annotations

import argparse

from replay.console import Progress, check_frames, say, warn
from replay.options import NUMBERS, Commands, only
from replay.words import count, in_bytes

_REPAIR_EXAMPLES = """\
The original is never written to.

examples:
  python -m replay repair run.h5 -o fixed.h5
"""
_EXPORT_EXAMPLES = """
  .npz    arrays maps (frames, C, H, W), epoch, batch, channel, damaged, and
          loss and input where they were recorded; .zarr has the same
  .npy    the maps alone; numpy.load(..., mmap_mode="r") reads parts of it
  name/   a file epoch0003_batch0012.npy, (C, H, W), for each frame
All maps are float16, the channels first. A damaged frame is NaN, or not there.

examples:
  python -m replay export run.h5 --layer conv1 -o maps.npz
  python -m replay export run.h5 --epochs -1 --channels 0,3 -o last.npy
  python -m replay export run.h5 --probe 0 -o frames/
"""


def add_repair(commands: Commands) -> None:
    """Adds `repair`."""
    parser = commands.add(
        "repair", _repair, "copy all that is whole into a new file", _REPAIR_EXAMPLES
    )
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="the new file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _repair(options: argparse.Namespace) -> None:
    from replay.repairing import repair

    path = only(options)
    with Progress(options.quiet) as progress:
        result = repair(path, options.out, options.overwrite, progress)
    for problem in result.left_out:
        say("left out", str(problem))
    print(
        f"{result.path}  {in_bytes(result.bytes)}, {count(result.frames, 'frame')}, "
        f"{count(len(result.left_out), 'damaged array')} left out"
    )


def add_export(commands: Commands) -> None:
    """Adds `export`."""
    parser = commands.add("export", _export, "copy maps out for numpy", NUMBERS + _EXPORT_EXAMPLES)
    add = parser.add_argument
    add("-o", "--out", metavar="FILE", required=True, help=".npz, .npy, .zarr or a folder/")
    add("--layer", metavar="NAME", help="the layer (default: the first recorded one)")
    add("--epochs", metavar="A:B:C", help="epochs (default: all)")
    add("--batches", metavar="A:B:C", help="batches of each epoch (default: all)")
    add("--channels", metavar="LIST", help="such as 0,3,8-11, or top:16 for what varies most")
    add("--probe", metavar="N", type=int, help="the maps of a fixed image; N from 0")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--quiet", action="store_true", help="no progress bar")


def _export(options: argparse.Namespace) -> None:
    from replay.exporting import export
    from replay.recording import open_recording

    with open_recording(only(options)) as recording, Progress(options.quiet) as progress:
        check_frames(recording)
        result = export(
            recording,
            options.out,
            layer=options.layer,
            epochs=options.epochs,
            batches=options.batches,
            channels=options.channels,
            probe=options.probe,
            overwrite=options.overwrite,
            progress=progress,
        )
    for remark in result.remarks:
        warn(remark)
    if result.damaged:
        epoch, batch = result.damaged[0]
        said = f"{count(len(result.damaged), 'damaged frame')}, first epoch {epoch} batch {batch}"
        warn(f"{said}; not in the maps (NaN in an array)")
    sizes = "x".join(map(str, (result.frames, *result.shape)))
    print(f"{result.path}  {in_bytes(result.bytes)}, {sizes} float16")
