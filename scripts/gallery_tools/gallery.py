"""Trains the small network twice and two others, runs each command, and writes docs/gallery.md.

    python scripts/gallery_tools/gallery.py [PICTURE ...]

Where pictures are named (`probe.gif`), only those are made anew, after the trainings they need.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures" / "gallery"
TRAIN = "python -m record train --samples 320 --epochs 6 --seed 0 --probe 1 -o run.h5"
OTHER = "python -m record train --samples 320 --epochs 6 --lr 0.03 -o other.h5"
RESNET = (
    "python -m record train --model resnet18 --image-size 96 --layers layer2 layer3 layer4 --cam "
    "--probe classes --samples 320 --epochs 4 --every 2 -o resnet.h5"
)
VIT = (
    "python -m record train --model small_vit:Net --image-size 64 --layers blocks.layers.1 "
    "blocks.layers.2 blocks.layers.3 --attention --cam blocks.layers.2 --probe classes "
    "--samples 640 --batch-size 32 --epochs 6 --lr 0.001 --every 2 -o vit.h5"
)
TRAININGS = (TRAIN, OTHER, RESNET, VIT)

# (heading, what is said, command, picture)
ENTRIES = [
    (
        "An animation",
        "The maps of a layer, batch by batch, each on a range that is as steady as the image is; "
        "the blue bar beside a number tells how strong a channel is. A GIF plays in a README; the "
        "size is met by leaving frames out.",
        "python -m replay animate run.h5 -o animate.gif --channels 0:6 --columns 2 --max-mb 1.2",
        "animate.gif",
    ),
    (
        "A fixed image, over the run",
        "The same image in every frame: what changes is the network.",
        "python -m replay animate run.h5 -o probe.gif --layer conv2 --probe --channels 0:6 "
        "--columns 2 --zoom 4 --batches 4,9,14,19 --max-mb 1.5",
        "probe.gif",
    ),
    (
        "Before: one scale for the whole run",
        "The layer grows while it learns, so that on one scale its first maps are gray.",
        "python -m replay animate run.h5 -o before.webp --layer conv2 --scale run --channels 0:12 "
        "--epochs 0 --batches 5",
        "before.webp",
    ),
    (
        "After: each map on its own range",
        "The same frame on the scale that is the default: `--scale adaptive`.",
        "python -m replay animate run.h5 -o after.webp --layer conv2 --channels 0:12 --epochs 0 "
        "--batches 5",
        "after.webp",
    ),
    (
        "A fixed image, and what changed",
        "The fixed image shows the network's change alone. Kernels, difference and histogram "
        "stand beside the maps.",
        "python -m replay animate run.h5 -o with.webp --probe --channels 0:6 --epochs -1 "
        "--batches -1 --with kernels,difference,histogram",
        "with.webp",
    ),
    (
        "Similar channels side by side, in the dark",
        "",
        "python -m replay animate run.h5 -o similar.webp --layer conv2 --order similar "
        "--theme dark --cmap viridis --epochs -1 --batches -1",
        "similar.webp",
    ),
    (
        "Two runs",
        "Aligned by epoch and batch, with the difference between them.",
        "python -m replay compare run.h5 other.h5 -o compare.webp --difference --channels 0:6 "
        "--epochs -1 --batches -1",
        "compare.webp",
    ),
    (
        "A figure for print",
        "",
        "python -m replay grid run.h5 -o grid.png --epoch 0,-1 --channels 0:8 --kernels --dpi 130",
        "grid.png",
    ),
    (
        "A figure for a column of 3.3 inches",
        "Laid out for its width, with no type below 7 points; `--latex` prints what includes it.",
        "python -m replay grid run.h5 -o column.png --layer conv2 --width 3.3in",
        "column.png",
    ),
    (
        "A contact sheet, before",
        "The fixed image on one scale for the whole run.",
        "python -m replay sheet run.h5 -o sheet-run.png --layer conv2 --channels 0:8 --scale run "
        "--dpi 130",
        "sheet-run.png",
    ),
    (
        "A contact sheet",
        "Epochs down, channels across: development in one figure. Below each map its strength.",
        "python -m replay sheet run.h5 -o sheet.png --layer conv2 --channels 0:8 --dpi 130",
        "sheet.png",
    ),
    (
        "What it looks at: attention",
        "Each head of the last layer of a small vision transformer over an image of each class, "
        "while it learns them.",
        "python -m replay animate vit.h5 -o attention.webp --show attention --grid-of-probes "
        "--max-mb 0.95",
        "attention.webp",
    ),
    (
        "What it looks at: class activation",
        "Grad-CAM of the same network, of the class that each image has.",
        "python -m replay animate vit.h5 -o cam.webp --show cam --grid-of-probes --max-mb 0.95",
        "cam.webp",
    ),
    (
        "What it tells apart",
        "The channels of three layers of a ResNet-18 as colours, which mean the same in every "
        "frame.",
        "python -m replay animate resnet.h5 -o components.webp --show components --layer layer2 "
        "--layer layer3 --layer layer4 --grid-of-probes --epochs -1 --batches -1",
        "components.webp",
    ),
    (
        "Health",
        "Channels that are dead, stuck or alike and what to do about them; how fast each layer "
        "changes.",
        "python -m replay health run.h5 -o health.png",
        "health.png",
    ),
    (
        "A page",
        "One file to scrub, play and explore; this is a picture of it.",
        "python -m replay page run.h5 -o report.html --max-mb 3",
        "page.png",
    ),
]


def run(command: str, folder: Path) -> None:
    words = shlex.split(command)
    words[0] = sys.executable
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    subprocess.run(
        words, cwd=folder, check=True, env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def photograph(page: Path, picture: Path) -> bool:
    """A screenshot by Chromium, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        print("page.png stays as it is: there is no Chromium", file=sys.stderr)
        return False
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--window-size=1200,900", "--virtual-time-budget=6000", f"--screenshot={picture}",
            page.as_uri(),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return True


def main(named: Sequence[str]) -> None:
    pictures = [picture for *_, picture in ENTRIES]
    if unknown := [name for name in named if name not in pictures]:
        raise SystemExit(f"no picture {unknown[0]!r} in the gallery: {', '.join(pictures)}")
    wanted = [entry for entry in ENTRIES if not named or entry[-1] in named]
    PICTURES.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Gallery",
        "",
        "`scripts/gallery` makes all of it anew. The recordings are those of",
        "",
        "```\n" + "\n".join(TRAININGS) + "\n```",
        "",
        "`small_vit` is in `scripts/gallery_tools`.",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command in TRAININGS:
            recording = shlex.split(command)[-1]
            if any(recording in shlex.split(entry[2]) for entry in wanted):
                run(command, folder)
        for _, _, command, picture in wanted:
            run(command, folder)
            if picture == "page.png":
                photograph(folder / "report.html", PICTURES / picture)
            else:
                shutil.copyfile(folder / picture, PICTURES / picture)
            print(f"{picture:14} {(PICTURES / picture).stat().st_size:>9,} bytes", flush=True)
    for heading, said, command, picture in ENTRIES:
        lines += ["", f"## {heading}", ""]
        lines += [said, ""] if said else []
        lines += [f"```\n{command}\n```", "", f"![{heading}](pictures/gallery/{picture})"]
    (ROOT / "docs" / "gallery.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
