"""A value of another kind is said in one line, whatever function and option it is given to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.schema import FileError, OptionError, OutputError, RecordingError

FACES: dict[str, Callable[..., Any]] = {
    name: getattr(replay, name)
    for name in ("animate", "compare", "grid", "sheet", "page", "export", "draw")
}
# What is no option, or has no kind of its own.
OTHERS = {"a", "ax", "b", "executor", "out", "progress", "quality", "recording"}
ODD: list[Any] = [
    1.5,
    b"x",
    {},
    object(),
    slice("a"),
    Path("x"),
    np.array([1.0, 2.0]),
    (float("inf"), None),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    return write_recording(folder / "run.h5", {"conv1": drifting_maps(3, 8, 8)}, epochs=1)


def options_of(face: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(face).parameters if name not in OTHERS]


@pytest.mark.parametrize("name", FACES)
def test_odd_values_end_in_one_line(path: Path, tmp_path: Path, name: str) -> None:
    face = FACES[name]
    recordings = [path] * (2 if name == "compare" else 1)
    out = {"page": "a.html", "export": "a.npy", "draw": None}.get(name, "a.png")
    outs = [] if out is None else [tmp_path / out]
    for option in options_of(face):
        for value in ODD:
            if option in ("fps", "max_mb", "width") and value is ODD[0]:
                continue
            if option == "clip" and isinstance(value, np.ndarray):
                continue  # two numbers
            if option == "slices" and isinstance(value, (np.ndarray, tuple)):
                continue  # of which each is looked at where a layer is a volume
            with pytest.raises(RecordingError) as told:
                face(*recordings, *outs, **{option: value})
            assert isinstance(told.value, OptionError), option
            assert "\n" not in str(told.value)
            assert "expected" in str(told.value)
    assert not list(tmp_path.iterdir())


def test_what_is_no_option_is_of_a_kind_too(path: Path, tmp_path: Path) -> None:
    """Where a recording is expected, a path or a function: in every function that takes one."""
    out = tmp_path / "out"
    calls: dict[str, dict[str, Any]] = {
        "open": {"path": path},
        "health": {"recording": path},
        "draw_health": {"recording": path, "out": out.with_suffix(".png")},
        "verify": {"recording": path},
        "draw": {"recording": path},
        "animate": {"recording": path, "out": out.with_suffix(".gif")},
        "compare": {"a": path, "b": path, "out": out.with_suffix(".gif")},
        "grid": {"recording": path, "out": out.with_suffix(".png")},
        "sheet": {"recording": path, "out": out.with_suffix(".png")},
        "page": {"recording": path, "out": out.with_suffix(".html")},
        "export": {"recording": path, "out": out.with_suffix(".npy")},
        "repair": {"recording": path, "out": out.with_suffix(".h5")},
        "pack": {"recording": path, "out": out.with_suffix(".h5")},
        "unpack": {"recording": path, "out": out.with_suffix(".h5")},
        "fetch": {"address": "https://localhost/run.h5", "out": out.with_suffix(".h5")},
        "push": {"recording": path, "to": f"folder={out}"},
    }
    for name, usual in calls.items():
        face = getattr(replay, name)
        others = {"recording", "path", "address", "a", "b", "out", "progress", "sending", "ax"}
        for option in others & set(inspect.signature(face).parameters):
            for value in (3, 1.5, b"x", {}, object(), np.zeros(2), [None]):
                with pytest.raises(OptionError, match="^[a-z]+: expected ") as told:
                    face(**{**usual, option: value})
                assert "\n" not in str(told.value)
                assert ", found " in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_picture_of_health_is_no_progress(path: Path) -> None:
    expected = "progress: expected a function that is called with two numbers, found 'health.png'"
    with pytest.raises(OptionError, match=f"^{expected}$"):
        replay.health(path, "health.png")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": 0}, "layers: expected the name of a layer, or several, found 0"),
        ({"layers": ["conv1", 2]}, "layers: expected the name of a layer, or several, found"),
        ({"columns": 2.0}, "columns: expected a whole number, found 2.0"),
        ({"zoom": "2"}, "zoom: expected a whole number, found '2'"),
        ({"clip": 0.5}, r"clip: expected two numbers \(low, high\), found 0.5"),
        ({"epochs": 1.0}, "epochs: expected numbers: one, several, a slice, or a text"),
        ({"title": 3}, "title: expected a text, found 3"),
        ({"probe": "0"}, "probe: expected the number of a fixed image, found '0'"),
        ({"captions": None}, "captions: expected True or False, found None"),
        ({"symmetric": "no"}, "symmetric: expected True or False, found 'no'"),
        ({"max_mb": "10"}, "max_mb: expected a number, 'auto' or None, found '10'"),
        ({"show": 1}, "show: expected what is shown beside the maps, one word or several"),
        ({"query": 1.5, "view": "attention"}, "query: expected a token: its number"),
    ],
)
def test_what_is_likely_to_be_given_is_said(
    path: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=f"^{words}"):
        replay.animate(path, tmp_path / "a.gif", **options)


def test_numbers_and_texts_of_numpy_are_taken(path: Path, tmp_path: Path) -> None:
    replay.animate(
        path,
        tmp_path / "a.gif",
        layers=np.array(["conv1"]),
        channels=np.array([0, 2]),
        epochs=np.int64(0),
        batches=slice(np.int32(0), 2),
        clip=np.array([-1.0, 1.0]),
        cmap=np.str_("gray"),
        zoom=np.int64(2),
        fps=np.float32(5),
        symmetric=np.bool_(True),
        input=np.bool_(False),
        max_mb=np.float64(3),
    )
    replay.page(path, tmp_path / "a.html", symmetric=np.bool_(True), max_mb=np.int64(3))
    replay.grid(path, tmp_path / "a.png", dpi=np.int64(100), width=np.float32(3), columns=2)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "x" * 300])
def test_a_name_that_no_file_can_have_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    made = tmp_path / name
    for face, out in {
        "animate": f"{made}.mp4",
        "page": f"{made}.html",
        "grid": f"{made}.png",
        "sheet": f"{made}.pdf",
        "export": f"{made}.npz",
        "pack": f"{made}.h5",
        "repair": f"{made}.h5",
    }.items():
        with pytest.raises(OutputError, match="no file can be called ") as told:
            getattr(replay, face)(path, out)
        assert str(told.value).isprintable()
    for face in ("open", "verify", "health", "animate", "export"):
        outs = [tmp_path / "run.npz"] if face == "export" else []
        with pytest.raises(FileError, match="no file can be called ") as told:
            getattr(replay, face)(f"{made}.h5", *outs)
        assert str(told.value).isprintable()
    assert list(tmp_path.iterdir()) == []
