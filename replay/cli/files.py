"""The commands that look at a recording: `info`, `verify` and `health`."""

from __future__ import annotations

import argparse

from replay.cli.console import check_frames, print_result, progress_bar, say, warn
from replay.cli.next_steps import beside, offer, offer_after_info, offer_repair, offer_to_load
from replay.cli.options import NUMBERS, Commands, add_options, add_quiet, only
from replay.formatting import clean_line, format_bytes, format_count
from replay.options import EXPORTED, LAYER_FLAGS, THEMES, FilmOptions, RenderRequest, SheetOptions
from replay.schema import OptionError

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
              the fixed image, else of the kernels, else of the ranges
Behind "->" stands what to do about it. It reads the ranges of all frames, and
the maps of a bounded number. The exit code is 0 whatever it finds.

examples:
  python -m replay health run.h5
  python -m replay health run.h5 -o health.pdf
  python -m replay health run.h5 --csv > findings.csv
"""


def add_info(commands: Commands) -> None:
    """Adds `info`."""
    parser = commands.add("info", _info, "say what a recording holds", _INFO_EXAMPLES)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _info(options: argparse.Namespace) -> None:
    from replay.recording import info, info_text, open_recording

    documents, frames, closed = [], True, True
    for path in options.recordings:
        with open_recording(path) as recording:
            documents.append(info.describe(recording))
            warn(info.describe_problems(recording))
            frames, closed = frames and bool(recording.frames), closed and recording.closed
    if options.json:
        print(info.to_json(documents if len(documents) > 1 else documents[0]))
    else:
        print("\n\n".join(info_text.format_info(document) for document in documents))
        offer_after_info(options.recordings, frames, closed)


def add_verify(commands: Commands) -> None:
    """Adds `verify`."""
    parser = commands.add(
        "verify",
        _verify,
        "hold everything against its checksums; exit code 0 or 1",
        _VERIFY_EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    add_quiet(parser)


def _verify(options: argparse.Namespace) -> int:
    from replay.files.verification import verify

    documents, damaged = [], []
    for path in options.recordings:
        with progress_bar(options.quiet) as progress:
            report = verify(path, progress)
        documents.append(report)
        readable = all(problem.what != "file" for problem in report.problems)
        if readable and not report:
            damaged.append(report)
        if options.json:
            continue
        for problem in report.problems:
            print(clean_line(str(problem)))
        if not readable:  # nothing was counted, nor can it be repaired
            continue
        state = "" if report.closed else "; it was not closed"
        unchecked = f"; {report.unchecked:,} have no checksum" if report.unchecked else ""
        print(
            f"{clean_line(str(report.path))}: "
            f"{format_count(len(report.problems), 'problem')} in "
            f"{format_count(report.frames, 'frame')}, {format_count(report.arrays, 'array')} of "
            f"{format_bytes(report.bytes)}{unchecked}{state}"
        )
    if options.json:
        texts = [report.to_json() for report in documents]
        print(texts[0] if len(texts) == 1 else f"[{','.join(texts)}]")
    elif not options.quiet:
        if damaged:
            offer_repair(str(damaged[0].path))
        elif all(documents):
            offer("health", options.recordings[0])
    return 0 if all(documents) else 1


def add_health(commands: Commands) -> None:
    """Adds `health`."""
    parser = commands.add(
        "health", _health, "look for channels that are dead, stuck or alike", _HEALTH_EXAMPLES
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document")
    form.add_argument("--csv", action="store_true", help="a row for each finding")
    add = parser.add_argument
    add("-o", "--out", metavar="FILE", help="a figure, too: .png, .pdf or .svg")
    add("--theme", choices=THEMES, default="light", help="of the figure (default: light)")
    add_options(parser, RenderRequest, "overwrite")
    add_quiet(parser)


def _health(options: argparse.Namespace) -> None:
    from pathlib import Path

    from replay.diagnosis.examination import health
    from replay.output import check_suffix, check_writable
    from replay.overwriting import check_replaceable
    from replay.recording import open_recording

    path = only(options)
    if options.out is None and (options.overwrite or options.theme != "light"):
        flag = "--overwrite" if options.overwrite else "--theme"
        raise OptionError(f"{flag} has no effect without -o: it is of the figure")
    if options.out is not None:
        out = Path(options.out)
        check_suffix(out, (".png", ".pdf", ".svg"))
        check_writable(out)
        replaced = check_replaceable([out], options.overwrite)
    with open_recording(path) as recording, progress_bar(options.quiet, " layers") as progress:
        check_frames(recording)
        found = health(recording, progress)
    text = found.to_json() if options.json else found.to_csv() if options.csv else f"{found}\n"
    print(text, end="" if options.csv else "\n" if options.json else "")
    if options.out is not None:
        from replay.figures.health_chart import draw_health

        drawn = draw_health(found, options.out, theme=options.theme, overwrite=options.overwrite)
        for each in replaced:
            say("note", f"replaced {each}")
        say("note", f"{drawn.path}  {format_bytes(drawn.bytes)}")
    if options.json or options.csv or options.quiet:
        return
    first = next((each.layer for each in found.all_findings if each.layer), None)
    if options.out is None:
        offer("health", path, "-o", beside(path, "health.png"))
    else:
        offer("sheet", path, *(() if first is None else ("--layer", first)))


_REPAIR_EXAMPLES = """\
The original is never written to.

examples:
  python -m replay repair run.h5 -o fixed.h5
"""


_FETCH_EXAMPLES = """
Every command reads a recording by its address, as much of it as it shows; this
one downloads all of it.

examples:
  python -m replay fetch https://example.org/run.h5
  python -m replay fetch s3://bucket/run.h5 -o copy.h5
"""


_EXPORT_EXAMPLES = """
  .npz    arrays maps (frames, C, H, W), epoch, batch, channel, damaged, and
          loss and input where they were recorded; .zarr has the same, with
          the names of the axes, for xarray
  .npy    the maps alone; numpy.load(..., mmap_mode="r") reads parts of it
  name/   a file epoch0003_batch0012.npy, (C, H, W), for each frame
All maps are float16, the channels first. A damaged frame is NaN, or not there.
--show gradient and cam (of a fixed image, one map a frame) are float32.

examples:
  python -m replay export run.h5 --layer conv1 -o maps.npz
  python -m replay export run.h5 --epochs -1 --channels 0,3 -o last.npy
  python -m replay export run.h5 --probe 0 -o frames/
  python -m replay export run.h5 --show attention -o attention.npz
  python -m replay export run.h5 --show cam --probe 3 -o cam.npz
"""


def add_repair(commands: Commands) -> None:
    """Adds `repair`."""
    parser = commands.add(
        "repair", _repair, "copy all that is whole into a new file", _REPAIR_EXAMPLES
    )
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="the new file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_quiet(parser)


def _repair(options: argparse.Namespace) -> None:
    from replay.files.repairing import repair

    path = only(options)
    with progress_bar(options.quiet) as progress:
        result = repair(path, options.out, options.overwrite, progress)
    for problem in result.left_out:
        say("left out", str(problem))
    print(
        f"{result.path}  {format_bytes(result.bytes)}, {format_count(result.frames, 'frame')}, "
        f"{format_count(len(result.left_out), 'damaged array')} left out"
    )
    if not options.quiet:
        offer("verify", result.path)


def add_fetch(commands: Commands) -> None:
    """Adds `fetch`."""
    parser = commands.add("fetch", _fetch, "download a recording whole", _FETCH_EXAMPLES)
    add = parser.add_argument
    add("-o", "--out", metavar="FILE", help="the new file (default: its name, here)")
    add("--overwrite", action="store_true", help="replace an existing file")
    add_quiet(parser)


def _fetch(options: argparse.Namespace) -> None:
    from replay.files.transfer import fetch

    with progress_bar(options.quiet, "B") as progress:
        fetched = fetch(only(options), options.out, options.overwrite, progress)
    print_result(fetched.path, fetched.bytes, fetched.seconds)
    if not options.quiet:
        offer("verify", fetched.path)


def add_export(commands: Commands) -> None:
    """Adds `export`."""
    parser = commands.add("export", _export, "copy maps out for numpy", NUMBERS + _EXPORT_EXAMPLES)
    add = parser.add_argument
    add("-o", "--out", metavar="FILE", required=True, help=".npz, .npy, .zarr or a folder/")
    what = "one layer (default: the first recorded one, or the one that the view suits)"
    add(*LAYER_FLAGS, dest="layer", metavar="NAME", action="append", help=what)
    add_options(parser, SheetOptions, "epochs batches channels")
    add("--probe", metavar="N", type=int, help="the maps of a fixed image; N from 0")
    add(
        "--show",
        dest="view",
        choices=EXPORTED,
        default="maps",
        help="what is copied (default: maps)",
    )
    add_options(parser, FilmOptions, "cam_method")
    add("--overwrite", action="store_true", help="replace an existing file")
    add_quiet(parser)


def _export(options: argparse.Namespace) -> None:
    from replay.files.exporting import export
    from replay.recording import open_recording

    with open_recording(only(options)) as recording, progress_bar(options.quiet) as progress:
        check_frames(recording)
        result = export(
            recording,
            options.out,
            layer=options.layer,
            epochs=options.epochs,
            batches=options.batches,
            channels=options.channels,
            probe=options.probe,
            view=options.view,
            cam_method=options.cam_method,
            overwrite=options.overwrite,
            progress=progress,
        )
    for remark in result.remarks:
        warn(remark)
    if result.damaged:
        epoch, batch = result.damaged[0]
        damaged = format_count(len(result.damaged), "damaged frame")
        said = f"{damaged}, first epoch {epoch} batch {batch}"
        warn(f"{said}; not in the maps (NaN in an array)")
    sizes = "x".join(map(str, (result.frames, *result.shape)))
    print(f"{result.path}  {format_bytes(result.bytes)}, {sizes} {result.dtype}")
    if not options.quiet:
        offer_to_load(result.path, only(options))
