"""Reads what was pushed into a tracker with the tracker's own package, and prints it as JSON.

    python read_back.py wandb FOLDER_OR_ADDRESS

A process of its own, since these packages change the process that they are imported into.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

FILES: dict[str, list[Any]] = {}  # [step, SHA-256, kind] by name
STEPPED: dict[str, int] = {}  # the steps of what stands for a file that knows none
SCALARS: dict[str, list[list[float]]] = {}  # [step, value] by name


def keep(name: str, step: int | None, data: bytes, kind: str) -> None:
    FILES[name] = [step, hashlib.sha256(data).hexdigest(), kind]


def tensorboard(where: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (path.parent for path in Path(where).rglob("events.out.*.mapreel"))
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    found.Reload()
    for tag in found.Tags()["scalars"]:
        SCALARS[tag] = [[each.step, each.value] for each in found.Scalars(tag)]
    for tag in found.Tags()["images"]:
        last = found.Images(tag)[-1]
        keep(tag, last.step, last.encoded_image_string, "image")
    (page,) = found.Tensors("mapreel/page")[-1:]
    text = page.tensor_proto.string_val[0].decode()
    keep("mapreel/page", page.step, Path(text.split("`")[1]).read_bytes(), "text")


def wandb(where: str) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    (folder,) = Path(where).glob("wandb/offline-run-*")
    (log,) = folder.glob("*.wandb")
    for data in leveldb_records(log.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        row: dict[str, Any] = {}
        for each in record.history.item:
            keys, value = list(each.nested_key) or [each.key], json.loads(each.value_json)
            if len(keys) > 1:
                row.setdefault(keys[0], {})[keys[1]] = value
            else:
                row[keys[0]] = value
        for name, value in row.items():
            if isinstance(value, dict) and "path" in value:
                data = (folder / "files" / value["path"]).read_bytes()
                keep(name, row.get("mapreel/step"), data, value["_type"])
            elif name.startswith("mapreel/") and name != "mapreel/step":
                assert row["_step"] == row["mapreel/step"]
                SCALARS.setdefault(name, []).append([row["_step"], value])


def leveldb_records(data: bytes) -> list[bytes]:
    """The records of a log of LevelDB's format, behind a head of seven bytes."""
    found, at, part = [], 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(part)
            part = b""
    return found


def mlflow(where: str) -> None:
    import mlflow as package

    client = package.MlflowClient(tracking_uri=where)
    (run,) = client.search_runs(["0"])
    for name in run.data.metrics:
        SCALARS[name] = [
            [m.step, m.value] for m in client.get_metric_history(run.info.run_id, name)
        ]
    for name, value in run.data.tags.items():
        if name.startswith("mapreel/"):
            STEPPED[name.removesuffix(".step")] = int(value)
    for each in client.list_artifacts(run.info.run_id, "mapreel"):
        path = Path(client.download_artifacts(run.info.run_id, each.path))
        keep(f"mapreel/{path.stem}", None, path.read_bytes(), path.suffix)
    for each in client.list_artifacts(run.info.run_id, "images"):
        name, word, step, *_ = Path(each.path).name.replace("%", "+").split("+")
        assert word == "step"
        assert STEPPED[name.replace("~", "/")] == int(step)


def aim(where: str) -> None:
    import subprocess

    command = [Path(sys.executable).with_name("aim"), "storage", "--repo", where, "reindex"]
    subprocess.run(command, input=b"y\n", check=True, capture_output=True)  # as `aim up` does

    from aim import Repo

    repo = Repo(where)
    run = repo.get_run(*repo.list_all_runs())
    for metric in run.metrics():
        steps, (values, *_) = metric.data.numpy()
        SCALARS[metric.name] = [[int(s), float(v)] for s, v in zip(steps, values, strict=True)]
    for name, context, _ in run.iter_sequence_info_by_type("aim.image"):
        images = run.get_image_sequence(name, context)
        steps, (values, *_) = images.data.items_list()
        data = bytes(values[-1].storage["data"])
        keep(name, int(steps[-1]), data, values[-1].format)
    for name, context, _ in run.iter_sequence_info_by_type("aim.text"):
        steps, (texts, *_) = run.get_text_sequence(name, context).data.items_list()
        assert "page.html" in texts[-1].data
        STEPPED[name] = int(steps[-1])
    for name, artifact in run.artifacts.items():
        kept = Path(artifact.download("."))
        keep(f"mapreel/{Path(name).stem}", None, kept.read_bytes(), "artifact")


def trackio(where: str) -> None:
    os.environ["TRACKIO_DIR"] = where
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = SQLiteStorage.get_runs("proj")
    for row in SQLiteStorage.get_logs("proj", run):
        for name, value in row.items():
            if isinstance(value, dict):
                data = (Path(where) / "media" / value["file_path"]).read_bytes()
                keep(name, row["step"], data, value["_type"])
            elif name.startswith("mapreel/"):
                SCALARS.setdefault(name, []).append([row["step"], value])


if __name__ == "__main__":
    {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow, "aim": aim, "trackio": trackio}[
        sys.argv[1]
    ](sys.argv[2])
    print(json.dumps({"files": FILES, "scalars": SCALARS, "stepped": STEPPED}))
