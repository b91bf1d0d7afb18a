"""The commands that make films: `animate` and `compare`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from replay.cli.console import check_frames, print_result, progress_bar, say
from replay.cli.next_steps import offer
from replay.cli.options import (
    NUMBERS,
    PICTURE_OPTIONS,
    Commands,
    add_options,
    add_quiet,
    arguments,
    open_executor,
    select_probe,
)
from replay.options import ComparisonRequest, RenderRequest
from replay.schema import OptionError

if TYPE_CHECKING:
    from replay.rendering.animation import Animation

_SELECTION = "layers channels epochs batches"
_ENCODING = "codec crf quality jobs|executor"
_ANIMATE_OPTIONS = (
    f"out {_SELECTION} {PICTURE_OPTIONS} view query cam_method grid_of_probes show order "
    f"fps zoom columns captions {_ENCODING} max_mb preset overwrite alt poster"
)
_COMPARE_OPTIONS = (
    f"out difference difference_cmap {_SELECTION} {PICTURE_OPTIONS} view query cam_method fps zoom "
    f"columns {_ENCODING} max_mb preset overwrite"
)

_PRESETS = """
A preset sets the format, also that of the default -o, the largest size
(--max-mb sets another) and the frame, but for what is asked for otherwise:
  github     .gif (or .webp)     10 MB   up to 1000x1000 pixels
  slack      .mp4, H.264          8 MB   up to 1280x1080
  slides     .mp4, H.264         50 MB   up to 1920x1080, crf 14
  paper      folder/ of PNG      20 MB   up to 1000x1000, 60 frames at most
To stay below a size, quality goes first, then frames, then zoom; --zoom, --crf,
--quality and --fps are kept where given, and all frames with --batches. What
does not fit is not written.
"""
_ANIMATE_EXAMPLES = (
    _PRESETS
    + """
examples:
  python -m replay animate run.h5                      first layer, to run.mp4
  python -m replay animate run.h5 -o run.gif --epochs 0:2 --zoom 2
  python -m replay animate run.h5 -o all.mp4 --layer 'layer1.*' --channels top:8
  python -m replay animate run.h5 -o frames/ --cmap RdBu_r --symmetric
  python -m replay animate run.h5 -o probe.mp4 --probe
  python -m replay animate run.h5 -o all.mp4 --with kernels,difference,histogram
  python -m replay animate run.h5 --show attention --probe 0
  python -m replay animate run.h5 --preset github --alt --poster
  python -m replay animate run.h5 -o looks.mp4 --show cam --grid-of-probes
  python -m replay animate run.h5 -o small.mp4 --max-mb 1
  python -m replay animate run.rank0.h5 run.rank1.h5 -o both.mp4
"""
)
_COMPARE_EXAMPLES = (
    """
Run a stands at the left, run b at the right, on one scale. Shown are the epochs
and batches that both have. --difference adds b - a, in float32, on a scale of
its own that is symmetric around zero.
"""
    + _PRESETS
    + """
examples:
  python -m replay compare sgd.h5 adam.h5                to sgd-adam.mp4
  python -m replay compare sgd.h5 adam.h5 -o out.gif --layer conv2 --difference
  python -m replay compare sgd.h5 adam.h5 -o probe.mp4 --probe --difference
"""
)


def add_animate(commands: Commands) -> None:
    """Adds `animate`."""
    parser = commands.add(
        "animate", _animate, "show the maps of every batch as a film", NUMBERS + _ANIMATE_EXAMPLES
    )
    add_options(parser, RenderRequest, _ANIMATE_OPTIONS)
    add_quiet(parser)


def _animate(options: argparse.Namespace) -> None:
    from replay.maps.runs import choose_layers_of, open_runs
    from replay.rendering.animation import animate

    with (
        open_runs(options.recordings) as recordings,
        open_executor(options.executor) as executor,
        progress_bar(options.quiet) as progress,
    ):
        shown = select_probe(recordings, options.probe)
        chosen = arguments(options, _ANIMATE_OPTIONS)
        chosen.update(
            layers=options.layers
            if options.view != "maps"
            else choose_layers_of(shown, options.layers),
            probe=None,  # it has been selected
            show=",".join(options.show or []),
            executor=executor,
        )
        check_frames(*recordings)
        result = animate(shown, progress=progress, **chosen)
    _say_remarks(result)
    print_result(result.path, result.bytes, result.seconds, result.frames)
    if not options.quiet:
        offer("page", *options.recordings[:2])


def add_compare(commands: Commands) -> None:
    """Adds `compare`."""
    parser = commands.add(
        "compare",
        _compare,
        "show two runs side by side as a film",
        NUMBERS + _COMPARE_EXAMPLES,
    )
    add_options(parser, ComparisonRequest, _COMPARE_OPTIONS)
    add_quiet(parser)


def _compare(options: argparse.Namespace) -> None:
    from replay.maps.runs import open_runs
    from replay.rendering.comparison import compare

    if len(options.recordings) != 2:
        raise OptionError(f"compare: expected two recordings, found {len(options.recordings)}")
    with (
        open_runs(options.recordings) as runs,
        open_executor(options.executor) as executor,
        progress_bar(options.quiet) as progress,
    ):
        check_frames(*runs)
        chosen = arguments(options, _COMPARE_OPTIONS)
        chosen.update(executor=executor)
        result = compare(runs[0], runs[1], progress=progress, **chosen)
    _say_remarks(result)
    print_result(result.path, result.bytes, result.seconds, result.frames)
    if not options.quiet:
        offer("page", *options.recordings, "-o", result.path.with_suffix(".html"))


def _say_remarks(result: Animation) -> None:
    """Writes what a reader should know of an animation to stderr, a line each."""
    for remark in result.remarks:
        say("note" if remark in result.notes else "warning", remark)
    for path in result.replaced:
        say("note", f"replaced {path}")
