"""The command line: `python -m replay COMMAND run.h5`.

Parses, calls, and turns the one error type into one line on stderr and an exit code.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from replay.schema import OptionError, RecordingError
from replay.words import clean, count, in_bytes

_SCALES = ("run", "epoch", "frame", "channel")
_THEMES = ("light", "dark")
_ORDERS = ("number", "similar")
_SHELLS = ("bash", "zsh", "fish", "tcsh")
_TOKENS = ("auto", "square", "strip")
_PRESETS = ("github", "slack", "slides", "paper")

_DESCRIPTION = """\
Turns a recording of feature maps into animations, figures and pages.
"""
_EXAMPLES = """\
examples:
  python -m replay info run.h5
  python -m replay animate run.h5 -o run.mp4
  python -m replay animate run.h5 -o run.gif --layer conv1 --channels top:16
  python -m replay compare a.h5 b.h5 -o both.mp4 --difference
  python -m replay grid run.h5 -o grid.pdf --epoch 0,2,-1 --kernels
  python -m replay health run.h5
  python -m replay page run.h5 -o report.html
  python -m replay watch run.h5

'python -m replay COMMAND --help' describes the options of a command.
"""
_NUMBERS = """\
Epochs, batches and channels bear the zero-based numbers of the file:
  3          one of them           -1         the last one
  0,3,8-11   a list with spans     0:10:2     a slice, its end excluded
"""
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
_GRID_EXAMPLES = """
examples:
  python -m replay grid run.h5                     last batch, to run-grid.png
  python -m replay grid run.h5 -o grid.pdf --layer conv2 --channels top:16
  python -m replay grid run.h5 -o grid.svg --epoch 0,2,4
  python -m replay grid run.h5 -o grid.png --kernels --clip -1,1 --cmap RdBu_r
"""
_SHEET_EXAMPLES = """
The fixed image is shown where there is one (--probe 1 for the second), else
each batch's first image, and the sheet says so.

examples:
  python -m replay sheet run.h5                    to run-sheet.png
  python -m replay sheet run.h5 -o sheet.pdf --layer conv2 --channels top:8
  python -m replay sheet run.h5 --epochs 0:20 --rows 5 --no-probe
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
_PAGE_EXAMPLES = """
The page is one file that any browser of 2023 or later opens from disk; it
fetches nothing. Frames are left out evenly, and maps averaged over whole
blocks, as far as --max-mb demands; the page says what was done.

examples:
  python -m replay page run.h5                     all layers, to run.html
  python -m replay page run.h5 -o report.html --layer conv1 --channels top:16
  python -m replay page run.h5 -o small.html --epochs 0,-1 --max-mb 5
  python -m replay page sgd.h5 adam.h5 -o both.html     side by side
"""
_WATCH_EXAMPLES = """
Open the address that it prints in a browser of this computer; Ctrl-C ends it.

examples:
  python -m replay watch run.h5
  python -m replay watch run.h5 --layer conv1 --port 0      any free port
"""


_COMPLETION_EXAMPLES = """\
examples:
  eval "$(mapreel-replay completion bash)"                  in ~/.bashrc
  mapreel-replay completion zsh > ~/.zfunc/_mapreel-replay
"""
_INFO_EXAMPLES = """\
examples:
  python -m replay info run.h5
  python -m replay info *.h5 --json
"""
_VERIFY_EXAMPLES = """\
examples:
  python -m replay verify run.h5 && echo all is whole
  python -m replay verify run.h5 --json
"""
_REPAIR_EXAMPLES = """\
The original is never written to.

examples:
  python -m replay repair run.h5 -o fixed.h5
"""
_HEALTH_EXAMPLES = """
What it looks for, in each layer:
  dead        zero in every batch since the one that is named, to the end
  flat        likewise, but each map has one value, of which zero is one
  stuck       the same value in every map since then
  saturated   over 99 % of the values at the smallest or largest of the channel;
              of maps of 100 values and more
  unchanging  the same map though the input changes, or, of a probe, over time
  duplicate   a correlation above 0.99 with another channel, late in the run
  nan, inf    values that are not finite, and the first batch that has some
  change      how far the layer moved, relative to what it was: of the maps of
              the probe image, else of the kernels, else of the ranges
It reads the ranges of all frames, and the maps of a bounded number. The
exit code is 0 whatever it finds.

examples:
  python -m replay health run.h5
  python -m replay health run.h5 -o health.pdf
  python -m replay health run.h5 --csv > findings.csv
"""


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Its words; those of the process if None.

    Returns:
        The exit code: 0, 1 (failed), 2 (usage or unusable input) or 130 (Ctrl-C).
    """
    # A filter that HDF5 does not know would be looked for among the plug-ins of this computer.
    os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")
    words = _spell_out(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        options = _parse(words)
        code = options.call(options)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse has said what there is to say
        return stop.code if isinstance(stop.code, int) else 2
    except RecordingError as error:
        if debug:
            raise
        _say("error", str(error))
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        return 130
    except BrokenPipeError:  # whoever read stdout has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code or 0


def _info(options: argparse.Namespace) -> None:
    from replay import info
    from replay.recording import open_recording

    documents = []
    for path in options.recordings:
        with open_recording(path) as recording:
            documents.append(info.describe(recording))
            _warn(info.trouble(recording))
    if options.json:
        print(info.to_json(documents if len(documents) > 1 else documents[0]))
    else:
        print("\n\n".join(info.as_text(document) for document in documents))


def _verify(options: argparse.Namespace) -> int:
    from replay.verification import verify

    documents = []
    for path in options.recordings:
        with _Progress(options.quiet) as progress:
            report = verify(path, progress)
        documents.append(report)
        if options.json:
            continue
        for problem in report.problems:
            print(clean(str(problem)))
        state = "" if report.closed else "; it was not closed"
        unchecked = f"; {report.unchecked:,} have no checksum" if report.unchecked else ""
        print(
            f"{clean(str(report.path))}: {count(len(report.problems), 'problem')} in "
            f"{count(report.frames, 'frame')}, {count(report.arrays, 'array')} of "
            f"{in_bytes(report.bytes)}{unchecked}{state}"
        )
    if options.json:
        texts = [report.to_json() for report in documents]
        print(texts[0] if len(texts) == 1 else f"[{','.join(texts)}]")
    return 0 if all(documents) else 1


def _health(options: argparse.Namespace) -> None:
    from pathlib import Path

    from replay import info
    from replay.diagnosis import health
    from replay.recording import open_recording
    from replay.target import check_suffix

    path = _only(options)
    if options.out is not None:
        check_suffix(Path(options.out), (".png", ".pdf", ".svg"))
    with open_recording(path) as recording, _Progress(options.quiet, " layers") as progress:
        recording.require_frames()
        _warn(info.trouble(recording))
        found = health(recording, progress)
    text = found.to_json() if options.json else found.to_csv() if options.csv else f"{found}\n"
    print(text, end="" if options.csv else "\n" if options.json else "")
    if options.out is not None:
        from replay.healthchart import draw_health

        drawn = draw_health(found, options.out, options.theme)
        _say("note", f"{drawn}  {in_bytes(drawn.stat().st_size)}")


def _repair(options: argparse.Namespace) -> None:
    from replay.repairing import repair

    path = _only(options)
    with _Progress(options.quiet) as progress:
        result = repair(path, options.out, options.overwrite, progress)
    for problem in result.left_out:
        _say("left out", str(problem))
    print(
        f"{result.path}  {in_bytes(result.bytes)}, {count(result.frames, 'frame')}, "
        f"{count(len(result.left_out), 'damaged array')} left out"
    )


def _animate(options: argparse.Namespace) -> None:
    from replay import info
    from replay.animation import animate
    from replay.together import choose_layers_of, opened

    with (
        opened(options.recordings) as recordings,
        _executor(options.executor) as executor,
        _Progress(options.quiet) as progress,
    ):
        shown = _probed(recordings, options.probe)
        layers = choose_layers_of(shown, options.layer)
        for recording in recordings:
            _warn(info.trouble(recording))
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
            executor=executor,
            max_mb=options.max_mb,
            preset=options.preset,
            alt=options.alt,
            poster=options.poster,
            progress=progress,
            **_look(options),
        )
    for remark in result.remarks:
        _say("note" if remark == result.chosen else "warning", remark)
    print(
        f"{result.path}  {in_bytes(result.bytes)}, {result.frames:,} frames, {result.seconds:.1f} s"
    )


def _compare(options: argparse.Namespace) -> None:
    from replay import info
    from replay.comparison import compare
    from replay.together import opened

    if len(options.recordings) != 2:
        raise OptionError(f"compare: expected two recordings, found {len(options.recordings)}")
    with (
        opened(options.recordings) as runs,
        _executor(options.executor) as executor,
        _Progress(options.quiet) as progress,
    ):
        for run in runs:
            _warn(info.trouble(run))
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
            executor=executor,
            progress=progress,
            **_look(options),
        )
    for remark in result.remarks:
        _warn(remark)
    print(
        f"{result.path}  {in_bytes(result.bytes)}, {result.frames:,} frames, {result.seconds:.1f} s"
    )


def _grid(options: argparse.Namespace) -> None:
    from replay import info
    from replay.still import grid
    from replay.together import opened

    with opened(options.recordings) as recordings:
        shown = _probed(recordings, options.probe)
        for recording in recordings:
            recording.require_frames()
            _warn(info.trouble(recording))
        result = grid(
            shown,
            options.out,
            layer=options.layer,
            epochs=options.epoch,
            batch=options.batch,
            dpi=options.dpi,
            kernels=options.kernels,
            **_look(options),
        )
    for remark in result.remarks:
        _warn(remark)
    print(f"{result.path}  {in_bytes(result.bytes)}, {result.seconds:.1f} s")


def _sheet(options: argparse.Namespace) -> None:
    from replay import info
    from replay.contact import sheet
    from replay.recording import open_recording

    with open_recording(_only(options)) as recording:
        recording.require_frames()
        _warn(info.trouble(recording))
        result = sheet(
            recording,
            options.out,
            layer=options.layer,
            epochs=options.epochs,
            batch=options.batch,
            probe=options.probe,
            rows=options.rows,
            dpi=options.dpi,
            **_look(options),
        )
    print(f"{result.path}  {in_bytes(result.bytes)}, {result.seconds:.1f} s")


def _export(options: argparse.Namespace) -> None:
    from replay import info
    from replay.exporting import export
    from replay.recording import open_recording

    with open_recording(_only(options)) as recording, _Progress(options.quiet) as progress:
        recording.require_frames()
        _warn(info.trouble(recording))
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
        _warn(remark)
    if result.damaged:
        epoch, batch = result.damaged[0]
        said = f"{count(len(result.damaged), 'damaged frame')}, first epoch {epoch} batch {batch}"
        _warn(f"{said}; not in the maps (NaN in an array)")
    sizes = "x".join(map(str, (result.frames, *result.shape)))
    print(f"{result.path}  {in_bytes(result.bytes)}, {sizes} float16")


def _probed(recordings: Sequence[Any], number: int | None) -> list[Any]:
    """The recordings, or what each has of a fixed image."""
    return [each if number is None else each.probe(number) for each in recordings]


def _page(options: argparse.Namespace) -> None:
    from replay import info
    from replay.together import opened
    from replay.webpage import page

    with opened(options.recordings) as recordings, _Progress(options.quiet) as progress:
        for recording in recordings:
            recording.require_frames()
            _warn(info.trouble(recording))
        result = page(
            recordings,
            options.out,
            layers=options.layer or "all",
            channels=options.channels,
            epochs=options.epochs,
            batches=options.batches,
            scale=options.scale,
            symmetric=options.symmetric,
            cmap=options.cmap,
            title=options.title,
            input=options.input,
            max_mb=options.max_mb,
            progress=progress,
        )
    for note in result.notes:
        _say("note", note)
    print(
        f"{result.path}  {in_bytes(result.bytes)}, {result.frames:,} frames, {result.seconds:.1f} s"
    )


def _watch(options: argparse.Namespace) -> None:
    import time

    from replay.live import Live
    from replay.watch import Server

    path = _only(options)
    live = Live(
        path,
        options.layer or "all",
        options.channels,
        options.cmap,
        options.title,
    )
    with Server(live, options.port) as server:
        if not live.count:
            _say("note", f"waiting for the first frame of {path}")
        while not live.count:
            time.sleep(0.3)
        live.page()  # says now, not in the browser, if a layer or channel is not there
        print(server.url, flush=True)
        server.serve()


def _completion(options: argparse.Namespace) -> None:
    from replay.completion import script

    print(script(_parser(), "mapreel-replay", options.shell))


def _only(options: argparse.Namespace) -> str:
    """The one recording of a command that takes no more."""
    if len(options.recordings) > 1:
        raise OptionError(
            f"{options.command}: expected one recording, found {len(options.recordings)}"
        )
    return str(options.recordings[0])


def _look(options: argparse.Namespace) -> dict[str, Any]:
    names = "channels scale clip symmetric cmap title input theme slices tokens"
    return {name: getattr(options, name) for name in names.split()}


def _executor(words: str | None) -> AbstractContextManager[Executor | None]:
    if words is None:
        return nullcontext()
    from replay.executors import connect

    return connect(words)


class _Progress:
    """A bar on stderr, if that is a terminal; called with (done, total)."""

    def __init__(self, quiet: bool, unit: str = " frames") -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, done: int, total: int) -> None:
        if not self._shown:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=self._unit, leave=False, file=sys.stderr)
        self._bar.update(done - self._bar.n)


def _say(kind: str, message: str) -> None:
    print(f"{kind}: {clean(message)}", file=sys.stderr)


def _warn(message: str | None) -> None:
    if message is not None:
        _say("warning", message)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where to read on."""

    def error(self, message: str) -> NoReturn:
        _say("error", f"{message} (see {self.prog} --help)")
        self.exit(2)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """The options; recordings may stand before, between and after them."""
    parser = _parser()
    options, rest = parser.parse_known_args(words)
    if rest and (not hasattr(options, "recordings") or any(word[:1] == "-" for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.recordings += rest
    return options


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback"
    )
    parser = _Parser(
        prog="python -m replay",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")

    def command(
        name: str, call: Callable[..., int | None], words: str, epilog: str = ""
    ) -> _Parser:
        sub: _Parser = commands.add_parser(
            name,
            help=words,
            description=f"{words[0].upper()}{words[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        sub.set_defaults(call=call)
        sub.add_argument(
            "recordings",
            metavar="run.h5",
            nargs="+",
            help="one recording, or several where they are compared",
        )
        return sub

    info = command("info", _info, "say what a recording holds", _INFO_EXAMPLES)
    info.add_argument("--json", action="store_true", help="one JSON document")

    verify = command(
        "verify",
        _verify,
        "hold everything against its checksums; exit code 0 or 1",
        _VERIFY_EXAMPLES,
    )
    verify.add_argument("--json", action="store_true", help="one JSON document")
    verify.add_argument("--quiet", action="store_true", help="no progress bar")

    health = command(
        "health", _health, "look for channels that are dead, stuck or alike", _HEALTH_EXAMPLES
    )
    form = health.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document")
    form.add_argument("--csv", action="store_true", help="a row for each finding")
    add = health.add_argument
    add("-o", "--out", metavar="FILE", help="a figure, too: .png, .pdf or .svg")
    add("--theme", choices=_THEMES, default="light", help="of the figure (default: light)")
    add("--quiet", action="store_true", help="no progress bar")

    repair = command("repair", _repair, "copy all that is whole into a new file", _REPAIR_EXAMPLES)
    repair.add_argument("-o", "--out", metavar="FILE", required=True, help="the new file")
    repair.add_argument("--overwrite", action="store_true", help="replace an existing file")
    repair.add_argument("--quiet", action="store_true", help="no progress bar")

    animate = command(
        "animate", _animate, "show the maps of every batch as a film", _NUMBERS + _ANIMATE_EXAMPLES
    )
    add = animate.add_argument
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
    add("--channels", metavar="LIST", help="such as 0,3,8-11, or top:16 for what varies most")
    add("--epochs", metavar="A:B:C", help="epochs (default: all)")
    add("--batches", metavar="A:B:C", help="batches of each epoch (default: all)")
    _add_look(animate)
    add(
        "--with",
        dest="show",
        metavar="LIST",
        action="append",
        help="beside the maps: kernels, difference (since the first epoch), difference:previous, "
        "histogram, loss (there anyway if logged)",
    )
    add("--order", choices=_ORDERS, default="number", help="similar: such channels side by side")
    add("--fps", metavar="N", type=_positive, help="frames a second")
    add("--zoom", metavar="N", type=_natural, help="picture pixels a map pixel")
    add("--columns", metavar="N", type=_natural, help="maps side by side")
    add("--no-captions", dest="captions", action="store_false", help="only the maps")
    add("--codec", choices=("h264", "av1"), default="h264", help="of an MP4 (default: h264)")
    add("--crf", metavar="N", type=int, help="the codec's quality; lower is better, and larger")
    _add_crew(animate)
    add(
        "--max-mb",
        metavar="N",
        type=_positive,
        help="largest size in MB: gives up quality, frames and zoom as far as needed, and says so",
    )
    add(
        "--preset", choices=_PRESETS, help="the format, size and proportions for a place, see below"
    )
    add("--alt", action="store_true", help="also what it shows in words, to run.alt.txt")
    add("--poster", action="store_true", help="also its last frame, to run.poster.png")
    add("--quiet", action="store_true", help="no progress bar")

    compare = command(
        "compare",
        _compare,
        "show two runs side by side as a film",
        _NUMBERS + _COMPARE_EXAMPLES,
    )
    add = compare.add_argument
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
    add("--channels", metavar="LIST", help="such as 0,3,8-11, or top:16 for what varies most")
    add("--epochs", metavar="A:B:C", help="epochs (default: all)")
    add("--batches", metavar="A:B:C", help="batches of each epoch (default: all)")
    _add_look(compare)
    add("--fps", metavar="N", type=_positive, help="frames a second")
    add("--zoom", metavar="N", type=_natural, help="picture pixels a map pixel")
    add("--columns", metavar="N", type=_natural, help="maps side by side in each panel")
    add("--codec", choices=("h264", "av1"), default="h264", help="of an MP4 (default: h264)")
    add("--crf", metavar="N", type=int, help="the codec's quality; lower is better, and larger")
    _add_crew(compare)
    add("--quiet", action="store_true", help="no progress bar")

    grid = command(
        "grid", _grid, "draw the maps of a batch as a figure for print", _NUMBERS + _GRID_EXAMPLES
    )
    add = grid.add_argument
    add("-o", "--out", metavar="FILE", help=".png, .pdf or .svg (default: run-grid.png)")
    add("--layer", metavar="NAME", help="the layer (default: the first recorded one)")
    add("--epoch", metavar="LIST", default="-1", help="epochs to compare (default: the last)")
    add("--batch", metavar="N", type=int, default=-1, help="batch (default: the last)")
    add("--channels", metavar="LIST", help="such as 0,3,8-11, or top:16 for what varies most")
    _add_look(grid)
    add("--dpi", metavar="N", type=_natural, default=200, help="pixels an inch (default: 200)")
    add("--kernels", action="store_true", help="each map's kernel beside it")

    sheet = command(
        "sheet", _sheet, "draw epochs down, channels across", _NUMBERS + _SHEET_EXAMPLES
    )
    add = sheet.add_argument
    add("-o", "--out", metavar="FILE", help=".png, .pdf or .svg (default: run-sheet.png)")
    add("--layer", metavar="NAME", help="the layer (default: the first recorded one)")
    add("--epochs", metavar="A:B:C", help="epochs (default: all)")
    add("--batch", metavar="N", type=int, default=-1, help="batch (default: the last)")
    add("--channels", metavar="LIST", help="such as 0,3,8-11 (default: all, or top:12 of many)")
    add("--rows", metavar="N", type=_natural, default=8, help="epochs at most (default: 8)")
    _add_look(sheet)
    add(
        "--no-probe",
        dest="probe",
        action="store_const",
        const=False,
        help="each batch's first image, also where there is a fixed one",
    )
    add("--dpi", metavar="N", type=_natural, default=200, help="pixels an inch (default: 200)")

    export = command("export", _export, "copy maps out for numpy", _NUMBERS + _EXPORT_EXAMPLES)
    add = export.add_argument
    add("-o", "--out", metavar="FILE", required=True, help=".npz, .npy, .zarr or a folder/")
    add("--layer", metavar="NAME", help="the layer (default: the first recorded one)")
    add("--epochs", metavar="A:B:C", help="epochs (default: all)")
    add("--batches", metavar="A:B:C", help="batches of each epoch (default: all)")
    add("--channels", metavar="LIST", help="such as 0,3,8-11, or top:16 for what varies most")
    add("--probe", metavar="N", type=int, help="the maps of a fixed image; N from 0")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--quiet", action="store_true", help="no progress bar")

    page = command(
        "page",
        _page,
        "write one HTML file to scrub, play and explore the maps in a browser",
        _NUMBERS + _PAGE_EXAMPLES,
    )
    add = page.add_argument
    add("-o", "--out", metavar="FILE", help=".html (default: run.html)")
    add("--layer", metavar="NAME", action="append", help="layers, globs, or all (default: all)")
    add("--channels", metavar="LIST", help="such as 0,3,8-11, or top:16 for what varies most")
    add("--epochs", metavar="A:B:C", help="epochs (default: all)")
    add("--batches", metavar="A:B:C", help="batches of each epoch (default: all)")
    add("--scale", choices=_SCALES[:3], default="run", help="the scale at first (default: run)")
    add("--symmetric", action="store_true", help="at first a scale symmetric around zero")
    add("--cmap", metavar="NAME", default="gray", help="the colormap at first (default: gray)")
    add("--title", metavar="TEXT", help="a heading; the layer is named after it")
    add("--no-input", dest="input", action="store_false", help="without the input picture")
    add(
        "--max-mb",
        metavar="N",
        type=_positive,
        default=20.0,
        help="largest size of the file in MB (default: 20)",
    )
    add("--quiet", action="store_true", help="no progress bar")

    watch = command(
        "watch", _watch, "show a recording in the browser while it is written", _WATCH_EXAMPLES
    )
    add = watch.add_argument
    add("--layer", metavar="NAME", action="append", help="layers, globs, or all (default: all)")
    add("--channels", metavar="LIST", help="such as 0,3,8-11")
    add("--cmap", metavar="NAME", default="gray", help="the colormap at first (default: gray)")
    add("--title", metavar="TEXT", help="a heading; the layer is named after it")
    add("--port", metavar="N", type=_port, default=8642, help="0 for any (default: 8642)")
    completion = commands.add_parser(
        "completion",
        help="print what makes a shell complete the words of mapreel-replay",
        description="Print what makes a shell complete the words of mapreel-replay.",
        epilog=_COMPLETION_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    completion.add_argument("shell", choices=_SHELLS)
    completion.set_defaults(call=_completion)
    return parser


def _add_crew(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        metavar="N",
        type=_natural,
        help="processes that render a part each (default: as many as pay)",
    )
    where.add_argument(
        "--executor", metavar="dask=ADDRESS", help="a Dask scheduler whose workers render the parts"
    )


def _add_look(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--scale",
        choices=_SCALES,
        default="run",
        help="values that share one range: those of the run (default), of an epoch, of a frame "
        "or of a channel",
    )
    add("--clip", metavar="LO,HI", type=_clip, help="an explicit range of values")
    add("--symmetric", action="store_true", help="a range symmetric around zero")
    add("--cmap", metavar="NAME", default="gray", help="a matplotlib colormap (default: gray)")
    add(
        "--probe",
        metavar="N",
        type=int,
        help="the maps of a fixed image (default: of each batch's first image); N from 0",
    )
    add("--title", metavar="TEXT", help="a heading; the layer is named after it")
    add("--no-input", dest="input", action="store_false", help="without the input picture")
    add(
        "--slices",
        metavar="middle|all|LIST",
        default="middle",
        help="of volumes: the middle slice of each map (default), all side by side, or 3,5",
    )
    add(
        "--tokens",
        choices=_TOKENS,
        default="auto",
        help="of tokens: as a square, as strips, or as the input picture suggests (default)",
    )
    add("--theme", choices=_THEMES, default="light", help="light (default) or dark")


def _clip(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected LO,HI such as -1,1, found {text!r}") from None
    return low, high


def _natural(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, found {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def _spell_out(words: Sequence[str]) -> list[str]:
    """Words as argparse cannot mistake them.

    `--clip -1,1` becomes `--clip=-1,1`, since the value looks like an option, `--probe` without a
    number `--probe=0`, and `--layer a b run.h5` becomes `--layer=a --layer=b run.h5`, since an
    option with several values would take the recording for the last of them.
    """
    spelled: list[str] = []
    option = ""
    for place, word in enumerate(words):
        if word == "--probe" and not re.fullmatch(r"-?\d+", "".join(words[place + 1 : place + 2])):
            spelled.append("--probe=0")
            option = ""
        elif re.match(r"-[\d.:]", word) and re.fullmatch(r"--[a-z]+", option):
            spelled[-1] = f"{option}={word}"
            option = ""
        elif word.startswith("-") or not {"animate", "compare", "page", "watch"} & set(words):
            spelled.append(word)
            option = word
        elif option == "--layer" and not word.endswith((".h5", ".hdf5")):
            if spelled[-1] == "--layer":
                spelled.pop()
            spelled.append(f"--layer={word}")
        else:
            spelled.append(word)
            option = ""
    return spelled


if __name__ == "__main__":
    entry()
