"""The commands that write a recording smaller, and as it was: `pack` and `unpack`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from replay.cli.console import check_frames, progress_bar, say, warn
from replay.cli.next_steps import offer
from replay.cli.options import NUMBERS, Commands, add_options, add_quiet, arguments, only
from replay.formatting import format_bytes, format_count
from replay.pack_options import PackOptions

if TYPE_CHECKING:
    from replay.files.packing import Packed

_OPTIONS = "bits layers epochs batches max_mb filter"
_PACK_EXAMPLES = """
The original is never written to. All of it travels: maps, inputs, probes,
kernels, ranges, checksums and fields. A file of 16 bits with gzip is read by
anything that reads HDF5. Of 8 bits, a value is one of 256 steps between the
least and greatest of its channel and frame; a frame with NaN or infinite
values stays as it is. Every picture made from it says so.

examples:
  python -m replay pack run.h5 -o small.h5
  python -m replay pack run.h5 -o small.h5 --bits 8 --filter zstd
  python -m replay pack run.h5 -o mail.h5 --layer conv1 --epochs 0 --max-mb 20
"""
_UNPACK_EXAMPLES = """\
The original is never written to. What 8 bits have lost does not come back.

examples:
  python -m replay unpack small.h5 -o run.h5
"""


def add_pack(commands: Commands) -> None:
    """Adds `pack`."""
    parser = commands.add(
        "pack", _pack, "write a recording smaller, with all that is in it", NUMBERS + _PACK_EXAMPLES
    )
    _add_out(parser)
    add_options(parser, PackOptions, _OPTIONS)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_quiet(parser)


def add_unpack(commands: Commands) -> None:
    """Adds `unpack`."""
    parser = commands.add(
        "unpack", _unpack, "write a packed recording as it was, in 16 bits", _UNPACK_EXAMPLES
    )
    _add_out(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_quiet(parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--out", metavar="FILE", required=True, help="the new file, .h5 or .hdf5"
    )


def _pack(options: argparse.Namespace) -> None:
    from replay.files.packing import pack
    from replay.recording import open_recording

    with open_recording(only(options)) as recording:
        check_frames(recording)
        with progress_bar(options.quiet) as progress:
            result = pack(
                recording,
                options.out,
                **arguments(options, _OPTIONS),
                overwrite=options.overwrite,
                progress=progress,
            )
    _print(result)
    if not options.quiet:
        offer("verify", result.path)


def _unpack(options: argparse.Namespace) -> None:
    from replay.files.packing import unpack

    with progress_bar(options.quiet) as progress:
        result = unpack(only(options), options.out, overwrite=options.overwrite, progress=progress)
    _print(result)
    if not options.quiet:
        offer("verify", result.path)


def _print(result: Packed) -> None:
    for remark in result.remarks:
        say("note", remark)
    if result.damaged or result.unreadable:
        several = format_count(result.damaged + result.unreadable, "frame")
        warn(f"{several} of the original cannot be trusted")
    share = f"{result.bytes / result.bytes_before:.0%} of {format_bytes(result.bytes_before)}"
    print(
        f"{result.path}  {format_bytes(result.bytes)}, {share}, "
        f"{format_count(result.frames, 'frame')}, {result.bits} bits, {result.filter}"
    )
