"""Work that is counted, not timed: what is read, copied and imported to do a thing once."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import drifting_maps, write_recording
from torch import nn

import replay
from record import Recorder
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.transport.frame_channel import FrameChannel
from record.writer import datasets
from record.writer.recording_file import RecordingFile
from replay.encoding import pixel_formats
from replay.film.film import Film
from replay.options import FilmOptions
from replay.raster import widgets
from replay.recording import safe_file
from replay.schema import FORMAT, VERSION, Layer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> collections.Counter[tuple[object, ...]]:
    """How often each frame of each dataset was read."""
    found: collections.Counter[tuple[object, ...]] = collections.Counter()
    read = safe_file.SafeFile.read_stored

    def counted(self: safe_file.SafeFile, path: str, epoch: int, batch: int) -> Any:
        found[path, epoch, batch] += 1
        return read(self, path, epoch, batch)

    monkeypatch.setattr(safe_file.SafeFile, "read_stored", counted)
    return found


def test_an_animation_reads_what_it_shows_and_a_bounded_sample(
    tmp_path: Path, reads: collections.Counter[tuple[object, ...]]
) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": drifting_maps(2, 8, 8), "other": drifting_maps(2, 8, 8)},
        epochs=20,
        batches=10,
    )
    reads.clear()
    replay.animate(path, tmp_path / "out.gif", epochs=slice(0, 8), jobs=1, scale="run", max_mb=None)
    maps = {key: times for key, times in reads.items() if key[0] == "maps/conv"}
    assert set(maps) == {("maps/conv", epoch, batch) for epoch in range(8) for batch in range(10)}
    assert max(maps.values()) == 2  # once to be shown; some once more, for the scale
    assert sum(maps.values()) - len(maps) <= 48
    assert not [key for key in reads if "other" in str(key[0])]
    assert sum(times for key, times in reads.items() if key[0] == "inputs") <= 80


def test_ranges_of_their_own_read_nothing_more(
    tmp_path: Path, reads: collections.Counter[tuple[object, ...]]
) -> None:
    """Of a fixed image a frame is read for those before it and kept; once more for words in alt."""
    maps = drifting_maps(2, 8, 8)
    image = np.zeros((3, 8, 8), np.float16)
    path = write_recording(
        tmp_path / "run.h5", {"conv": maps}, batches=30, probes=[(image, {"conv": maps})]
    )
    reads.clear()
    replay.animate(path, tmp_path / "out.gif", jobs=1, max_mb=None)
    assert max(times for key, times in reads.items() if key[0] == "maps/conv") == 1
    reads.clear()
    replay.animate(path, tmp_path / "fixed.gif", jobs=1, max_mb=None, probe=0)
    of_maps = {key: times for key, times in reads.items() if "maps/conv" in str(key[0])}
    assert max(of_maps.values()) <= 3
    again = sum(of_maps.values()) - len(of_maps)
    assert again <= 8 < len(of_maps)  # the first ones, before frames follow each other


def test_a_frame_is_one_read_and_info_reads_none(
    tmp_path: Path, reads: collections.Counter[tuple[object, ...]]
) -> None:
    from replay.recording.info import describe

    path = write_recording(tmp_path / "run.h5", {"conv": drifting_maps(2, 8, 8)})
    with replay.open(path) as run:
        describe(run)
        assert not reads
        run["conv"][1, 2]
        assert reads == {("maps/conv", 1, 2): 1}


def test_a_fixed_scale_reads_each_frame_once(
    tmp_path: Path, reads: collections.Counter[tuple[object, ...]]
) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv": drifting_maps(2, 8, 8)}, epochs=2)
    replay.animate(path, tmp_path / "out.gif", clip=(-1, 1), jobs=1)
    assert set(reads.values()) == {1}


def test_of_a_frame_only_what_changed_is_converted(tmp_path: Path) -> None:
    """Of a usual frame: the tiles, the numbers that move, the curve's present. No paper."""
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": drifting_maps(6, 16, 16)},
        fields={"loss": lambda e, b: 1 / (1 + 4 * e + b)},
    )
    with replay.open(path) as run:
        film = Film(run, FilmOptions(layers=["conv"], zoom=4))
        mosaic = film.panels[0].mosaic
        tiles = mosaic.width * mosaic.rows * mosaic.tile[0]
        first, *rest = (frame.changed for frame in film.frames())
    assert first is None
    for boxes in rest:
        assert boxes is not None
        pixels = sum((bottom - top) * (right - left) for top, left, bottom, right in boxes)
        assert tiles < pixels < tiles + 0.03 * film.size[0] * film.size[1]


def test_what_a_frame_costs_does_not_grow_with_its_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tiles are painted by one assignment, and a text that stays is not written again."""
    calls: collections.Counter[str] = collections.Counter()

    def count(home: Any, name: str) -> None:
        function = getattr(home, name)

        def counted(*args: Any, **more: Any) -> Any:
            calls[name] += 1
            return function(*args, **more)

        monkeypatch.setattr(home, name, counted)

    count(np.lib.stride_tricks, "as_strided")
    count(widgets, "cover")
    count(np, "percentile")
    path = write_recording(tmp_path / "run.h5", {"conv": drifting_maps(64, 9, 9)}, epochs=1)
    with replay.open(path) as run:
        film = Film(run, FilmOptions(layers=["conv"], columns=16))
        frames = film.frames()
        next(frames)
        calls.clear()
        assert sum(1 for _ in frames) == 3
    assert calls == {"as_strided": 3, "cover": 6}  # the numbers of batch and loss, no more


def test_the_colours_of_a_fixed_image_are_chosen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    choose = pixel_formats.quantize
    monkeypatch.setattr(
        pixel_formats, "quantize", lambda *args: (chosen.append(1), choose(*args))[1]
    )
    image = np.random.default_rng(0).uniform(0, 1, (3, 8, 8)).astype("f2")
    maps = {"conv": drifting_maps(2, 8, 8)}
    path = write_recording(tmp_path / "run.h5", maps, probes=[(image, maps)])
    replay.animate(path, tmp_path / "out.gif", probe=0)
    assert len(chosen) == 1
    replay.animate(path, tmp_path / "out.gif")
    assert len(chosen) == 1 + 8


def test_a_gif_needs_no_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames are compressed side by side in this one; no film is so long that more pay."""
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **more: started.append(args))
    path = write_recording(
        tmp_path / "run.h5", {"conv": drifting_maps(2, 8, 8)}, epochs=3, batches=150, image=None
    )
    replay.animate(path, tmp_path / "out.gif", captions=False, zoom=1)
    assert not started


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3)
        self.two = nn.Conv2d(4, 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.relu(self.one(x))).mean()


def test_a_recorded_batch_is_copied_part_by_part_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two maps, two stacks of kernels, one image: five copies, none of them of more than that."""
    copies: list[int] = []
    buffers: list[int] = []
    copy = torch.Tensor.copy_
    take = FrameChannel.buffer

    def counted(self: torch.Tensor, source: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        if self.dtype == torch.float16:
            copies.append(self.numel())
        return copy(self, source, *args, **more)

    def taken(self: FrameChannel) -> Any:
        found = take(self)
        buffers.append(id(found))
        return found

    monkeypatch.setattr(torch.Tensor, "copy_", counted)
    monkeypatch.setattr(FrameChannel, "buffer", taken)
    model = Small()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for number, images in enumerate(recorder.track([torch.rand(4, 3, 10, 10)] * 12)):
            if number == 4:
                recorder.flush()
                copies.clear()
            model(images)
    parts = [4 * 8 * 8, 5 * 6 * 6, 4 * 3 * 9, 5 * 4 * 9, 3 * 10 * 10]
    assert sorted(copies) == sorted(parts * 8)
    assert len(set(buffers)) <= 12


def test_the_writer_touches_each_chunk_once_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = tuple(Layer(f"conv{n}", "Conv2d()", (8, 4, 4)) for n in range(6))
    attributes = {"format": FORMAT, "version": VERSION, "run_id": "0", "created": "", "meta": "{}"}
    file = RecordingFile(str(tmp_path / "run.h5"), False, attributes, durability="flush")
    layout = BatchLayout(((3, 8, 8),), layers)
    file.set_layout(layout, 50)
    calls: collections.Counter[str] = collections.Counter()
    for home in (datasets.ChunkWriter, datasets.RowWriter):
        function = home.write

        def counted(*args: Any, function: Any = function, name: str = home.__name__) -> Any:
            calls[name] += 1
            return function(*args)

        monkeypatch.setattr(home, "write", counted)
    frames = np.zeros((4, layout.size), np.float16)
    for first in range(0, 20, 4):
        headers = [messages.FrameHeader(0, n, n, 0.0, image=0) for n in range(first, first + 4)]
        file.write(headers, frames)
    assert calls == {"ChunkWriter": 20 * 7}
    file.commit()
    fields = {"recorded", "step", "time", "nan", "inf", "missing", "input_checksum"}
    assert fields < set(file.fields)  # of the others, which nobody logged, nothing is written
    # Fields and ranges with a checksum of each, and those of maps: once for all 20 frames.
    assert calls["RowWriter"] == 2 * len(fields) + 3 * 6
    file.close()


def imported(*words: str) -> set[str]:
    """Top-level modules that a command has imported when it ends."""
    code = (
        "import sys\n"
        f"sys.argv = {['replay', *words]!r}\n"
        "try:\n"
        f"    import {words[0]}.__main__ as command\n"
        f"    command.main({list(words[1:])!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "print('|'.join(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return set(done.stderr.strip().splitlines()[-1].split("|"))


HEAVY = {
    "torch",
    "torchvision",
    "matplotlib",
    "PIL",
    "imageio",
    "imageio_ffmpeg",
    "skimage",
    "tqdm",
}


def test_what_commands_import(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv": drifting_maps(2, 8, 8)})
    assert not imported("replay", "--help") & (HEAVY | {"h5py"})
    assert not imported("record", "--help") & (HEAVY | {"h5py"})
    info = imported("replay", "info", str(path))
    assert "h5py" in info
    assert not info & HEAVY
    export = imported("replay", "export", str(path), "-o", str(tmp_path / "maps.npy"), "--quiet")
    assert not export & (HEAVY - {"PIL", "tqdm"})


def calls_of_a_batch(folder: Path, images: torch.Tensor, **options: Any) -> dict[str, int]:
    """How often functions of each of the recorder's files are called for a batch, its steps all."""
    import record

    home = Path(record.__file__).parent
    found: collections.Counter[str] = collections.Counter()
    model = Small()

    def note(frame: Any, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and home in path.parents:
            found[str(path.relative_to(home))] += 1

    with Recorder(model, folder / "run.h5", quiet=True, **options) as recorder:
        for number in range(12):
            if number == 10:
                recorder.flush()
                sys.setprofile(note)
            model(images).backward()
            recorder.step()
            if number == 10:
                sys.setprofile(None)
    return dict(found)


def test_what_is_off_costs_a_batch_nothing(tmp_path: Path) -> None:
    images = torch.rand(4, 3, 10, 10)
    try:
        plain = calls_of_a_batch(tmp_path, images)
        (tmp_path / "more").mkdir()
        more = calls_of_a_batch(tmp_path / "more", images, gradients=True)
    finally:
        sys.setprofile(None)
    words = ("gradient", "backward", "attention", "probe", "image", "class", "activation", "pack")
    assert not [file for file in plain if any(word in Path(file).name for word in words)]
    assert sum(plain.values()) <= 70
    # Of a layer: it waits for its gradient, takes it, scales it, puts it into its slot, ends.
    assert sum(more.values()) - sum(plain.values()) <= 20 + 16 * 2


def test_several_fixed_images_are_copied_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy for each layer, however many images there are."""
    copies: list[tuple[int, ...]] = []
    copy = torch.Tensor.copy_

    def counted(self: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        if self.dtype == torch.float16 and not self.is_inference():
            copies.append(tuple(self.shape))
        return copy(self, *args, **more)

    monkeypatch.setattr(torch.Tensor, "copy_", counted)
    model, images = Small(), torch.rand(4, 3, 10, 10)
    with Recorder(model, tmp_path / "run.h5", probe=torch.rand(7, 3, 10, 10)) as recorder:
        for batch in recorder.track([images] * 6):
            copies.clear()
            model(batch)
    assert sorted(copies) == sorted(
        [(4, 8, 8), (5, 6, 6), (4, 3, 3, 3), (5, 4, 3, 3), (3, 10, 10), (7, 4, 8, 8), (7, 5, 6, 6)]
    )
    with replay.open(tmp_path / "run.h5") as run:
        assert run.probes == 7
