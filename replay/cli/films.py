"""The commands that make films: `animate` and `compare`."""

from __future__ import annotations

import argparse

from replay.cli.console import Progress, check_frames, say, tell_made, warn
from replay.cli.options import (
    NUMBERS,
    Commands,
    add_crew,
    add_look,
    add_selection,
    executor,
    look,
    natural,
    positive,
    probed,
)
from replay.schema import OptionError

_ORDERS = ("number", "similar")
_PRESETS = ("github", "slack", "slides", "paper")

_ANIMATE_EXAMPLES = """
A preset sets the format, also that of the default -o, the largest size
(--max-mb sets another) and the frame, but for what is asked for otherwise:
  github     .gif (or .webp)     10 MB   up to 1000x1000 pixels
  slack      .mp4, H.264          8 MB   up to 1280x1080
  slides     .mp4, H.264         50 MB   up to 1920x1080, crf 14
  paper      folder/ of PNG      20 MB   up to 1000x1000, 60 frames at most
To stay below a size, quality goes first, then frames, then zoom; --zoom, --crf
and --fps are kept where given, and all frames with --batches. What does not
fit is not written.

examples:
  python -m replay animate run.h5                      first layer, to run.mp4
  python -m replay animate run.h5 -o run.gif --epochs 0:2 --zoom 2
  python -m replay animate run.h5 -o all.mp4 --layer 'layer1.*' --channels top:8
  python -m replay animate run.h5 -o frames/ --cmap RdBu_r --symmetric
  python -m replay animate run.h5 -o probe.mp4 --probe
  python -m replay animate run.h5 -o all.mp4 --with kernels,difference,histogram
  python -m replay animate run.h5 --preset github --alt --poster
  python -m replay animate run.h5 -o small.mp4 --max-mb 1
  python -m replay animate run.rank0.h5 run.rank1.h5 -o both.mp4
"""
_COMPARE_EXAMPLES = """
Run a stands at the left, run b at the right, on one scale. Shown are the epochs
and batches that both have. --difference adds b - a, in float32, on a scale of
its own that is symmetric around zero.

examples:
  python -m replay compare sgd.h5 adam.h5                to sgd-adam.mp4
  python -m replay compare sgd.h5 adam.h5 -o out.gif --layer conv2 --difference
  python -m replay compare sgd.h5 adam.h5 -o probe.mp4 --probe --difference
"""


def add_animate(commands: Commands) -> None:
    """Adds `animate`."""
    parser = commands.add(
        "animate", _animate, "show the maps of every batch as a film", NUMBERS + _ANIMATE_EXAMPLES
    )
    add = parser.add_argument
    add(
        *("-o", "--out"),
        metavar="FILE",
        help=".mp4, .gif, .webp, .png or .apng, or a folder/ for numbered PNG (default: run.mp4)",
    )
    add(
        "--layer",
        metavar="NAME",
        action="append",
        help="one or more layers, globs, or all (default: the first recorded layer)",
    )
    add_selection(parser)
    add_look(parser)
    add(
        "--with",
        dest="show",
        metavar="LIST",
        action="append",
        help="beside the maps: kernels, difference (since the first epoch), difference:previous, "
        "histogram, loss (there anyway if logged)",
    )
    add("--order", choices=_ORDERS, default="number", help="similar: such channels side by side")
    add("--fps", metavar="N", type=positive, help="frames a second")
    add("--zoom", metavar="N", type=natural, help="picture pixels a map pixel")
    add("--columns", metavar="N", type=natural, help="maps side by side")
    add("--no-captions", dest="captions", action="store_false", help="only the maps")
    _add_encoding(parser)
    add(
        "--max-mb",
        metavar="N",
        type=positive,
        help="largest size in MB: gives up quality, frames and zoom as far as needed, and says so",
    )
    add(
        "--preset", choices=_PRESETS, help="the format, size and proportions for a place, see below"
    )
    add("--alt", action="store_true", help="also what it shows in words, to run.alt.txt")
    add("--poster", action="store_true", help="also its last frame, to run.poster.png")
    add("--quiet", action="store_true", help="no progress bar")


def _animate(options: argparse.Namespace) -> None:
    from replay.maps.runs import choose_layers_of, open_runs
    from replay.rendering.animation import animate

    with (
        open_runs(options.recordings) as recordings,
        executor(options.executor) as workers,
        Progress(options.quiet) as progress,
    ):
        shown = probed(recordings, options.probe)
        layers = choose_layers_of(shown, options.layer)
        check_frames(*recordings)
        result = animate(
            shown,
            options.out,
            layers=layers,
            epochs=options.epochs,
            batches=options.batches,
            fps=options.fps,
            zoom=options.zoom,
            columns=options.columns,
            captions=options.captions,
            codec=options.codec,
            crf=options.crf,
            show=",".join(options.show or []),
            order=options.order,
            jobs=options.jobs,
            executor=workers,
            max_mb=options.max_mb,
            preset=options.preset,
            alt=options.alt,
            poster=options.poster,
            progress=progress,
            **look(options),
        )
    for remark in result.remarks:
        say("note" if remark == result.chosen else "warning", remark)
    tell_made(result.path, result.bytes, result.seconds, result.frames)


def _add_encoding(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how a film is encoded, and by whom."""
    add = parser.add_argument
    add("--codec", choices=("h264", "av1"), default="h264", help="of an MP4 (default: h264)")
    add("--crf", metavar="N", type=int, help="the codec's quality; lower is better, and larger")
    add_crew(parser)


def add_compare(commands: Commands) -> None:
    """Adds `compare`."""
    parser = commands.add(
        "compare",
        _compare,
        "show two runs side by side as a film",
        NUMBERS + _COMPARE_EXAMPLES,
    )
    add = parser.add_argument
    add(
        *("-o", "--out"),
        metavar="FILE",
        help=".mp4, .gif, .webp, .png or .apng, or a folder/ for numbered PNG (default: a-b.mp4)",
    )
    add("--difference", action="store_true", help="a third panel: what b is more than a")
    add(
        "--difference-cmap",
        metavar="NAME",
        default="RdBu_r",
        help="a matplotlib colormap, as diverging as can be (default: RdBu_r)",
    )
    add(
        "--layer",
        metavar="NAME",
        action="append",
        help="one or more layers, globs, or all (default: the first that both have)",
    )
    add_selection(parser)
    add_look(parser)
    add("--fps", metavar="N", type=positive, help="frames a second")
    add("--zoom", metavar="N", type=natural, help="picture pixels a map pixel")
    add("--columns", metavar="N", type=natural, help="maps side by side in each panel")
    _add_encoding(parser)
    add("--quiet", action="store_true", help="no progress bar")


def _compare(options: argparse.Namespace) -> None:
    from replay.maps.runs import open_runs
    from replay.rendering.comparison import compare

    if len(options.recordings) != 2:
        raise OptionError(f"compare: expected two recordings, found {len(options.recordings)}")
    with (
        open_runs(options.recordings) as runs,
        executor(options.executor) as workers,
        Progress(options.quiet) as progress,
    ):
        check_frames(*runs)
        result = compare(
            runs[0],
            runs[1],
            options.out,
            difference=options.difference,
            difference_cmap=options.difference_cmap,
            layers=options.layer,
            epochs=options.epochs,
            batches=options.batches,
            fps=options.fps,
            zoom=options.zoom,
            columns=options.columns,
            codec=options.codec,
            crf=options.crf,
            probe=options.probe,
            jobs=options.jobs,
            executor=workers,
            progress=progress,
            **look(options),
        )
    for remark in result.remarks:
        warn(remark)
    tell_made(result.path, result.bytes, result.seconds, result.frames)
