import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from record import Writer
from replay import schema

DOCUMENT = (Path(__file__).parents[3] / "docs" / "format.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_documents_code_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "xarray" in block:
        pytest.importorskip("xarray", reason="xarray is not installed")
        pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
    path = tmp_path / "run.h5"
    maps = drifting_maps(12, 8, 8)
    if "value_checksums" in block:  # which only a recorder writes
        with Writer(path) as writer:
            for batch in range(4):
                writer.write(epoch=0, batch=batch, maps={"conv1": maps(0, batch)}, loss=1.0)
    else:
        write_recording(path, {"conv1": maps})
    with h5py.File(path, "r") as file:
        frame = file["maps/conv1"][0, 3]
    replay.pack(path, tmp_path / "small.h5", bits=8)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block, "docs/format.md", "exec"), names)
    if "frame" in names:
        exact = "small.h5" not in block
        assert np.abs(names["frame"] - frame).max() <= (0 if exact else np.ptp(frame) / 500)
    assert len(BLOCKS) == 6


@pytest.mark.parametrize("field", schema.FIELDS, ids=lambda field: field.name)
def test_every_field_is_documented_as_it_is(field: schema.Field) -> None:
    if field.name == "recorded":
        assert "| `/batches/recorded` | int64 |" in DOCUMENT
        return
    row = re.search(rf"\| `/batches/{field.name}` \| (\w+) \| \(epoch, batch\) \| (\S+) ", DOCUMENT)
    assert row is not None
    assert row.group(1) == field.dtype.name
    assert float(row.group(2)) == field.fill or field.fill != field.fill


def test_every_group_is_documented() -> None:
    for group in (schema.MAPS, schema.RANGES, schema.KERNELS, schema.CHECKSUMS, schema.INPUTS):
        assert f"`/{group}" in DOCUMENT
    assert f"version {schema.VERSION}" in DOCUMENT
