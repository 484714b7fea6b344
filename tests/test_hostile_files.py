"""Checkpoints and weights made to harm: no program executes them, crashes on them or hangs."""

import io
import json
import os
import pickle
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Survived
from hostile import write_all
from lightning.pytorch import Trainer
from torch import nn

from mnist_lit import demo, export, predict, train
from mnist_lit.checkpoints import saved_settings
from mnist_lit.module import DigitClassifier
from mnist_lit.weights import load_network

COMMAND = "touch executed"
PROGRAMS: dict[str, tuple[Callable[..., Any], list[str], str]] = {
    "train": (train.main, [], "--ckpt_path"),
    "train test": (train.main, ["test"], "--ckpt_path"),
    "predict": (predict.main, ["x.png"], "--ckpt"),
    "export": (export.main, ["--output", "x.onnx"], "--ckpt"),
    "demo": (demo.main, ["--port", "0"], "--ckpt"),
}


class Payload:
    """Unpickling it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Harmful(nn.Module):
    def __setstate__(self, _: Any) -> None:
        os.system(COMMAND)


def checkpoint() -> dict[str, Any]:
    """One that is whole: `train test` uses it."""
    model = DigitClassifier(narrow=2, wide=2)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    loops = {name: getattr(trainer, name) for name in ("fit_loop", "validate_loop", "test_loop")}
    return {
        "state_dict": dict(model.state_dict()),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": 1,
        "callbacks": {},
        "loops": {name: loop.state_dict() for name, loop in loops.items()},
    }


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


EXECUTE = Payload(os.system, COMMAND)
PAYLOADS: dict[str, Callable[[], bytes]] = {
    "a bare pickle": lambda: pickle.dumps(EXECUTE),
    "beside the weights": lambda: saved(checkpoint() | {"more": EXECUTE}),
    "among the settings": lambda: saved(checkpoint() | {"hyper_parameters": {"narrow": EXECUTE}}),
    "as a weight": lambda: saved({"input.conv.weight": Payload(subprocess.call, COMMAND.split())}),
    "in torch's old format": lambda: saved(EXECUTE, _use_new_zipfile_serialization=False),
    "as Python code": lambda: saved(Payload(eval, f"__import__('os').system({COMMAND!r})")),
    "by way of a module": lambda: saved(Payload(runpy.run_path, "code.py")),
    "as a whole network": lambda: saved(Harmful()),
}


def run(program: str, path: Path, monkeypatch: pytest.MonkeyPatch, *more: object) -> int:
    """Its exit status when it is given the file."""
    main, arguments, flag = PROGRAMS[program]
    monkeypatch.chdir(path.parent)
    arguments = ["program", *arguments, flag, str(path), *map(str, more)]
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


@pytest.mark.parametrize("kind", PAYLOADS)
def test_no_program_executes_a_payload(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    survived: Survived,
) -> None:
    path, executed = tmp_path / "x.ckpt", tmp_path / "executed"
    path.write_bytes(PAYLOADS[kind]())
    (tmp_path / "code.py").write_text(f"import os; os.system({COMMAND!r})")
    for program in PROGRAMS:
        assert run(program, path, monkeypatch) == 2
        error = capfd.readouterr().err
        assert str(path) in error
        assert "not a file of weights that can be read safely" in error
        assert len(error.splitlines()) <= 2
        assert not executed.exists()
    # It is no dud.
    pickled = kind == "a bare pickle"
    with path.open("rb") as file:
        pickle.load(file) if pickled else torch.load(file, weights_only=False)
    assert executed.exists()
    survived("payload")


def accepts(reader: Callable[[Any], Any], path: Path | str) -> bool:
    try:
        reader(path)
    except ValueError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
def test_no_file_crashes_a_process_or_takes_it_over(
    tmp_path: Path, survived: Survived, most: Survived
) -> None:
    number = write_all(tmp_path, mutations=1000)
    assert number == 2300
    command = [sys.executable, str(Path(__file__).with_name("hostile.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    *lines, last = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 0, (last, done.stderr)  # of what it was reading
    ended = [line for line in [*lines, last] if "file" in line]
    assert len(ended) == number
    assert {line["outcome"] for line in ended} == {"used", "refused"}
    longest, memory = (max(line[key] for line in ended) for key in ("seconds", "MB"))
    assert longest < 20
    assert memory < 1500
    most("seconds for one file", longest)
    most("MB of memory", memory)
    survived("mutated file in a process of its own", 2000)
    survived("crafted file", 300)


def test_mutated_checkpoints_never_crash(tmp_path: Path, survived: Survived) -> None:
    original, path = saved(checkpoint() | {"loops": {}}), tmp_path / "x.ckpt"
    random = np.random.default_rng(0)
    read = 0
    for _ in range(2000):
        content = bytearray(original)
        for _ in range(random.integers(1, 20)):
            content[random.integers(len(content))] = random.integers(256)
        if random.random() < 0.3:
            del content[random.integers(len(content)) :]
        path.write_bytes(content)
        read += accepts(load_network, path)
        read += accepts(saved_settings, str(path))
    assert 100 < read < 3900
    survived("mutated checkpoint", 2000)


UNUSED = ("epoch", "global_step", "optimizer_states", "lr_schedulers")  # by a test


def is_used(program: str, part: str, value: Any) -> bool:
    """Whether the program needs nothing of the part, or can take this value for it."""
    if program == "train":
        return False
    return part in UNUSED or (part == "callbacks" and (value is None or isinstance(value, dict)))


ANYTHING: tuple[Any, ...] = ({}, 7, "word", float("nan"))


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@pytest.mark.parametrize("part", [*checkpoint(), "optimizer_states", "lr_schedulers"])
@pytest.mark.parametrize(
    "value",
    [
        *(None, [], {"word": [None]}),
        *(pytest.param(v, marks=pytest.mark.slow) for v in ANYTHING),
    ],
)
@pytest.mark.parametrize("program", ["train", "train test"])
def test_a_checkpoint_with_a_wrong_part_is_refused_or_does_no_harm(
    part: str,
    value: Any,
    program: str,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    survived: Survived,
) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(checkpoint() | {part: value}, path)
    flags = ["--data.data_dir", data_dir, "--trainer.accelerator", "cpu", "--trainer.logger", False]
    status = run(program, path, monkeypatch, *flags, "--trainer.limit_test_batches", 1)
    error = capfd.readouterr().err.strip().splitlines()
    assert len(error) <= 2
    assert status == (0 if is_used(program, part, value) else 2), error
    assert status == 0 or f"error: --ckpt_path {path}" in error[-1]
    survived("wrong part")
