"""`record run` where nothing can be recorded: the end says so and why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from script_runs import Record, spoken, write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "script", "reason"),
    [
        ([], "import torch", "the script made no torch optimizer in this process"),
        (
            [],
            "import torch\nm = torch.nn.Conv2d(1, 1, 1)\nm(torch.ones(1, 1, 2, 2))",
            "made no torch optimizer",
        ),
        (
            [],
            "import torch\nw = torch.ones(3, requires_grad=True)\no = torch.optim.SGD([w], 0.1)\n"
            "for _ in range(5):\n    w.sum().backward()\n    o.step()",
            "no module that owns its parameters was called in training mode",
        ),
        (
            [],
            "import torch\nm = torch.nn.Conv2d(1, 1, 1).eval()\n"
            "o = torch.optim.SGD(m.parameters(), 0.1)\n"
            "for _ in range(5):\n    m(torch.ones(1, 1, 2, 2)).sum().backward()\n    o.step()",
            "called in training mode (model.train())",
        ),
        (
            ["--layers", "cnov*"],
            "import torch\nm = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))\n"
            "o = torch.optim.SGD(m.parameters(), 0.1)\nm(torch.ones(1, 1, 2, 2))",
            "no layer matches 'cnov*'",
        ),
        (
            [],
            "import torch\nm = torch.nn.Bilinear(2, 2, 1)\n"
            "o = torch.optim.SGD(m.parameters(), 0.1)\nm(torch.ones(2, 2), torch.ones(2, 2))",
            "Bilinear has no convolution, block or Linear to record",
        ),
    ],
)
def test_nothing_to_record(
    tmp_path: Path, record_warm: Record, options: list[str], script: str, reason: str
) -> None:
    done = record_warm(*options, write(tmp_path, script + "\nprint('done')\n"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert spoken(done)[-1].startswith("nothing was recorded: ")
    assert reason in spoken(done)[-1]


@pytest.mark.parametrize(
    ("layer", "body", "reason"),
    [
        ("conv", "m(torch.ones(1, 1, 4, 4), fail=True)", "its forward ended in an exception"),
        ("conv", "m(torch.ones(1, 1, 4, 4))", "no backward pass went through its forwards"),
        ("odd", "m(torch.ones(1, 1, 4, 4))", "its layers put out nothing that can be recorded"),
    ],
)
def test_a_model_that_is_found_and_not_recorded(
    tmp_path: Path, record_warm: Record, layer: str, body: str, reason: str
) -> None:
    script = f"""
        import torch
        from torch import nn

        class Odd(nn.Module):
            def forward(self, x):
                return x.long()

        class M(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.odd = nn.Conv2d(1, 1, 3), Odd()
            def forward(self, x, fail=False):
                if fail:
                    raise ValueError("the script's")
                return self.conv(x) + self.odd(x).sum()

        m = M()
        o = torch.optim.SGD(m.parameters(), 0.1)
        {body}
        """
    done = record_warm("--layers", layer, write(tmp_path, script), cwd=tmp_path)
    assert done.returncode == ("fail" in body)
    told = [line for line in spoken(done) if "nothing was recorded" in line]
    assert len(told) == 1
    assert reason in told[0]
    assert "step()" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: python -m record run"),
        (["nowhere.py"], "error: cannot read the script nowhere.py: No such file or directory"),
        (["-m", "nowhere.at.all"], "error: -m nowhere.at.all: "),
        (["--evry", "2", "x.py"], "error: unknown option --evry; did you mean '--every'? (see"),
        (["--every", "0", "x.py"], "error: --every 0: expected a number from 1"),
        (["--budget", "much", "x.py"], "error: size 'much': expected bytes such as"),
        (["--schedule", "often", "x.py"], "error: schedule 'often': expected every=N"),
        (["--ranks", "1", "x.py"], "error: --ranks 1: expected 0 or all"),
        (["-o", "none/run.h5", "x.py"], "error: no such folder"),
        (["-o", "y" * 250, "x.py"], ", as a recording needs them: file name too long"),
        (["-o", "x.py", "x.py"], "exists; choose another name or allow overwriting (--overwrite)"),
        (["clash/x.py"], "has a 'record' of its own, which mapreel's would hide"),
        (["--layers"], "error: --layers: expected names, globs or classes"),
        (["-o"], "error: --output: expected a value"),
        (["--overwrite"], "error: expected a script"),
        (["."], "error: . is a folder; expected a script"),
    ],
)
def test_bad_command_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    from record.__main__ import main

    (tmp_path / "clash").mkdir()
    for name in ("x.py", "clash/x.py", "clash/record.py"):
        write(tmp_path, "print('ran')", name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["run", *words]) == 2
    out, err = capfd.readouterr()
    assert message in out + err
    assert "ran\n" not in out
    assert len(err.splitlines()) == bool(words)
