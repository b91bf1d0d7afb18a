"""What every sink must do, as tests that a class for each format inherits.

A class `TestX(SinkContract)` names a format, and says how its files are read back and how its
encoder can be made to fail.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.encoding.formats import FORMATS, join
from replay.output import EncodeOptions, Format, LimitError, Target, encode, size_of
from replay.raster.frame import Frame, Overlay
from replay.raster.palette import Palette
from replay.schema import EncodeError

SIZE = (64, 96)
BOXES = [(3, 5, 20, 40), (10, 0, 11, 96), (60, 90, 64, 96), (0, 0, 1, 1)]


def format_named(name: str) -> Format[Any]:
    """Returns a format of the registry."""
    return next(format for format in FORMATS if format.name == name)


def frames(count: int, size: tuple[int, int] = SIZE, start: int = 0) -> Iterator[Frame]:
    """Yields frames that differ in a box, some with a picture, the first of which is whole."""
    rng = np.random.default_rng(2)
    plane = rng.integers(0, 168, size, dtype=np.uint8)
    for number in range(count):
        top, left, bottom, right = box = (
            BOXES[number % len(BOXES)] if size == SIZE else (0, 0, 4, 4)
        )
        plane[top:bottom, left:right] = rng.integers(0, 168, (bottom - top, right - left))
        picture = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        shown = (Overlay(picture, 30, 50, 2),) if number % 3 == 1 and size == SIZE else ()
        if number >= start:
            yield Frame(plane, shown, (box,) if number > start else None)


def rgb_of(frame: Frame, palette: Palette) -> np.ndarray:
    """Returns the colours of a frame, uint8 (H, W, 3)."""
    image = palette.table[frame.plane]
    for picture in frame.pictures:
        large = picture.pixels.repeat(picture.zoom, 0).repeat(picture.zoom, 1)
        height, width = large.shape[:2]
        image[picture.top : picture.top + height, picture.left : picture.left + width] = large
    return image


def read_images(path: Path) -> list[np.ndarray]:
    """Returns the frames of an animated image, as Pillow sees them, uint8 (H, W, 3)."""
    with Image.open(path) as image:
        return [np.array((image.seek(n), image.convert("RGB"))[1]) for n in range(image.n_frames)]


def read_video(path: Path, pixel_format: str = "rgb24", more: Sequence[str] = ()) -> bytes:
    """Returns the frames of a video, one after the other; `more` are arguments of ffmpeg's."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), *more]
    command += ["-f", "rawvideo"]
    command += ["-fps_mode", "passthrough", "-pix_fmt", pixel_format, "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert not done.stderr, done.stderr
    return done.stdout


def put_broken_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes an ffmpeg the one to be used that takes some frames and then fails."""
    program = folder / "ffmpeg"
    program.write_text("#!/bin/sh\nhead -c 100 >/dev/null\necho no space left >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))


class SinkContract:
    """Tests of what all sinks have in common.

    Attributes:
        format: The format whose sink it is.
        options: Options with which it is exact, where it can be.
        most_off: The most by which a value of what `read` gives may be wrong.
    """

    format: ClassVar[Format[Any]]
    options: ClassVar[EncodeOptions] = EncodeOptions(10.0)
    most_off: ClassVar[int] = 0

    def read(self, path: Path) -> list[np.ndarray]:
        """Returns what players see of each frame, in a form that is exact."""
        return read_images(path)

    def read_shapes(self, path: Path) -> list[tuple[int, ...]]:
        """Returns the (height, width) that players see of each frame."""
        return [image.shape[:2] for image in self.read(path)]

    def times(self, path: Path) -> object:
        """Returns what tells when each frame is shown, in a form that is exact."""
        return path.read_bytes()

    def exact(self, source: Iterator[Frame]) -> list[np.ndarray]:
        """Returns what `read` must give for such frames."""
        palette = self.palette()
        return [rgb_of(frame, palette) for frame in source]

    def break_encoder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Has the encoder fail from now on; files for that may be put into the folder."""
        put_broken_ffmpeg(folder, monkeypatch)

    def compare(self, found: list[np.ndarray], right: list[np.ndarray]) -> None:
        """Makes sure that frames are those that they must be."""
        assert len(found) == len(right)
        for image, exact in zip(found, right, strict=True):
            if not self.most_off:
                np.testing.assert_array_equal(image, exact)
            assert np.abs(image.astype(int) - exact).max() <= self.most_off

    def palette(self) -> Palette:
        return Palette("magma", self.format.levels)

    def target(self, folder: Path, name: str = "run") -> Target:
        suffix = "" if self.format.is_folder else self.format.suffixes[0]
        return Target(folder / f"{name}{suffix}", self.format)

    def write(
        self,
        target: Target,
        source: Iterator[Frame],
        *,
        size: tuple[int, int] = SIZE,
        limit: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        options = replace(self.options, limit=limit)
        return encode(source, target, self.palette(), size, options, progress)

    def put_precious(self, target: Target) -> Callable[[], None]:
        """Puts something where the target goes; what comes back checks that it is still there."""
        if self.format.is_folder:
            target.path.mkdir()
        else:
            target.path.write_bytes(b"precious")

        def check() -> None:
            assert os.listdir(target.path.parent) == [target.path.name]
            if self.format.is_folder:
                assert not os.listdir(target.path)
            else:
                assert target.path.read_bytes() == b"precious"

        return check

    @pytest.mark.parametrize("count", [1, 2, 40])
    def test_every_frame_arrives_exact_and_is_told(self, tmp_path: Path, count: int) -> None:
        told: list[int] = []
        target = self.target(tmp_path)
        assert self.write(target, frames(count), progress=told.append) == count
        assert told == list(range(1, count + 1))
        assert os.listdir(tmp_path) == [target.path.name]
        found, right = self.read(target.path), self.exact(frames(count))
        assert len(found) == count
        self.compare(found, right)

    def test_a_thousand_tiny_frames_are_a_thousand(self, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        assert self.write(target, frames(1000, (16, 16)), size=(16, 16)) == 1000
        found, right = self.read(target.path), self.exact(frames(1000, (16, 16)))
        assert len(found) == 1000
        self.compare(found, right)

    @pytest.mark.parametrize("cuts", [[0, 7, 12], [0, 2, 4], [0]])
    def test_joined_parts_are_the_one_piece(self, tmp_path: Path, cuts: list[int]) -> None:
        parts = []
        for number, (start, stop) in enumerate(zip(cuts, [*cuts[1:], 14], strict=True)):
            part = self.target(tmp_path, f"part{number}")
            assert self.write(part, frames(stop, start=start)) == stop - start
            parts.append(part.path)
        joined = self.target(tmp_path, "joined").path
        if self.format.is_folder:
            joined.mkdir()
        join(parts, joined, self.format)
        self.compare(self.read(joined), self.exact(frames(14)))

    @pytest.mark.parametrize("fps", [4, 20])
    def test_another_frame_rate_is_as_if_it_had_been_so_from_the_beginning(
        self, tmp_path: Path, fps: int
    ) -> None:
        if self.format.is_folder:
            assert self.format.retime is None  # its files know nothing of time
            return
        asked = [self.target(tmp_path, name) for name in ("asked", "chosen")]
        for target, rate in zip(asked, (fps, 10), strict=True):
            options = replace(self.options, fps=rate)
            encode(frames(9), target, self.palette(), SIZE, options, final_fps=lambda: fps)
        assert self.times(asked[1].path) == self.times(asked[0].path)
        self.compare(self.read(asked[1].path), self.exact(frames(9)))

    def test_one_part_of_one_frame_is_joined(self, tmp_path: Path) -> None:
        part, joined = self.target(tmp_path, "part"), self.target(tmp_path, "joined").path
        self.write(part, frames(1))
        if self.format.is_folder:
            joined.mkdir()
        join([part.path], joined, self.format)
        self.compare(self.read(joined), self.exact(frames(1)))

    def test_a_part_that_is_cut_off_is_refused(self, tmp_path: Path) -> None:
        if self.format.is_folder:
            return  # it is joined by moving its files, of which none is read
        part = self.target(tmp_path).path
        self.write(Target(part, self.format), frames(3))
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
        with pytest.raises(EncodeError, match="join"):
            join([part, part], self.target(tmp_path, "joined").path, self.format)

    def test_odd_sizes_are_padded(self, tmp_path: Path) -> None:
        maps = {"conv": drifting_maps(1, 15, 17)}
        run = write_recording(tmp_path / "run.h5", maps, epochs=1, batches=3, image=None)
        suffix = self.format.suffixes[0]
        made = replay.animate(run, f"{tmp_path}/out{suffix}", zoom=3, captions=False)
        assert made.frames == 3
        margin = 24
        assert (made.width, made.height) == (17 * 3 + margin + 1, 15 * 3 + margin + 1)
        assert self.read_shapes(made.path) == 3 * [(made.height, made.width)]

    def test_what_is_too_large_is_refused_and_leaves_the_target(self, tmp_path: Path) -> None:
        (tmp_path / "free").mkdir()
        free = self.target(tmp_path / "free")
        self.write(free, frames(40))
        size = size_of(free.path)
        self.write(self.target(tmp_path / "free", "again"), frames(40), limit=size)

        (tmp_path / "full").mkdir()
        target = self.target(tmp_path / "full")
        check = self.put_precious(target)
        for limit in (size - 1, size // 2, 1):
            with pytest.raises(LimitError, match=f"expected at most {limit:,}") as error:
                self.write(target, frames(40), limit=limit)
            assert error.value.bytes > limit or (error.value.bytes, limit) == (size - 1, size - 1)
            assert 1 <= error.value.frames <= 40
            check()

    def test_an_encoder_that_fails_leaves_the_target(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "out").mkdir()
        target = self.target(tmp_path / "out")
        check = self.put_precious(target)
        self.break_encoder(tmp_path / "bin", monkeypatch)
        with pytest.raises(EncodeError):
            self.write(target, frames(40))
        check()

    @pytest.mark.parametrize("error", [KeyboardInterrupt, EncodeError])
    def test_frames_that_fail_leave_the_target(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        def interrupted() -> Iterator[Frame]:
            yield from frames(20)
            raise error("enough")

        target = self.target(tmp_path)
        check = self.put_precious(target)
        with pytest.raises(error, match="enough"):
            self.write(target, interrupted())
        check()
