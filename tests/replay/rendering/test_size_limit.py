"""`animate --max-mb`, `--preset`, `--alt` and `--poster`: real files, weighed and decoded."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay.rendering.size_limit
from replay.__main__ import main
from replay.encoding.formats import FORMATS
from replay.raster.palette import Palette
from replay.rendering.size_ladder import Setting, SizeSearch, quality_ladder
from replay.schema import OptionError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy maps in 36 frames: as hard to compress as those of a real network."""

    def noisy(epoch: int, batch: int) -> np.ndarray:
        noise = np.random.default_rng((epoch, batch)).standard_normal((8, 32, 32))
        return (drifting_maps(8, 32, 32)(epoch, batch) + 0.5 * noise).astype("f2")

    layers = {"conv1": noisy, "conv2": drifting_maps(6, 8, 8)}
    return write_recording(tmp_path_factory.mktemp("run") / "run.h5", layers, epochs=3, batches=12)


def decoded(made: replay.animation.Animation) -> np.ndarray:
    """The frames of a file, uint8 (frames, H, W, 3)."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", made.path, "-f", "rawvideo"]
    raw = subprocess.check_output([*command, "-pix_fmt", "rgb24", "-"])
    return np.frombuffer(raw, np.uint8).reshape(-1, made.height, made.width, 3)


@pytest.mark.parametrize(("name", "max_mb"), [("a.mp4", 0.2), ("a.gif", 0.6)])
def test_a_file_stays_below_its_size_and_shows_the_first_and_the_last_frame(
    run: Path, tmp_path: Path, name: str, max_mb: float
) -> None:
    made = replay.animate(run, tmp_path / name, max_mb=max_mb)
    size = made.path.stat().st_size
    assert max_mb * 0.25e6 < size == made.bytes <= max_mb * 1e6
    assert made.chosen in made.remarks
    assert made.chosen.endswith(f"to stay under {max_mb:g} MB")
    frames = decoded(made)
    assert len(frames) == made.frames
    # The progress line at the bottom: hardly begun in the first frame, through in the last.
    line = frames[:, -23, 24:-24].astype(int)
    blue = (line[..., 2] - line[..., 0] > 60).mean(axis=1)
    assert blue[0] < 0.05
    assert blue[-1] > 0.9
    assert (np.diff(blue) >= -0.01).all()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in 14 frames of a million pixels, of which a GIF makes more than 10 MB."""

    def noise(epoch: int, batch: int) -> np.ndarray:
        return np.random.default_rng((epoch, batch)).standard_normal((16, 128, 128)).astype("f2")

    folder = tmp_path_factory.mktemp("large")
    return write_recording(folder / "run.h5", {"conv1": noise}, epochs=2, batches=7)


def test_what_is_shared_has_a_limit_unless_another_is_asked_for(
    large: Path, tmp_path: Path
) -> None:
    made = replay.animate(large, tmp_path / "a.gif")
    assert made.path.stat().st_size == made.bytes <= 10e6
    assert made.chosen.endswith("to stay under 10 MB (max_mb=N or None sets another)")
    assert made.remarks == (made.chosen,)
    assert replay.animate(large, tmp_path / "b.gif", max_mb=9.0).bytes <= 9e6
    usual = {format.name: format.usual_mb for format in FORMATS}
    assert usual == {
        "gif": 10,
        "webp": 10,
        "apng": 10,
        "mp4": None,
        "webm": None,
        "mov": None,
        "folder": None,
    }


def test_what_is_exact_gives_up_colours_before_frames(large: Path, tmp_path: Path) -> None:
    for name, options in (("a.webp", {"quality": "exact"}), ("a.png", {})):
        out = tmp_path / name
        made = replay.animate(large, out, epochs=0, batches="0:2", max_mb=0.8, **options)
        assert made.bytes <= 800_000
        assert made.frames == 2
        assert "colours" in made.chosen


def test_a_webp_is_exact_where_it_fits_and_lossy_where_not(large: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"epochs": 0, "batches": "0:2"}
    free = replay.animate(large, tmp_path / "free.webp", **chosen)
    assert free.chosen == ""
    made = replay.animate(large, tmp_path / "a.webp", max_mb=0.8, **chosen)
    assert made.bytes <= 800_000
    assert (made.frames, made.width) == (2, free.width)
    assert re.fullmatch(r"quality \d\d, to stay under 0.8 MB", made.chosen)
    asked = replay.animate(large, tmp_path / "b.webp", quality=80, **chosen)
    assert asked.bytes < 0.8 * free.bytes
    assert asked.chosen == ""
    frames = replay.animate(large, f"{tmp_path}/frames/", **chosen)
    for number, picture in enumerate(sorted(frames.path.iterdir())):
        right = np.asarray(Image.open(picture).convert("RGB"), int)
        for other, most in ((free, 0.0), (asked, 4.0)):
            with Image.open(other.path) as image:
                image.seek(number)
                found = np.asarray(image.convert("RGB"), int)
            assert np.abs(found - right).mean() <= most


def test_a_quality_that_cannot_be_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for quality in (0, 101, "exakt", "high"):
        words = rf"^quality: expected 1 to 100, exact or auto, found '{quality}'"
        with pytest.raises(OptionError, match=words):
            replay.animate(run, tmp_path / "a.webp", quality=quality)
    with pytest.raises(OptionError, match=r"quality=80: expected a \.webp, found a\.mp4; .* crf"):
        replay.animate(run, tmp_path / "a.mp4", quality=80)
    words = ["animate", str(run), "-o", str(tmp_path / "a.gif"), "--quality", "exact"]
    assert main(words) == 2
    assert "--quality exact: expected a .webp, found a.gif" in capsys.readouterr().err
    assert main([*words[:4], "--quality", "exakt"]) == 2
    assert "did you mean 'exact'?" in capsys.readouterr().err
    with pytest.raises(OptionError, match="unknown codec of a .webm 'h264'; expected one of vp9"):
        replay.animate(run, tmp_path / "a.webm", codec="h264")
    assert not list(tmp_path.iterdir())


def test_nan_and_infinity_stay_apart_in_a_lossy_webp(tmp_path: Path) -> None:
    def broken(epoch: int, batch: int) -> np.ndarray:
        maps = drifting_maps(2, 12, 12)(epoch, batch).copy()
        maps[0, 2:5, 2:5], maps[1, 2:5, 2:5] = np.nan, np.inf
        return maps

    path = write_recording(tmp_path / "run.h5", {"conv": broken}, epochs=1, batches=2, image=None)
    options: dict[str, Any] = {"zoom": 4, "captions": False, "cmap": "magma"}
    exact = replay.animate(path, tmp_path / "a.webp", **options)
    lossy = replay.animate(path, tmp_path / "b.webp", quality=60, **options)
    right, found = (
        np.asarray(Image.open(made.path).convert("RGB"), int) for made in (exact, lossy)
    )
    palette = Palette("magma", 240).table.astype(int)
    for marker in (240, 241):
        where = (right == palette[marker]).all(-1)
        assert where.sum() == 9 * 16
        distances = np.abs(found[where][:, None] - palette[None, :242]).sum(-1)
        assert (distances.argmin(1) == marker).mean() > 0.7
        assert np.linalg.norm(np.median(found[where], axis=0) - palette[marker]) < 25


def test_the_limit_is_lifted_by_none_and_video_has_none(
    large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = replay.animate(large, tmp_path / "a.gif", max_mb=None)
    assert made.bytes > 10e6
    assert (made.frames, made.chosen) == (14, "")
    assert main(["animate", str(large), "-o", f"{tmp_path}/b.gif", "--max-mb", "none"]) == 0
    assert "MB" not in capsys.readouterr().err
    assert (tmp_path / "b.gif").read_bytes() == made.path.read_bytes()
    video = replay.animate(large, tmp_path / "a.mp4", crf=0)
    assert video.bytes > 10e6
    assert video.chosen == ""
    assert main(["animate", str(large), "-o", f"{tmp_path}/c.gif", "--max-mb", "all"]) == 2
    assert "expected a number above 0, or none, found 'all'" in capsys.readouterr().err
    with pytest.raises(OptionError, match="max_mb 'none': expected a number above 0"):
        replay.animate(large, tmp_path / "c.gif", max_mb="none")


def test_frames_are_left_out_before_maps_are_averaged_and_few_at_a_time() -> None:
    settings = quality_ladder(300, "gif", zoom=2)
    whole = [
        setting.frames for setting in settings if setting.share >= 0.5
    ]  # a pixel of a map is one, at least
    assert min(whole) <= 16
    for more, fewer in itertools.pairwise(whole):
        assert fewer >= 0.65 * more or more > 150


def test_what_was_asked_for_is_kept(run: Path, tmp_path: Path) -> None:
    made = replay.animate(run, tmp_path / "a.gif", max_mb=0.5, zoom=2, fps=10)
    free = replay.animate(run, tmp_path / "b.gif", zoom=2)
    assert (made.width, made.height) == (free.width, free.height)
    assert made.fps == 10
    assert made.frames < 36
    assert "zoom" not in made.chosen
    made = replay.animate(run, tmp_path / "c.mp4", max_mb=0.5, batches="::2", crf=20)
    assert made.frames == 18
    assert "crf" not in made.chosen
    assert "frame" not in made.chosen


def test_nothing_is_given_up_where_nothing_has_to_be(run: Path, tmp_path: Path) -> None:
    plain = replay.animate(run, tmp_path / "a.mp4", epochs=0, layers="conv2")
    made = replay.animate(run, tmp_path / "b.mp4", epochs=0, layers="conv2", max_mb=50)
    assert made.path.read_bytes() == plain.path.read_bytes()
    assert made.remarks == plain.remarks == ()


def test_what_cannot_fit_is_refused_and_replaces_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.gif"
    out.write_bytes(b"before")
    with pytest.raises(OptionError, match=r"max_mb 0.01: the smallest .* about 0\.\d+ MB .*allow"):
        replay.animate(run, out, max_mb=0.01, overwrite=True)
    words = ["animate", str(run), "-o", str(out), "--max-mb", "0.01", "--overwrite"]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(OptionError, match="max_mb -1: expected a number above 0"):
        replay.animate(run, out, max_mb=-1, overwrite=True)
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def test_a_wrong_estimate_is_made_good_without_ever_replacing_the_target(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.gif"
    out.write_bytes(b"before")
    honest = replay.rendering.size_limit.estimate_bytes
    monkeypatch.setattr(
        "replay.rendering.size_limit.estimate_bytes", lambda *given: 0.4 * honest(*given)
    )
    seen: list[tuple[int, bytes]] = []
    made = replay.animate(
        run,
        out,
        max_mb=0.6,
        overwrite=True,
        progress=lambda done, _: seen.append((done, out.read_bytes()[:6])),
    )
    assert made.bytes <= 600_000
    starts = [done for done, _ in seen].count(1)
    assert 2 <= starts <= 4
    assert {before for _, before in seen} == {b"before"}


def test_what_can_be_read_only_once_holds_for_all_films_that_are_tried(
    run: Path, tmp_path: Path
) -> None:
    made = replay.animate(
        run,
        tmp_path / "a.gif",
        max_mb=0.3,
        layers=iter(["conv1"]),
        channels=iter([0, 3]),
        epochs=(epoch for epoch in (0, 2)),
    )
    assert "2 of 8 maps" in made.alt
    assert made.chosen


@pytest.mark.parametrize("limit", [None, 0.5])
def test_recordings_may_come_from_a_generator(
    run: Path, tmp_path: Path, limit: float | None
) -> None:
    made = replay.animate((path for path in (run, run)), tmp_path / "a.gif", max_mb=limit)
    assert "in 2 rows" in made.alt


def test_presets(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, suffix, limit, width, height in (
        ("github", ".gif", 10e6, 1000, 1000),
        ("slack", ".mp4", 8e6, 1280, 1080),
        ("slides", ".mp4", 50e6, 1920, 1080),
    ):
        for layers in ("conv1", "all")[name == "slack" :]:
            made = replay.animate(run, preset=name, layers=layers, epochs=0, batches="::6")
            assert made.path == run.with_suffix(suffix)
            assert made.bytes <= limit
            assert made.frames == 2
            assert (made.width <= width, made.height <= height) == (True, True), (name, layers)
    made = replay.animate(run, f"{tmp_path}/paper/", preset="paper", max_mb=1.2)
    assert len(list(made.path.glob("*.png"))) == made.frames <= 60
    assert made.bytes <= 1_200_000
    with pytest.raises(OptionError, match=r"preset github makes .gif or .webp; found .*a.mp4"):
        replay.animate(run, tmp_path / "a.mp4", preset="github")
    with pytest.raises(OptionError, match=r"preset slack makes H.264"):
        replay.animate(run, preset="slack", codec="av1")
    with pytest.raises(OptionError, match=r"unknown preset 'mail'; expected one of github"):
        replay.animate(run, preset="mail")
    assert main(["animate", str(run), "-o", f"{tmp_path}/a.gif", "--max-mb", "1"]) == 0
    assert capsys.readouterr().err.startswith("note: ")


def test_words_and_a_picture_beside_it(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.webp"
    made = replay.animate(
        run, out, epochs=1, batches="0:4", cmap="viridis", clip=(-1, 1), alt=True, poster=True
    )
    assert (tmp_path / "a.alt.txt").read_text(encoding="utf-8") == made.alt + "\n"
    for words in ("conv1", "8 maps of 32×32", "4 recorded batches", "epoch 1", "batches 0 to 3"):
        assert words in made.alt
    for words in ("viridis", "from −1 to 1", "falls from 0.650 to 0.474", "1.0 seconds"):
        assert words in made.alt
    assert 2 <= made.alt.count(". ") + 1 <= 4
    with Image.open(tmp_path / "a.poster.png") as poster, Image.open(out) as image:
        image.seek(made.frames - 1)
        last = np.array(image.convert("RGB"))
        np.testing.assert_array_equal(np.array(poster.convert("RGB")), last)
    (tmp_path / "b.alt.txt").mkdir()
    with pytest.raises(replay.RecordingError, match=r"b.alt.txt: it is a folder"):
        replay.animate(run, tmp_path / "b.gif", alt=True)
    assert not (tmp_path / "b.gif").exists()


@pytest.mark.parametrize("zoom", [2, 4, 8])
def test_forty_frames_come_before_maps_of_less_than_half_their_size(zoom: int) -> None:
    settings = quality_ladder(300, "gif", zoom=zoom)
    assert min(each.frames for each in settings if each.share >= 0.5) <= 30
    assert max(each.frames for each in settings if each.share < 0.5) <= 30
    assert max(each.frames for each in settings if each.share < 0.3) <= 20
    mixed = quality_ladder(300, "gif", zoom=1, mixed=True)
    assert max(each.frames for each in mixed if each.share < 0.75) <= 30


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("zoom", [1, 2, 7, None])
@pytest.mark.parametrize("form", ["h264", "av1", "gif", ""])
def test_every_step_of_a_ladder_gives_up_something_more(
    form: str, zoom: int | None, mixed: bool
) -> None:
    for frames in (1, 2, 11, 360, 20_000):
        settings = quality_ladder(frames, form, zoom=zoom, mixed=mixed)
        assert settings[0].frames == frames
        for above, below in itertools.pairwise(settings):
            worse = (above.quality or 0) < (below.quality or 0)
            worse = worse if form != "gif" else (above.quality or 0) > (below.quality or 0)
            assert worse + (below.frames < above.frames) + (below.share < above.share) == 1
        assert frames < 100 or settings[-1].frames < 12


def test_a_search_measures_few_settings_and_corrects_itself() -> None:
    settings = [Setting(number) for number in range(1000, 0, -1)]
    asked: list[int] = []

    def estimate(setting: Setting) -> float:
        asked.append(setting.frames)
        return setting.frames * 10.0

    search = SizeSearch(settings, 5000, estimate)
    first = search.first()
    assert first.frames * 10 <= 5000 * 0.95 < (first.frames + 1) * 10
    second = search.next(2 * first.frames * 10.0)  # it is really twice as much
    assert second is not None
    assert 4000 < second.frames * 20 <= 5000
    assert len(asked) == len(set(asked)) < 25
