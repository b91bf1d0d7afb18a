"""The commands that look at a recording: `info`, `verify` and `health`."""

from __future__ import annotations

import argparse

from replay.console import Progress, check_frames, say, warn
from replay.options import THEMES, Commands, only
from replay.words import clean, count, in_bytes

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
              the probe image, else of the kernels, else of the ranges
It reads the ranges of all frames, and the maps of a bounded number. The
exit code is 0 whatever it finds.

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
    from replay import info
    from replay.recording import open_recording

    documents = []
    for path in options.recordings:
        with open_recording(path) as recording:
            documents.append(info.describe(recording))
            warn(info.trouble(recording))
    if options.json:
        print(info.to_json(documents if len(documents) > 1 else documents[0]))
    else:
        print("\n\n".join(info.as_text(document) for document in documents))


def add_verify(commands: Commands) -> None:
    """Adds `verify`."""
    parser = commands.add(
        "verify",
        _verify,
        "hold everything against its checksums; exit code 0 or 1",
        _VERIFY_EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _verify(options: argparse.Namespace) -> int:
    from replay.verification import verify

    documents = []
    for path in options.recordings:
        with Progress(options.quiet) as progress:
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
    add("--quiet", action="store_true", help="no progress bar")


def _health(options: argparse.Namespace) -> None:
    from pathlib import Path

    from replay.diagnosis import health
    from replay.recording import open_recording
    from replay.target import check_suffix

    path = only(options)
    if options.out is not None:
        check_suffix(Path(options.out), (".png", ".pdf", ".svg"))
    with open_recording(path) as recording, Progress(options.quiet, " layers") as progress:
        check_frames(recording)
        found = health(recording, progress)
    text = found.to_json() if options.json else found.to_csv() if options.csv else f"{found}\n"
    print(text, end="" if options.csv else "\n" if options.json else "")
    if options.out is not None:
        from replay.healthchart import draw_health

        drawn = draw_health(found, options.out, options.theme)
        say("note", f"{drawn}  {in_bytes(drawn.stat().st_size)}")
