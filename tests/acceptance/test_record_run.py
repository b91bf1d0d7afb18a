"""`python -m record run` on scripts in the manner of real ones, which nobody changed."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm import WarmPython

import replay
from replay.__main__ import main as replay_main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "scripts"
Record = Callable[..., subprocess.CompletedProcess[str]]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def python(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        check=False,
        timeout=120,
    )


def record(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "record", "run", *words, cwd=cwd, **environment)


@pytest.fixture
def record_warm(warm: WarmPython) -> Record:
    """As `record`, in a process that has imported torch already."""

    def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        return warm.run(["-m", "record", "run", *words], cwd, ENVIRONMENT)

    return run


def spoken(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What mapreel said."""
    return [line[9:] for line in done.stderr.splitlines() if line.startswith("mapreel: ")]


def write(folder: Path, text: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


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
    tmp_path: Path, name: str, image_folder: Path, warm: WarmPython
) -> None:
    if name == "lightning_module" and importlib.util.find_spec("lightning") is None:
        pytest.skip("lightning is not installed: the Lightning script was not run")
    arguments = [image_folder] if name == "imagenet" else []
    script = SCRIPTS / f"{name}.py"
    spied = [SCRIPTS / "spy.py", tmp_path / "spied.npz", script, *arguments]
    plain = warm.run(spied, tmp_path, ENVIRONMENT)
    assert plain.returncode == 0, plain.stderr
    done = record("-o", "run.h5", script, *arguments, cwd=tmp_path)
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


# The script is at home


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
        assert spoken(runs[1]) == ["nothing was recorded: the script did not import torch"]
        assert runs[0].stderr == runs[1].stderr.replace(f"mapreel: {spoken(runs[1])[0]}\n", "")
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


# What is hard to see


LOOK_AHEAD = """
    import copy, os, sys, threading, time, queue, torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    images = torch.rand(12, 3, 8, 8)
    loader = DataLoader(TensorDataset(images, torch.arange(12.0)), batch_size=3)
    validation = DataLoader(TensorDataset(images + 5), batch_size=6)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 1))
    teacher = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=True)

    def ahead(loader):
        iterator = iter(loader)
        following = next(iterator)
        while following is not None:
            batch, following = following, next(iterator, None)
            yield batch

    def threaded(loader):
        box = queue.Queue()
        threading.Thread(target=lambda: [box.put(b) for b in loader] + [box.put(None)]).start()
        while (batch := box.get()) is not None:
            yield batch

    def behind(loader):  # a thread that has all batches, and is late to say that there are no more
        box = queue.Queue()
        trained = threading.Event()

        def fetch():
            iterator = iter(loader)
            for _ in range(len(loader)):
                box.put(next(iterator))
            trained.wait()
            list(iterator)

        thread = threading.Thread(target=fetch)
        thread.start()
        while box.qsize() < len(loader):
            time.sleep(0.001)
        for _ in range(len(loader)):
            yield box.get()
        trained.set()
        thread.join()

    def meanwhile(loader):  # a thread that fetches while the recording begins
        box = queue.Queue()
        trained = threading.Event()

        def fetch():
            iterator = iter(loader)
            box.put(next(iterator))
            while not os.path.exists("run.h5"):
                time.sleep(0.0001)
            for _ in range(1, len(loader)):
                box.put(next(iterator))
            trained.wait()
            list(iterator)

        thread = threading.Thread(target=fetch)
        thread.start()
        for _ in range(len(loader)):
            yield box.get()
        trained.set()
        thread.join()

    ways = {"ahead": ahead, "threaded": threaded, "behind": behind, "meanwhile": meanwhile}
    for epoch in range(3):
        model.train()
        for x, y in ways[sys.argv[1]](loader):
            with torch.no_grad():
                teacher(x)
            loss = (model(x)[:, 0] - y).square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            print(loss.item())
        model.eval()
        for (x,) in validation:
            model(x)
    """


@pytest.mark.parametrize("way", ["ahead", "threaded", "behind", "meanwhile"])
def test_loaders_that_run_ahead_teachers_and_scaled_losses(
    tmp_path: Path, record_warm: Record, way: str
) -> None:
    done = record_warm(write(tmp_path, LOOK_AHEAD), way, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(e, b) for e in range(3) for b in range(4)]
        printed = [float(line) for line in done.stdout.split()]
        np.testing.assert_allclose(run.batches["loss"].ravel(), printed, rtol=1e-6)
        for epoch, batch in run.frames:  # in the order of the loader: batch b begins with image 3b
            np.testing.assert_array_equal(run.inputs[epoch, batch], run.inputs[0, batch])
            assert run.inputs[epoch, batch].max() <= 1  # nothing of the validation


OPTIONS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)
            self.conv2 = nn.Conv2d(4, 2, 3)
        def forward(self, x):
            return self.conv2(self.conv1(x))

    torch.manual_seed(0)
    model = Net()
    model.compile(backend="aot_eager") if COMPILE else None
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    if FUNCTION:
        @torch.compile(backend="aot_eager")
        def step(x):
            return model(x).square().mean()
    else:
        step = lambda x: model(x).square().mean()
    for number in range(12):
        step(torch.full((2, 3, 9, 9), float(number))).backward()
        optimizer.step()
        optimizer.zero_grad()
        if number % 4 == 3:
            model.eval(); model(torch.full((2, 3, 9, 9), -1.0)); model.train()
    """


@pytest.mark.parametrize("way", ["eager", "COMPILE", "FUNCTION"])
def test_options_and_ways_to_compile(tmp_path: Path, way: str) -> None:
    text = "\n".join(f"{name} = {name == way}" for name in ("COMPILE", "FUNCTION"))
    script = write(tmp_path, text + "\n" + textwrap.dedent(OPTIONS))
    done = record("-o", "a.h5", "--layers", "conv2", "--every=2", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "a.h5") as run:
        assert run.layers == ("conv2",)
        # A compiled function shows no module: it is found at the first step.
        first = 2 if way == "FUNCTION" else 0
        found = [int(run.inputs[at][0, 0, 0]) for at in run.frames]
        assert found == [n + first // 2 for n in range(0, 12, 2)][: len(found)]
        assert len(found) >= 5


def test_including_evaluation(tmp_path: Path, record_warm: Record) -> None:
    script = write(tmp_path, "COMPILE = FUNCTION = False\n" + textwrap.dedent(OPTIONS))
    assert record_warm("--include-eval", script, cwd=tmp_path).returncode == 0
    with replay.open(tmp_path / "run.h5") as run:
        images = [int(run.inputs[at][0, 0, 0]) for at in run.frames]
        assert images == [0, 1, 2, 3, -1, 4, 5, 6, 7, -1, 8, 9, 10, 11, -1]
        flags = [run.batches["training"][at] for at in run.frames]
        assert flags == [float(image >= 0) for image in images]
    only = write(
        tmp_path,
        "import torch\nm = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()\n"
        "for n in range(3): m(torch.full((1, 3, 8, 8), float(n)))\n",
        "only.py",
    )
    assert record_warm("-o", "only.h5", "--include-eval", only, cwd=tmp_path).returncode == 0
    with replay.open(tmp_path / "only.h5") as run:
        assert [int(run.inputs[at][0, 0, 0]) for at in run.frames] == [0, 1, 2]


# Where nothing can be recorded, the end says so and why


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
        (["--evry", "2", "x.py"], "error: unknown option --evry; see"),
        (["--every", "0", "x.py"], "error: --every 0: expected a number from 1"),
        (["--budget", "much", "x.py"], "error: size 'much': expected bytes such as"),
        (["--schedule", "often", "x.py"], "error: schedule 'often': expected every=N"),
        (["--ranks", "1", "x.py"], "error: --ranks 1: expected 0 or all"),
        (["-o", "none/run.h5", "x.py"], "error: no such folder"),
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


# More than one process


DISTRIBUTED = """
    import os, sys, torch
    import torch.distributed as dist
    import torch.multiprocessing as mp
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel as DDP

    def work(rank, world, port):
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", port)
        dist.init_process_group("gloo", rank=rank, world_size=world)
        torch.manual_seed(0)
        torch.set_num_threads(1)
        model = DDP(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(3):
            loss = model(torch.full((2, 3, 8, 8), rank + step / 10)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"rank {rank} {sum(p.double().sum() for p in model.parameters()):.10f}", flush=True)
        dist.barrier()  # gloo may abort in a process that is at work when the other has gone
        dist.destroy_process_group()

    if __name__ == "__main__":
        if "RANK" in os.environ:
            work(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "")
        else:
            mp.spawn(work, (2, sys.argv[1]), nprocs=2)
    """


def free_port() -> str:
    import socket

    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])


@pytest.fixture(scope="module", params=["torchrun", "spawn"])
def ranks_alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, subprocess.CompletedProcess[str]]:
    """A way to start two ranks, and what they print without a recorder."""
    folder = tmp_path_factory.mktemp("ranks")
    words = start_of_ranks(request.param, [write(folder, DISTRIBUTED)])
    return request.param, python(*words, cwd=folder)


def start_of_ranks(way: str, words: list[object]) -> list[object]:
    """The words behind `python` that start a script on two ranks."""
    if way == "spawn":
        return [*words, free_port()]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    return [*launcher, free_port(), *words]


@pytest.mark.parametrize("ranks", ["0", "all"])
def test_ranks(
    tmp_path: Path, ranks_alone: tuple[str, subprocess.CompletedProcess[str]], ranks: str
) -> None:
    way, plain = ranks_alone
    words = ["-m", "record", "run", "--ranks", ranks, write(tmp_path, DISTRIBUTED)]
    done = python(*start_of_ranks(way, words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [sorted(re.findall(r"rank \d -?[\d.]+", run.stdout)) for run in (done, plain)]
    assert said[0] == said[1]
    assert len(said[0]) == 2
    names = ["run.h5"] if ranks == "0" else ["run.rank0.h5", "run.rank1.h5"]
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == names
    ids = set()
    for rank, name in enumerate(names):
        with replay.open(tmp_path / name) as run:
            assert (run.meta["rank"], run.meta["world_size"]) == (rank, 2)
            assert run.closed
            assert run.layers == ("0",)
            assert len(run.frames) == 3
            assert run.inputs[0, 1][0, 0, 0] == np.float16(rank + 0.1)
            ids.add(run.run_id)
    assert len(ids) == 1


def test_several_spawned_trainings_and_a_forked_one(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import multiprocessing, torch
        from torch import nn

        def work(number):
            torch.set_num_threads(1)
            model = nn.Sequential(nn.Conv2d(3, 4, 3))
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for step in range(3):
                model(torch.full((2, 3, 8, 8), float(number))).mean().backward()
                optimizer.step()

        if __name__ == "__main__":
            for way in ("spawn", "fork"):
                context = multiprocessing.get_context(way)
                workers = [context.Process(target=work, args=(n,)) for n in range(2)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                    assert worker.exitcode == 0
        """,
    )
    done = record(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = set()
    for name in ("run.h5", "run.2.h5"):
        with replay.open(tmp_path / name) as run:
            assert len(run.frames) == 3
            seen.add(float(run.inputs[0, 0][0, 0, 0]))
    assert seen == {0.0, 1.0}
    # The parent trained nothing itself, and does not say that nothing was recorded.
    assert sum(line.startswith("recorded 3 batches of Sequential") for line in spoken(done)) == 2
    assert not any("nothing was recorded" in line for line in spoken(done))
    assert sum("training in a forked process is not recorded" in line for line in spoken(done)) == 2
