"""A new format is one file and one line: this is such a file, of which `PPM` is the line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording
from sink_contract import SinkContract, read_images

import replay
from replay.__main__ import main
from replay.encoding import formats
from replay.encoding.pixel_formats import Bytes, as_colours
from replay.output import EncodeOptions, Format, Output
from replay.raster.palette import Palette
from replay.schema import EncodeError, OutputError


class PpmSink:
    """Takes colours of 32 bits; writes binary portable pixmaps one after the other."""

    def begin(
        self, output: Output, palette: Palette, size: tuple[int, int], options: EncodeOptions
    ) -> None:
        self._file = output.resources.enter_context(output.path.open("wb"))
        self._header = b"P6\n%d %d\n255\n" % size[::-1]

    def write(self, pixels: list[Bytes]) -> None:
        self._file.write(self._header + pixels[0][..., 2::-1].tobytes())

    def finish(self) -> None:
        pass


def join_ppm(parts: Sequence[Path], path: Path) -> None:
    for part in parts:
        read_ppm(part)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


PPM = Format("ppm", (".ppm",), PpmSink, as_colours, join_ppm)


def read_ppm(path: Path) -> list[np.ndarray]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        _, size, _ = data[at:].split(b"\n", 3)[:3]
        width, height = map(int, size.split())
        at += len(b"P6\n%d %d\n255\n" % (width, height))
        pixels = np.frombuffer(data[at : at + width * height * 3], np.uint8)
        if len(pixels) < width * height * 3:
            raise IndexError
        found.append(pixels.reshape(height, width, 3))
        at += width * height * 3
    return found


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, PPM))


@pytest.mark.usefixtures("registered")
class TestPpm(SinkContract):
    format = PPM

    def read(self, path: Path) -> list[np.ndarray]:
        return read_ppm(path)

    def break_encoder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: PpmSink, pixels: list[Bytes]) -> None:
            raise EncodeError("broken")

        monkeypatch.setattr(PpmSink, "write", fail)


@pytest.mark.usefixtures("registered")
def test_a_registered_format_is_animated_like_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_recording(tmp_path / "run.h5", {"conv": drifting_maps(3, 12, 12)})
    made = replay.animate(run, tmp_path / "one.ppm", zoom=2)
    right = replay.animate(run, f"{tmp_path}/frames/", zoom=2)
    assert made.frames == right.frames == 8
    images = read_ppm(made.path)
    assert [image.shape for image in images] == 8 * [(made.height, made.width, 3)]
    for image, picture in zip(images, sorted(right.path.iterdir()), strict=True):
        np.testing.assert_array_equal(image, read_images(picture)[0])
    assert main(["animate", str(run), "-o", str(tmp_path / "two.ppm"), "--zoom", "2"]) == 0
    assert (tmp_path / "two.ppm").read_bytes() == made.path.read_bytes()
    with pytest.raises(OutputError, match=r"\.apng, \.ppm, or a folder"):
        replay.animate(run, tmp_path / "run.avi")
