"""The command line of `record run`: where its own options end, and what it refuses."""

from __future__ import annotations

import json

import pytest

from record.launch.arguments import RunCommand, RunOptions, UsageError, check, parse


def test_the_script_keeps_its_own_arguments() -> None:
    command = parse(["-o", "a.h5", "--every", "2", "train.py", "--every", "9", "-o", "b"])
    assert command == RunCommand(
        "train.py", False, ["--every", "9", "-o", "b"], {"output": "a.h5", "every": "2"}
    )


def test_a_module_and_layers_up_to_it() -> None:
    command = parse(["--layers", "conv1", "layer1.*", "-m", "lab.train", "--layers", "x"])
    assert (command.target, command.is_module) == ("lab.train", True)
    assert command.options["layers"] == ("conv1", "layer1.*")
    assert command.arguments == ["--layers", "x"]


@pytest.mark.parametrize(
    ("words", "cam"),
    [
        (["--cam", "train.py"], True),
        (["--cam", "layer4.1", "train.py"], "layer4.1"),
        (["--cam=layer4.1", "train.py"], "layer4.1"),
        (["--cam", "--every", "2", "train.py"], True),
        (["--cam", "-m", "lab.train"], True),
        (["train.py", "--cam"], None),
    ],
)
def test_a_layer_for_class_activation(words: list[str], cam: object) -> None:
    command = parse(words)
    assert command.options.get("cam") == cam
    assert command.target in ("train.py", "lab.train")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--evry", "2", "train.py"], "unknown option --evry"),
        (["--every"], "--every: expected a value"),
        (["--layers", "train.py"], "--layers: expected names"),
        (["-m"], "-m: expected package.module"),
        (["--every", "2"], "expected a script"),
    ],
)
def test_a_command_line_that_cannot_be_used(words: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse(words)


@pytest.mark.parametrize("words", [["--every", "0"], ["--max-map", "x"], ["--ranks", "1"]])
def test_a_value_that_is_out_of_range(words: list[str]) -> None:
    with pytest.raises(UsageError, match=f"{words[0]} {words[1]}: expected"):
        check(parse([*words, "train.py"]))


def test_options_come_back_from_json_as_they_were() -> None:
    options = RunOptions("run.h5", ("conv1",), batch_axis={"input": 1}, command=("a.py", "-x"))
    text = json.dumps({name: getattr(options, name) for name in options.__dataclass_fields__})
    assert RunOptions.from_json(json.loads(text)) == options
