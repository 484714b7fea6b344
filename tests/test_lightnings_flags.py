"""Lightning's own flags do what Lightning says of them, or are refused in a line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run

CALLBACK = "--trainer.callbacks+=lightning.pytorch.callbacks."
SETTING = "--trainer.callbacks."
LOGGER = "--trainer.logger"
GRAPH = [f"{LOGGER}=TensorBoardLogger", f"{LOGGER}.save_dir=.", f"{LOGGER}.log_graph=true"]


def small(data_dir: Path) -> list[object]:
    """An epoch of four steps."""
    limits = {"train": 4, "val": 2, "test": 2}
    flags = [f"--trainer.limit_{part}_batches={number}" for part, number in limits.items()]
    sizes = ["--model.narrow", 2, "--model.wide", 2, "--trainer.accelerator", "cpu"]
    return [*flags, *sizes, "--trainer.max_epochs", 1, "--data.data_dir", data_dir]


@pytest.mark.parametrize(
    "flags",
    [
        ["--trainer.gradient_clip_val=0.5", "--trainer.precision=bf16-mixed"],
        ["--trainer.gradient_clip_val=0.5", "--model.optimizer=muon"],
        ["--trainer.precision=64-true"],
        pytest.param(["--trainer.precision=16-true"], marks=pytest.mark.slow),
        ["--trainer.precision=bf16-true"],
        [f"{CALLBACK}BatchSizeFinder", f"{SETTING}max_trials=2"],
        [
            f"{CALLBACK}LearningRateFinder",
            *(f"{SETTING}attr_name=max_lr", f"{SETTING}num_training_steps=3"),
        ],
        [
            f"{CALLBACK}StochasticWeightAveraging",
            f"{SETTING}swa_lrs=0.01",
            "--trainer.max_epochs=3",
        ],
        ["--trainer.fast_dev_run=5"],
        ["--trainer.limit_train_batches=5"],
        [f"{CALLBACK}TQDMProgressBar"],
        ["--trainer.callbacks=lightning.pytorch.callbacks.TQDMProgressBar"],
        ["--trainer.precision=64-true", "--trainer.enable_model_summary=true", *GRAPH],
    ],
    ids=lambda flags: " ".join(flags).split("callbacks.")[-1][:30],
)
def test_a_flag_works(flags: list[str], run: Run, data_dir: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *small(data_dir), *flags)
    assert done.returncode == 0, done.stderr
    assert "DigitNet, " in done.stdout
    assert "epoch  1/" in done.stdout
    assert "fast_dev_run" in flags[0] or re.search(r"^test .* of \d+,", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--trainer.strategy=ddp_spawn", "--trainer.devices=2"], "--trainer.strategy ddp_spawn"),
        (["--trainer.strategy=ddp_notebook", "--trainer.devices=2"], "--trainer.strategy ddp_no"),
        ([f"{CALLBACK}EarlyStopping", f"{SETTING}monitor=val/accc"], "val/accc"),
        ([f"{CALLBACK}LearningRateFinder"], "attr_name"),
        (["--trainer.barebones=true", "--trainer.profiler=simple"], "barebones"),
        (["--trainer.logger=WandbLogger"], "error: lightning.pytorch.loggers.WandbLogger: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_flag_is_refused_in_a_line(
    flags: list[str], named: str, run: Run, data_dir: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, *small(data_dir), *flags)
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert named in line
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert not list(tmp_path.rglob("*.ckpt"))


def test_what_was_asked_for_is_printed(run: Run, data_dir: Path, tmp_path: Path) -> None:
    asked = ["--trainer.profiler=simple", "--trainer.enable_model_summary=true"]
    stopping = [f"{CALLBACK}EarlyStopping", f"{SETTING}monitor=val/acc", f"{SETTING}mode=max"]
    done = run(tmp_path, *small(data_dir), *asked, *stopping, f"{SETTING}verbose=true")
    assert done.returncode == 0, done.stderr
    for said in ("Profiler Report", "Total params", "Metric val/acc improved"):
        assert said in done.stderr
    assert "💡" not in done.stderr
    assert "available:" not in done.stderr  # GPU, TPU


def test_barebones_times_the_steps(run: Run, data_dir: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *small(data_dir), "--trainer.barebones", "true")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^4 steps in \d+\.\d s", done.stdout, re.MULTILINE)
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_reader_that_leaves_is_not_blamed_on_the_log_folder(
    data_dir: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mnist_lit.train", *map(str, small(data_dir))]
    with subprocess.Popen(
        [*command, "--trainer.max_epochs=50"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    assert error == ""
    assert process.returncode == 141
