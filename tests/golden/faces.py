"""The public faces, called so that what comes back is the same on each day and in each folder."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import re
import runpy
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import numpy as np
from PIL import Image

from replay.schema import faces

ROOT = Path(__file__).resolve().parents[2]
Document = dict[str, Any]

_SURROUNDINGS = {
    "COLUMNS": "100",
    "LINES": "40",
    "NO_COLOR": "1",
    "MPLBACKEND": "Agg",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONPATH": str(ROOT),
    "TZ": "UTC",
}
_SIZE = r"\d[\d.,]* (?:bytes|kB|MB|GB)"


class Seen:
    """The pictures that a case has made, by the SHA-256 of their pixels."""

    def __init__(self) -> None:
        self.pictures: dict[str, np.ndarray] = {}

    def add(self, picture: np.ndarray) -> str:
        """Keeps a picture, (H, W) or (H, W, channels), and returns its SHA-256, shape included."""
        digest = sha256(picture)
        self.pictures[digest] = picture
        return digest

    def image(self, image: Image.Image) -> str:
        """The same of an image that Pillow has opened, whatever its palette's order is."""
        return self.add(np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB")))


def sha256(data: np.ndarray | bytes | str) -> str:
    """Of an array: with its dtype and shape."""
    if isinstance(data, str):
        data = data.encode()
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    array = np.ascontiguousarray(data)
    about = f"{array.dtype.str} {array.shape}\n".encode()
    return hashlib.sha256(about + array.tobytes()).hexdigest()


@contextlib.contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """Works in that folder, with the environment that the results were frozen in."""
    before, was = dict(os.environ), Path.cwd()
    os.environ.update(_SURROUNDINGS)
    for name in ("FORCE_COLOR", "PYTHON_COLORS"):
        os.environ.pop(name, None)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(was)
        os.environ.clear()
        os.environ.update(before)


def command(*words: str) -> Document:
    """Runs `python -m package ...` in this process: what it says, and its exit code."""
    package, *arguments = words
    entry = f"{package}.__main__"
    loaded, argv = sys.modules.pop(entry, None), sys.argv
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    sys.argv = [package, *arguments]
    code: Any = 0
    own_process, faces.own_process = faces.own_process, lambda: None  # this one is pytest's
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            runpy.run_module(package, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    finally:
        faces.own_process = own_process
        sys.argv = argv
        if loaded is not None:
            sys.modules[entry] = loaded
    out, err = (_text(stream) for stream in streams)
    return {"code": code or 0, "stdout": lines(out), "stderr": lines(err)}


def command_apart(*words: str) -> Document:
    """The same in a process of its own, for what changes the process that it runs in."""
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, encoding="utf-8", check=False
    )
    return {"code": done.returncode, "stdout": lines(done.stdout), "stderr": lines(done.stderr)}


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def lines(text: str) -> list[str]:
    """Text without what differs from day to day: how long it took, and sizes of written files."""
    text = text.replace(str(Path.cwd()), "FOLDER")
    text = re.sub(rf"^((?:note: )?\S+  ){_SIZE}(?=$|,)", r"\1SIZE", text, flags=re.MULTILINE)
    text = re.sub(r"[^\s'\"]*python[\d.]*(?= -[mc] )", "python", text)  # as it was called
    return re.sub(r"\b\d+\.\d s\b", "TIME s", text).split("\n")


def error_in_words(error: Exception) -> Document:
    """An error as a user meets it."""
    return {"kind": type(error).__name__, "said": lines(str(error))}


def pictures(path: Path, seen: Seen) -> Document:
    """Every frame of an animation, of a figure or of a folder of numbered pictures."""
    if path.is_dir():
        files = sorted(path.iterdir())
        frames = []
        for file in files:
            with Image.open(file) as image:
                frames.append(seen.image(image))
        return {"names": [files[0].name, files[-1].name], "sha256": frames}
    with Image.open(path) as image:
        frames, times = [], []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(seen.image(image))
            times.append(image.info.get("duration"))
        return {"sha256": frames, "milliseconds": times, "loop": image.info.get("loop")}


def video(path: Path) -> np.ndarray:
    """The frames of an MP4, uint8 (frames, H, W, 3)."""
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)]
    words += ["-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-"]
    stream = subprocess.run(words, capture_output=True, check=True).stdout
    header = re.match(rb"P6\n(\d+) (\d+)\n255\n", stream)
    assert header is not None
    width, height = int(header[1]), int(header[2])
    frames = np.frombuffer(stream, "u1").reshape(-1, header.end() + height * width * 3)
    return frames[:, header.end() :].reshape(-1, height, width, 3)


def html(text: str, seen: Seen) -> Document:
    """A page: its text, and apart from it what is compressed in it, since zlib may differ."""
    blocks: dict[str, str] = {}

    def block(found: re.Match[str]) -> str:
        data = base64.b64decode(found[2])
        with contextlib.suppress(zlib.error):
            data = zlib.decompress(data)
        blocks[found[1]] = sha256(data)
        return f'id="{found[1]}">BLOCK'

    def image(found: re.Match[str]) -> str:
        data = base64.b64decode(found[1])
        with Image.open(io.BytesIO(data)) as opened:
            return f"src='IMAGE {seen.image(opened)}'"

    text = re.sub(r'id="([^"]*)">([A-Za-z0-9+/]+=*)(?=</script>)', block, text)
    text = re.sub(r"src='data:image/[a-z]+;base64,([^']*)'", image, text)
    text = re.sub(r"src='data:video/mp4;base64,[^']*'", "src='VIDEO'", text)
    text = re.sub(_SIZE, "SIZE", text) if len(text) < 20_000 else text
    manifest = re.search(r'id="manifest">(.*?)</script>', text, re.DOTALL)
    document: Document = {"text": sha256(text)} if len(text) > 20_000 else {"html": text}
    if manifest is not None:
        document["manifest"] = sha256(manifest[1])
        document["blocks"] = blocks
    return document


def arrays(path: Path) -> Document:
    """What numpy reads from an archive, a file or a folder of files."""
    if path.is_dir():
        return {file.name: _array(np.load(file)) for file in sorted(path.iterdir())}
    found = np.load(path)
    if isinstance(found, np.ndarray):
        return {"": _array(found)}
    with found:
        return {name: _array(found[name]) for name in found.files}


def _array(array: np.ndarray) -> str:
    return f"{array.dtype.str} {array.shape} {sha256(array)}"


def hdf5(path: Path, volatile: Sequence[str] = ()) -> Document:
    """Every object of a recording: its attributes, its form, and the SHA-256 of its data.

    Args:
        path: The recording.
        volatile: Names of datasets and attributes whose contents differ from run to run.
    """
    found: Document = {}

    def attributes(node: h5py.Group | h5py.Dataset) -> Document:
        return {
            name: type(value).__name__ if name in volatile else np.asarray(value).tolist()
            for name, value in sorted(node.attrs.items())
        }

    def visit(name: str, node: h5py.Group | h5py.Dataset) -> None:
        about: Document = {"attrs": attributes(node)} if node.attrs else {}
        if isinstance(node, h5py.Dataset):
            form = f"{node.dtype.str} {node.shape} of {node.maxshape} by {node.chunks}"
            about["form"] = f"{form}, fill {node.fillvalue}"
            about["sha256"] = "volatile" if name in volatile else sha256(node[()])
        found[name] = about

    with h5py.File(path, "r") as file:
        found["/"] = {"attrs": attributes(file)}
        file.visititems(visit)
    return found
