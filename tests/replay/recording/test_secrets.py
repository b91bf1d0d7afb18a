"""What is secret in an address is used, and stands in no message, recording, page or tracker."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from samples import drifting_maps, write_recording
from serving import http_server

import replay
from record import run_facts
from record.__main__ import main as record_main
from record.paths import check_here
from replay.__main__ import main
from replay.recording import remote_file
from replay.schema import RecordingError
from replay.schema.addresses import without_secrets, words_without_secrets
from replay.trackers import pushing
from replay.trackers.registry import find_tracker

SIGNED = "?X-Amz-Credential=AKIAsecret&X-Amz-Signature=0secret0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            f"cannot read https://b.s3.host/run.h5{SIGNED}; try again",
            "cannot read https://b.s3.host/run.h5; try again",
        ),
        (f"URL('https://me:secret@host/a{SIGNED}')", "URL('https://host/a')"),
        ("https://ghp_secret@github.com/a/b.git", "https://github.com/a/b.git"),
        (
            f"Max retries exceeded with url: /run.h5{SIGNED} (Caused",
            "Max retries exceeded with url: /run.h5 (Caused",
        ),
        ("https:/me:secret@host/x.h5?sig=secret.", "https:/host/x.h5."),
        ("simplecache::https://u:secret@h/a.h5?secret", "simplecache::https://h/a.h5"),
        (
            "postgresql://me:secret@host/runs and s3://key:secret@b/c",
            "postgresql://host/runs and s3://b/c",
        ),
        ("github://lab:runs@main/run.h5", "github://lab:runs@main/run.h5"),
        (
            "abfs://box@account.dfs.host/run.h5?sv=1&sig=secret",
            "abfs://box@account.dfs.host/run.h5",
        ),
        ("hf://datasets/lab/runs@main/run.h5", "hf://datasets/lab/runs@main/run.h5"),
        ("Authorization: Bearer hf_secretsecret", "Authorization: Bearer ***"),
        ("no layer 'conv?'; did you mean conv1? a=b", "no layer 'conv?'; did you mean conv1? a=b"),
        ("C:\\runs\\run.h5, me@host, a:b@c", "C:\\runs\\run.h5, me@host, a:b@c"),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert str(RecordingError(text)) == shown


def test_long_names_take_no_time() -> None:
    for text in ("a" * 300_000 + "@?", "a:/" * 3_000 + "@?", "?a" * 100_000, "x:/?" * 3_000):
        before = time.process_time()
        without_secrets(text)
        assert time.process_time() - before < 2, text[:9]


def test_what_is_shown_of_a_command_line() -> None:
    words = ["python", "train.py", "--data", f"https://me:secret@host/data.zip{SIGNED}"]
    words += [
        "--hf-token",
        "secret",
        "--password=secret",
        "wandb.api_key=secret",
        "--secret-key",
        "secret",
    ]
    kept = ["--tokenizer", "bert", "--max-tokens", "512", "--token", "--lr=0.1", "key=3"]
    shown = words_without_secrets(words + kept)
    assert "secret" not in " ".join(shown).replace("--secret-key", "")
    assert shown[3] == "https://host/data.zip"
    assert shown[-len(kept) :] == kept


def test_a_recording_keeps_no_secrets_of_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "/usr/bin/python",
        "train.py",
        "--data",
        f"s3://k:secret@b/d{SIGNED}",
        "--api-key",
        "secret",
    ]
    monkeypatch.setattr(sys, "orig_argv", words)
    kept = run_facts.environment()["command"]
    assert kept == ["python", "train.py", "--data", "s3://b/d", "--api-key", "***"]


def test_nothing_that_is_made_of_a_signed_address_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(remote_file, "PAUSES", ())
    write_recording(there / "run.h5", {"conv1": drifting_maps(2, 8, 8)}, epochs=1, batches=2)
    with http_server(there) as served:
        for words in (f"{served.address}run.h5{SIGNED}", f"{served.address}none.h5{SIGNED}"):
            for command in (
                *(["info"], ["info", "--json"], ["verify"], ["health", "-o", "h.svg"]),
                *(["animate", "-o", "a.gif"], ["page", "-o", "p.html"], ["pack", "-o", "s.h5"]),
                *(["grid", "-o", "g.svg"], ["export", "-o", "e.npz"], ["repair", "-o", "r.h5"]),
                *(["push", "--to", "folder=out"], ["fetch", "-o", "f.h5"], ["nonsense"]),
                *(["animate", "--colour", "red"], ["compare", "-o", "c.gif", words]),
            ):
                main([command[0], words, *command[1:]])
                said = "".join(capsys.readouterr())
                assert "secret" not in said, (command, said)
                assert "Traceback" not in said
    made = [path for path in here.rglob("*") if path.is_file()]
    assert len(made) >= 12
    for path in made:
        assert b"secret" not in path.read_bytes(), path


def test_trackers_show_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 8, 8)},
        epochs=1,
        batches=2,
        meta={"command": ["python", "train.py", "--token", "secret", f"https://h/x{SIGNED}"]},
    )
    out = tmp_path / "out"
    replay.push(path, to=f"folder={out}", only="scalars")
    assert "secret" not in json.dumps(json.loads((out / "pushed.json").read_text()))
    folder = find_tracker(pushing.read_destination(f"folder={out}"))

    def fail(*_: object) -> None:
        raise OSError(f"cannot reach http://me:secret@host/api{SIGNED}")

    monkeypatch.setattr(folder, "log_points", fail)
    with pytest.raises(
        RecordingError, match="did not take it: OSError: cannot reach http://host/api$"
    ):
        replay.push(path, to=f"folder={out}", only="scalars")
    to = pushing.read_destination(f"mlflow=http://me:secret@host{SIGNED}")
    assert str(to) == "mlflow=http://host"


def test_messages_of_record_show_no_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecordingError) as refused:
        check_here(f"https://me:secret@host/run.h5{SIGNED}")
    assert "secret" not in str(refused.value)
    for words in (
        ["run", "-o", f"https://me:secret@host/run.h5{SIGNED}", __file__],
        ["run", "--push", f"nonsense=https://me:secret@host/{SIGNED}", __file__],
        ["train", f"https://me:secret@host/{SIGNED}"],
    ):
        try:
            code: object = record_main(words)
        except SystemExit as ended:
            code = ended.code
        assert code == 2
        assert "secret" not in "".join(capsys.readouterr())
