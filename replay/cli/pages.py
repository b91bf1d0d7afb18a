"""The commands that show maps in a browser: `page` and `watch`."""

from __future__ import annotations

import argparse
import re

from replay.cli.console import check_frames, print_result, progress_bar, say
from replay.cli.next_steps import offer
from replay.cli.options import NUMBERS, Commands, add_options, add_quiet, arguments, only, reader
from replay.option_values import positive_number
from replay.options import LAYER_FLAGS, VIEWS, FilmOptions, RenderRequest

_LAYERS = "layers, globs, or all (default: all)"
_PAGE_OPTIONS = (
    "channels epochs batches probe view scale symmetric cmap title input max_mb overwrite"
)

_PAGE_EXAMPLES = """
The page is one file that any browser of 2023 or later opens from disk; it
fetches nothing. It opens on the last frame, of a fixed image where one was
recorded; what it shows is in its address, for a link. As far as --max-mb
demands, detail that the eye misses is rounded away, then frames are left out
evenly, and maps averaged over whole blocks; the page says what was done.

examples:
  python -m replay page run.h5                     all layers, to run.html
  python -m replay page run.h5 -o report.html --layer conv1 --channels top:16
  python -m replay page run.h5 -o small.html --epochs 0,-1 --max-mb 5
  python -m replay page run.h5 -o fixed.html --probe 0  the fixed image only
  python -m replay page sgd.h5 adam.h5 -o both.html     side by side
"""
_WATCH_EXAMPLES = """
It waits for the recording if there is none yet, opens the browser where there
is a screen, and prints the address, for browsers of this computer; Ctrl-C ends
it.

examples:
  python -m replay watch run.h5
  python -m replay watch run.h5 --layer conv1 --port 0      any free port
"""


def add_page(commands: Commands) -> None:
    """Adds `page`."""
    parser = commands.add(
        "page",
        _page,
        "write one HTML file to scrub, play and explore the maps in a browser",
        NUMBERS + _PAGE_EXAMPLES,
    )
    add = parser.add_argument
    add("-o", "--out", metavar="FILE", help=".html (default: run.html)")
    add(*LAYER_FLAGS, metavar="NAME", action="append", dest="layer", help=_LAYERS)
    add_options(parser, FilmOptions, "channels epochs batches")
    add(
        "--probe",
        metavar="N",
        type=int,
        help="only the fixed image N, from 0 (default: all, and each batch's first image)",
    )
    _add_view(parser)
    add_options(parser, FilmOptions, "scale")
    add("--symmetric", action="store_true", help="at first a scale symmetric around zero")
    add("--cmap", metavar="NAME", default="gray", help="the colormap at first (default: gray)")
    add_options(parser, FilmOptions, "title input")
    add(
        "--max-mb",
        metavar="N",
        type=reader(positive_number),
        default=20.0,
        help="largest size of the file in MB (default: 20)",
    )
    add_options(parser, RenderRequest, "overwrite")
    add_quiet(parser)


def _page(options: argparse.Namespace) -> None:
    from replay.maps.runs import open_runs
    from replay.webpage.document import page

    with open_runs(options.recordings) as recordings, progress_bar(options.quiet) as progress:
        check_frames(*recordings)
        result = page(
            recordings,
            options.out,
            layers=options.layer or "all",
            progress=progress,
            **arguments(options, _PAGE_OPTIONS),
        )
    for note in result.notes:
        say("note", note)
    if result.replaced:
        say("note", f"replaced {result.path}")
    print_result(result.path, result.bytes, result.seconds, result.frames)
    if not options.quiet:
        offer("compare" if len(options.recordings) > 1 else "animate", *options.recordings)


def add_watch(commands: Commands) -> None:
    """Adds `watch`."""
    parser = commands.add(
        "watch", _watch, "show a recording in the browser while it is written", _WATCH_EXAMPLES
    )
    add = parser.add_argument
    add(*LAYER_FLAGS, metavar="NAME", action="append", dest="layer", help=_LAYERS)
    add("--channels", metavar="LIST", help="such as 0,3,8-11")
    add("--probe", metavar="N", type=int, help="opens with the fixed image N (default: the first)")
    _add_view(parser)
    add_options(parser, FilmOptions, "scale")
    add("--cmap", metavar="NAME", default="gray", help="the colormap at first (default: gray)")
    add_options(parser, FilmOptions, "title")
    add("--port", metavar="N", type=_port, default=8642, help="0 for any (default: 8642)")
    add("--no-browser", action="store_true", help="prints the address only")


def _watch(options: argparse.Namespace) -> None:
    import time

    from replay.cli.waiting import open_browser, wait_for
    from replay.webpage.live import Live
    from replay.webpage.server import Server

    path = only(options)
    live = wait_for(
        path,
        lambda: Live(
            path,
            options.layer or "all",
            options.channels,
            options.cmap,
            options.title,
            options.probe,
            options.scale,
            options.view,
        ),
    )
    with Server(live, options.port) as server:
        if not live.count:
            say("note", f"waiting for the first frame of {path}")
        while not live.count:
            time.sleep(0.3)
        live.page()  # says now, not in the browser, if a layer or channel is not there
        print(server.url, flush=True)
        if not options.no_browser:
            open_browser(server.url)
        server.serve()


def _add_view(parser: argparse.ArgumentParser) -> None:
    """Adds what is shown, of which a page has everything unless it is told."""
    help = f"only {', '.join(VIEWS[:-1])} or {VIEWS[-1]} (default: all there are)"
    add = parser.add_argument
    add("--show", dest="view", metavar="VIEW", choices=VIEWS, help=help)


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, found {text!r}")
    return int(text)
