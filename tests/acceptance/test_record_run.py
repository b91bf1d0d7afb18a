"""`python -m record run` on scripts in the manner of real ones, which nobody changed."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from script_runs import ENVIRONMENT, SCRIPTS, Record, python, record, spoken, write
from warm import WarmPython

import replay
from replay.__main__ import main as replay_main

pytestmark = pytest.mark.slow


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name in ("cats", "dogs"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


# script: recordings it gives, by suffix; of each its epochs, batches, the layers whose frames are
# compared with the spy's, the spy's number of that layer, and of how many spied frames the first
# (and second ...) is recorded
CASES = {
    "classify": {"": (3, 5, {"conv1": (0, 1, 0), "conv2": (1, 1, 0)})},
    "imagenet": {"": (2, 3, {"conv1": (0, 1, 0), "layer4.1.conv2": (19, 1, 0)})},
    "gan": {
        "": (2, 3, {"main.0": (0, 3, 0), "main.4": (2, 3, 0)}),
        ".Generator": (2, 3, {"main.0": (3, 1, 0), "main.6": (5, 1, 0)}),
    },
    "siamese": {"": (2, 3, {"cnn.0": (0, 2, 0), "cnn.0#1": (0, 2, 1)})},
    "vae": {"": (1, 10, {"down": (0, 1, 0)})},
    "gpt": {"": (1, 8, {})},
    "lightning_module": {"": (2, 5, {"net.0": (0, 1, 0)})},
}


@pytest.mark.parametrize("name", CASES)
def test_scripts_as_they_are(
    tmp_path: Path, name: str, image_folder: Path, warm: WarmPython, record_warm: Record
) -> None:
    if name == "lightning_module" and importlib.util.find_spec("lightning") is None:
        pytest.skip("lightning is not installed: the Lightning script was not run")
    arguments = [image_folder] if name == "imagenet" else []
    script = SCRIPTS / f"{name}.py"
    spied = [SCRIPTS / "spy.py", tmp_path / "spied.npz", script, *arguments]
    plain = warm.run(spied, tmp_path, ENVIRONMENT)
    assert plain.returncode == 0, plain.stderr
    run = record if name == "classify" else record_warm
    done = run("-o", "run.h5", script, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout != ""
    ours = [line for line in done.stderr.splitlines() if line.startswith("mapreel: ")]
    rest = [line for line in done.stderr.splitlines() if line not in ours]
    assert rest == plain.stderr.splitlines()
    assert sum(line.startswith("mapreel: recorded ") for line in ours) == len(CASES[name])
    # Where no loader tells of epochs, one line says that they are not known; nothing else is said.
    assert len(ours) == len(CASES[name]) + (name in ("vae", "gpt"))
    frames = np.load(tmp_path / "spied.npz")
    assert {p.name for p in tmp_path.glob("*.h5")} == {f"run{s}.h5" for s in CASES[name]}
    for suffix, (epochs, batches, layers) in CASES[name].items():
        path = tmp_path / f"run{suffix}.h5"
        with replay.open(path) as run:
            assert run.closed
            assert run.frames == [(e, b) for e in range(epochs) for b in range(batches)]
            assert (run.dropped, run.lost) == (0, 0)
            for layer, (number, step, offset) in layers.items():
                for place, at in enumerate(run.frames):
                    frame = frames[f"{number}/{place * step + offset}"]
                    assert run[layer][at].tobytes() == frame.tobytes(), (layer, at)
            if name != "gpt":
                assert run.inputs.shape is not None
            assert np.isfinite([run.batches["loss"][at] for at in run.frames]).all()
            assert np.isfinite([run.batches["lr"][at] for at in run.frames]).all()
            assert run.meta["command"] == [str(script), *map(str, arguments)]
        film = tmp_path / f"film{suffix}.mp4"
        words = ["animate", str(path), "-o", str(film), "--quiet", "--zoom", "1"]
        assert replay_main(words) == 0
        assert film.stat().st_size > 1000


def test_losses_are_those_that_the_script_printed(tmp_path: Path, record_warm: Record) -> None:
    done = record_warm("-o", "run.h5", SCRIPTS / "classify.py", "--log-interval", "1", cwd=tmp_path)
    printed = [float(text) for text in re.findall(r"Loss: ([\d.]+)", done.stdout)]
    with replay.open(tmp_path / "run.h5") as run:
        np.testing.assert_allclose(run.batches["loss"].ravel(), printed, atol=1e-6)
        rates = [0.01 * 0.7**epoch for epoch in range(3) for _ in range(5)]
        np.testing.assert_allclose(run.batches["lr"].ravel(), rates)


def test_gpt_with_a_configuration_file(tmp_path: Path, record_warm: Record) -> None:
    write(tmp_path, "compile = False\nn_layer = 3\n", "config.py")
    done = record_warm(SCRIPTS / "gpt.py", "config.py", "--max_iters=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("iter") == 2
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == tuple(f"transformer.h.{n}" for n in range(3))
        assert len(run.frames) == 4


def test_arguments_main_folder_and_module(tmp_path: Path) -> None:
    package = tmp_path / "lab"
    package.mkdir()
    write(package, "", "__init__.py")
    write(package, "WORD = 'beside'", "neighbour.py")
    body = """
        import os, pickle, sys
        {imports}
        class Local: pass
        pickle.loads(pickle.dumps(Local()))
        print(sys.argv, __name__, os.getcwd(), WORD, __file__, __package__ or None)
        print(sys.path[0], sys.modules["__main__"].Local is Local, __spec__ is None)
        sys.stderr.write("to stderr\\n")
        print(sys.stdin.read())
        sys.exit(7)
        """
    write(package, body.format(imports="from neighbour import WORD"), "alone.py")
    write(package, body.format(imports="from .neighbour import WORD"), "inside.py")
    for target in (["lab/alone.py"], ["-m", "lab.inside"]):
        runs = [
            subprocess.run(
                [sys.executable, *before, *target, "--layers", "x", "-o", "y"],
                cwd=tmp_path,
                env=ENVIRONMENT,
                input="typed",
                capture_output=True,
                text=True,
                check=False,
            )
            for before in ([], ["-m", "record", "run"])
        ]
        assert runs[0].stdout == runs[1].stdout != ""
        assert runs[0].returncode == runs[1].returncode == 7
        said = spoken(runs[1])
        assert said[-1] == "nothing was recorded: the script did not import torch"
        assert all("--layers, -o stand behind" in line for line in said[:-1])
        rest = [line for line in runs[1].stderr.splitlines() if not line.startswith("mapreel: ")]
        assert runs[0].stderr.splitlines() == rest
    assert not (tmp_path / "run.h5").exists()


def test_an_exception_looks_and_exits_as_it_does_alone(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import torch
        from torch import nn

        model = nn.Sequential(nn.Conv2d(3, 4, 3))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(5):
            model(torch.rand(2, 3, 8, 8)).mean().backward()
            optimizer.step()
            if step == 3:
                raise KeyError("of the script")
        """,
    )
    plain, done = python(script, cwd=tmp_path), record(script, cwd=tmp_path)
    assert done.returncode == plain.returncode == 1
    rest = [line for line in done.stderr.splitlines() if not line.startswith("mapreel: ")]
    assert rest == plain.stderr.splitlines()
    assert "KeyError: 'of the script'" in plain.stderr
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert len(run.frames) == 4
    broken = write(tmp_path, "def f(:\n", "broken.py")
    plain, done = python(broken, cwd=tmp_path), record("-o", "b.h5", broken, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (plain.returncode, plain.stderr)


ENDLESS = """
    import time, torch
    from torch import nn

    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(100000):
        model(torch.rand(2, 3, 8, 8)).mean().backward()
        optimizer.step()
        if step == 20:
            print("running", flush=True)
        time.sleep(0.01)
    """


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals(tmp_path: Path, number: signal.Signals) -> None:
    script = write(tmp_path, ENDLESS)
    process = subprocess.Popen(
        [sys.executable, "-m", "record", "run", str(script)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -number
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in err
        assert "record" not in re.sub(r"mapreel: .*|File .*", "", err)
    for _ in range(100):
        if (tmp_path / "run.h5").exists():  # the writer may have begun after the training's end
            with replay.open(tmp_path / "run.h5") as run:
                if run.closed:
                    break
        signal.sigtimedwait([], 0.1)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert len(run.frames) >= 15
