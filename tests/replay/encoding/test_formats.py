"""The registry of formats: targets, frame rates, and a contract suite for every sink."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from sink_contract import SinkContract, format_named
from test_mp4 import VideoContract

import replay
from replay.__main__ import main
from replay.encoding.formats import FORMATS
from replay.options import CODECS
from replay.output import HIGHEST_CRF, EncodeOptions, choose_target
from replay.rendering.accessibility import choose_fps
from replay.schema import OptionError, OutputError

DOCUMENT = Path(__file__).parents[3] / "docs" / "replay.md"


def test_every_format_has_a_contract_suite() -> None:
    modules = [path.stem for path in Path(__file__).parent.glob("test_*.py")]
    assert len(modules) > len(FORMATS)
    for module in modules:
        importlib.import_module(module)
    suites = [*SinkContract.__subclasses__(), *VideoContract.__subclasses__()]
    tested = {suite.format for suite in suites if hasattr(suite, "format")}
    assert [format.name for format in FORMATS if format not in tested] == []


def test_suffixes_choose_formats(tmp_path: Path) -> None:
    names = {"a.mp4": "mp4", "a.GIF": "gif", "a.webp": "webp", "a.png": "apng", "a.apng": "apng"}
    names |= {"a.webm": "webm", "a.MOV": "mov"}
    for name, kind in names.items():
        assert choose_target(tmp_path / name, FORMATS).kind == kind
    assert choose_target(f"{tmp_path}/frames/", FORMATS).kind == "folder"
    suffixes = [suffix for format in FORMATS for suffix in format.suffixes]
    assert len(set(suffixes)) == len(suffixes)


def test_users_read_of_every_format_and_codec(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["animate", "--help"]) == 0
    texts = [capsys.readouterr().out, replay.animate.__doc__ or "", DOCUMENT.read_text("utf-8")]
    for format in FORMATS:
        for text in texts:
            assert [suffix for suffix in format.suffixes if suffix not in text] == []
    assert tuple(HIGHEST_CRF) == CODECS
    assert {codec for format in FORMATS for codec in format.codecs} == set(CODECS)
    for codec in CODECS:
        for text in texts:
            assert codec in text


def test_targets_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    for bad, message in [
        (
            "run.avi",
            "unknown suffix '.avi' of .*expected .mp4, .webm, .mov, .gif, .webp, .png, .apng, or a",
        ),
        ("run", "ending in /"),
        ("missing/run.mp4", "no such folder"),
    ]:
        with pytest.raises(OutputError, match=message):
            choose_target(tmp_path / bad, FORMATS)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="not a file"):
        choose_target(tmp_path / "folder.mp4", FORMATS)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="new or empty"):
        choose_target(f"{tmp_path}/file/", FORMATS)
    with pytest.raises(OutputError, match="new or empty"):
        choose_target(f"{tmp_path}/", FORMATS)
    with pytest.raises(OutputError, match="cannot write"):
        choose_target("/proc/run.mp4", FORMATS)


def test_options_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(
        OptionError, match="unknown codec 'vp8'; expected one of h264, av1, vp9, prores"
    ):
        EncodeOptions(10.0, "vp8")
    with pytest.raises(OptionError, match="crf 18: expected none for prores"):
        EncodeOptions(10.0, "prores", 18)
    with pytest.raises(OptionError, match="crf 52: expected 0 to 51 for h264"):
        EncodeOptions(10.0, crf=52)
    with pytest.raises(OptionError, match="crf -1: expected 0 to 63 for av1"):
        EncodeOptions(10.0, "av1", -1)


def test_frame_rates() -> None:
    mp4, gif = format_named("mp4"), format_named("gif")
    assert choose_fps(None, 300, mp4) == 12
    assert (choose_fps(None, 1, mp4), choose_fps(None, 9000, mp4)) == (4, 30)
    assert choose_fps(None, 300, gif) == 12.5
    assert (choose_fps(60, 9, gif), choose_fps(30, 9, gif)) == (50, 100 / 3)
    for bad in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(OptionError, match="fps"):
            choose_fps(bad, 9, mp4)
