"""The command that takes a recording into experiment trackers: `push`."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from replay.cli.console import check_frames, progress_bar, say
from replay.cli.options import (
    NUMBERS,
    PICTURE_OPTIONS,
    Commands,
    add_options,
    add_quiet,
    arguments,
    only,
    reader,
)
from replay.option_values import whole_number
from replay.options import RenderRequest

_FILM_OPTIONS = (
    f"layers channels epochs batches {PICTURE_OPTIONS} view query show order fps zoom columns "
    "captions codec crf max_mb"
)

_PUSH_EXAMPLES = """
A run is begun in each tracker, online or offline as the tracker itself is told
to be (WANDB_MODE=offline), and gets, under names that begin with mapreel/:
  film      a video; a GIF for tensorboard and aim, which have none
  sheet     an image
  page      HTML; beside the event file for tensorboard, an artifact for aim
  scalars   loss, learning rate and whatever else was logged, by step
Steps are those of the recording: the batches trained before. --max-mb is the
film's. With --follow, all is pushed anew at the end of each epoch.

examples:
  python -m replay push run.h5 --to tensorboard=runs
  python -m replay push run.h5 --to wandb=my-project --layer conv1 --follow
  python -m replay push run.h5 --to mlflow=sqlite:///mlflow.db --only film,scalars
  python -m replay push run.h5 --to aim=. --to trackio=my-project
  python -m replay push run.h5 --to s3://bucket/run.h5    the recording itself
  python -m replay push run.h5 --to folder=out      the files, and scalars.csv
"""


def add_push(commands: Commands) -> None:
    """Adds `push`."""
    parser = commands.add(
        "push",
        _push,
        "push film, sheet, page and numbers into an experiment tracker",
        NUMBERS + _PUSH_EXAMPLES,
    )
    add = parser.add_argument
    add(
        "--to",
        metavar="TRACKER[=WHERE]",
        action="append",
        required=True,
        help="tensorboard=DIR, wandb[=PROJECT], mlflow[=URI], aim[=REPO], trackio=PROJECT, "
        "folder=DIR, or an address to copy the recording to; several times for several",
    )
    add("--only", metavar="LIST", help="of film, sheet, page and scalars (default: all)")
    add("--follow", action="store_true", help="at the end of each epoch, until the training ends")
    add("--gif", action="store_true", help="the film as a GIF, also where there is video")
    add_options(parser, RenderRequest, _FILM_OPTIONS)
    add(
        "--rows",
        metavar="N",
        type=reader(whole_number),
        default=8,
        help="of the sheet: epochs at most (default: 8)",
    )
    add_quiet(parser)


def _push(options: argparse.Namespace) -> None:
    from replay.cli.waiting import wait_for
    from replay.recording import open_recording
    from replay.trackers.pushing import push

    path = only(options)
    chosen = arguments(options, f"{_FILM_OPTIONS} rows")
    chosen["show"] = ",".join(options.show or [])
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar(options.quiet))
        sending = stack.enter_context(progress_bar(options.quiet, "B"))
        if options.follow:
            recording = stack.enter_context(wait_for(path, lambda: open_recording(path)))
        else:
            recording = stack.enter_context(open_recording(path))
            check_frames(recording)
        pushed = push(
            recording,
            options.to,
            only=options.only,
            follow=options.follow,
            gif=options.gif,
            progress=progress,
            sending=sending,
            **chosen,
        )
    for remark in pushed.remarks:
        say("note", remark)
    for to, where in zip(pushed.to, pushed.where, strict=True):
        print(f"{to}: {where}")
    print(f"pushed {pushed.in_words()}, {pushed.seconds:.1f} s")
