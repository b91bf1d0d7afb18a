"""A word that nobody knows is answered with the one that was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_lines import install_programs, run
from samples import drifting_maps, write_recording
from warm import WarmPython


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_programs(tmp_path_factory.mktemp("venv") / "bin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("runs")
    maps = drifting_maps(4, 8, 8)
    names = ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "fc"]
    write_recording(found / "run.h5", dict.fromkeys(names, maps), epochs=2)
    (found / "train.py").write_text("print('trained')\n")
    return found


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        # commands
        ("mapreel replya info run.h5", "did you mean 'replay'?"),
        ("mapreel animate run.h5", "did you mean 'mapreel replay animate'?"),
        ("mapreel run.h5", "did you mean 'mapreel replay info run.h5'?"),
        ("mapreel train.py", "did you mean 'mapreel record run train.py'?"),
        ("mapreel help anmiate", "did you mean 'animate'?"),
        ("mapreel replay animat run.h5", "did you mean 'animate'?"),
        ("mapreel replay help gird", "did you mean 'grid'?"),
        ("mapreel replay run.h5", "such as mapreel replay info run.h5"),
        ("mapreel record trian", "did you mean 'train'?"),
        ("mapreel record train.py", "such as mapreel record run train.py"),
        ("mapreel-replay pgae run.h5", "did you mean 'page'?"),
        # options
        ("mapreel replay animate run.h5 --epocs 1", "did you mean '--epochs'?"),
        ("mapreel replay animate --lyer conv1", "did you mean '--layer'?"),
        ("mapreel replay grid run.h5 --kernel=3 --chanels 1", "did you mean '--channels'?"),
        ("mapreel replay page run.h5 --max-bm 3", "did you mean '--max-mb'?"),
        ("mapreel record train --bach-size 3", "did you mean '--batch-size'?"),
        ("mapreel record run --evry 3 train.py", "did you mean '--every'?"),
        # values
        ("mapreel replay animate run.h5 --scale chanel", "did you mean 'channel'?"),
        ("mapreel replay grid run.h5 --cmap virdis", "did you mean 'viridis'?"),
        ("mapreel replay grid run.h5 --theme drak", "did you mean 'dark'?"),
        ("mapreel replay animate run.h5 --preset githib", "did you mean 'github'?"),
        ("mapreel replay animate run.h5 --with kernals", "did you mean 'kernels'?"),
        ("mapreel replay animate run.h5 -o run.mpg", "did you mean '.mp4' or"),
        ("mapreel replay grid run.h5 -o grid.pfd", "did you mean '.pdf'?"),
        ("mapreel replay page run.h5 -o run.htlm", "did you mean '.html' or"),
        ("mapreel replay export run.h5 -o run.npx", "did you mean '.npz' or '.npy'?"),
        ("mapreel record train -o b.h5 --data cifar", "did you mean 'cifar10'?"),
        ("mapreel record train -o b.h5 --model resnet81", "did you mean 'resnet18'?"),
        ("mapreel record run --schedule evry=3 train.py", "did you mean 'every'?"),
        ("mapreel record run --ranks al train.py", "did you mean 'all'?"),
        ("mapreel record run trian.py", "did you mean 'train.py'?"),
        # layers
        ("mapreel replay grid run.h5 --layer conv1", "mean layer1.0.conv1, layer2.0.conv1?"),
        ("mapreel replay animate run.h5 --layer layer1", "mean layer1.0.conv1, layer1.0.conv2?"),
        ("mapreel replay page run.h5 --layer layer1.0.convv1", "did you mean layer1.0.conv1, "),
        ("mapreel replay export run.h5 --layer cf -o a.npz", "did you mean fc?"),
        ("mapreel replay sheet run.h5 --layer xyz", "recorded: layer1.0.conv1, layer1.0.conv2, "),
        (
            "mapreel replay animate run.h5 --layer head.*",
            "recorded: layer1.0.conv1, layer1.0.conv2",
        ),
        # files
        ("mapreel replay info rnu.h5", "did you mean 'run.h5'?"),
    ],
)
def test_it_is_said_in_a_line(
    words: str, meant: str, folder: Path, programs: Path, warm: WarmPython
) -> None:
    done = run(*words.split(), cwd=folder, path=programs, warm=warm)
    assert done.returncode == 2, done.stdout + done.stderr
    assert meant in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert not done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["run.h5", "train.py"]


@pytest.mark.parametrize("words", ["grid run.h5 --scale wxyz", "animate run.h5 --zzz"])
def test_nothing_is_guessed_where_nothing_is_near(
    words: str, folder: Path, programs: Path, warm: WarmPython
) -> None:
    done = run("mapreel", "replay", *words.split(), cwd=folder, path=programs, warm=warm)
    assert done.returncode == 2
    assert "did you mean" not in done.stderr
