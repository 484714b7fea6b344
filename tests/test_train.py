"""The command line on real MNIST: whole runs, and a table of bad input."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Run, Survived
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.data import MNISTDataModule
from mnist_lit.module import DigitClassifier, exact_accuracy
from mnist_lit.network import TinyNet
from mnist_lit.train import main
from mnist_lit.weights import load_network

CONFIGS = Path(__file__).parent.parent / "configs"
FINAL = [f"final/{figure}" for figure in ("epochs", "target_epoch", "best_val_acc", "test_acc")]
DEBUG = ("--config", str(CONFIGS / "debug.yaml"))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mnist_lit.train", *map(str, arguments)]


def run_afresh(cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a person types it, in a folder that is not the project's."""
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def run_and_signal(
    cwd: Path, line_start: str, signal_: signal.Signals, *arguments: object
) -> tuple[int, str]:
    """Send the signal when such a line is printed; exit status and what was printed after it."""
    if sys.platform == "win32":
        pytest.skip("has no such signals")
    # A shell that started the tests in the background has them ignore Ctrl-C, which is inherited.
    with subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(line_start):
                process.send_signal(signal_)
                break
        rest = process.stdout.read()
    return process.returncode, rest


@pytest.fixture(scope="module")
def fitted(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the debug config was fitted, and what the run printed."""
    cwd = tmp_path_factory.mktemp("fitted")
    done = run_afresh(cwd, *DEBUG, "--data.data_dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return cwd, done.stdout


def test_a_fit_says_what_it_does_and_what_came_out(fitted: tuple[Path, str]) -> None:
    cwd, printed = fitted
    lines = printed.splitlines()
    assert re.match(r"DigitNet, 17,506 parameters, on cpu with \d+ threads?, \S+$", lines[0])
    number = r"\d+\.\d{4}  acc \d+\.\d\d %"
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 2
    for line in epochs:
        assert re.match(
            rf"epoch  \d/2   train loss {number}   val loss {number} [* ] +[\d.]+ s", line
        )
    assert "*" in epochs[0]
    summary = dict(re.split(r"\s\s+", line, maxsplit=1) for line in lines if "  " in line)
    assert summary["parameters"] == "17,506"
    assert summary["target"] == "99.40 % not reached in 2 epochs"
    assert re.match(r"\d+\.\d\d % of 1,280, measured once; 95 % interval", summary["test"])
    assert re.match(r"\d+\.\d\d % of 1,280$", summary["best val"])
    assert (cwd / summary["checkpoint"]).is_file()
    assert summary["curves"] == "tensorboard --logdir lightning_logs"


def test_a_fit_on_all_digits_looks_at_the_test_set_once(
    run: Run, data_dir: Path, tmp_path: Path
) -> None:
    everything = ["--data.val_size", 0, "--trainer.limit_val_batches", 0]
    done = run(tmp_path, *DEBUG, *everything, "--data.data_dir", data_dir)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert " val " not in re.sub("best val", "", done.stdout)
    assert re.search(r"^best val +none: the last weights were tested$", done.stdout, re.MULTILINE)
    assert re.search(r"^test .* of 1,280, measured once", done.stdout, re.MULTILINE)
    [checkpoint] = re.findall(r"^checkpoint +(\S+)$", done.stdout, re.MULTILINE)
    assert Path(checkpoint).name == "last.ckpt"
    assert (tmp_path / checkpoint).is_file()


def test_a_tiny_checkpoint_is_tested_and_read_without_being_told(
    run: Run, data_dir: Path, tmp_path: Path
) -> None:
    data = ["--data.data_dir", data_dir]
    sizes = ["--model.narrow", 2, "--model.wide", 9, "--model.margin", 1, "--model.tta", "true"]
    done = run(tmp_path, *DEBUG, *data, "--model.network", "TinyNet", *sizes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"TinyNet, {TinyNet(2, 9).parameter_count:,} parameters, on ")
    [accuracy] = re.findall(r"^test +(\S+) %", done.stdout, re.MULTILINE)
    again = run(tmp_path, "test", "--ckpt_path", "best", *data, *DEBUG)
    changed = "--model.network TinyNet (not DigitNet), --model.margin 1 (not 3)"
    changed += ", --model.tta True (not False), --model.narrow 2 (not 18), --model.wide 9 (not 32)"
    assert again.stderr.endswith(f"used as in the checkpoint: {changed}\n")
    [right] = re.findall(r"^ +all +1,280 +([\d,]+) +[\d.]+ %$", again.stdout, re.MULTILINE)
    assert int(right.replace(",", "")) / 12.8 == pytest.approx(float(accuracy), abs=0.006)
    [best] = tmp_path.glob("lightning_logs/version_0/checkpoints/best-*.ckpt")
    assert load_network(best).settings == {"narrow": 2, "wide": 9, "margin": 1, "tta": True}


def test_a_fit_leaves_curves_pictures_and_hyperparameters(fitted: tuple[Path, str]) -> None:
    version = fitted[0] / "lightning_logs" / "version_0"
    events = EventAccumulator(str(version)).Reload()
    tags = events.Tags()
    scalars = {"train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc", "lr"}
    assert scalars <= set(tags["scalars"])
    assert len(events.Scalars("val/acc")) == 2
    assert {"augmented training digits", "val/confusion", "val/errors"} <= set(tags["images"])
    hparams = [e for f in version.glob("events*") for e in [f.read_bytes()] if b"hparams" in e]
    assert any(b"model/max_lr" in content for content in hparams)
    assert {"final/best_val_acc", "final/test_acc"} <= set(tags["scalars"])
    steps = [event.step for event in events.Scalars("train/loss_step")]
    assert steps == list(range(5, 41, 5))  # log_every_n_steps of the debug config
    for stage in ("val", "test"):
        digits = [events.Scalars(f"{stage}-digits/{digit}")[-1].value for digit in range(10)]
        assert 0 <= min(digits) < max(digits) <= 1
    [text] = events.Tensors("config/text_summary")
    assert "max_lr: 0.014" in text.tensor_proto.string_val[0].decode()
    assert yaml.safe_load((version / "hparams.yaml").read_text())["max_lr"] == 0.014
    columns, figures = hparams_columns(version)
    assert columns[:3] == ["model/network", "model/optimizer", "model/max_lr"]
    assert columns[3:5] == ["data/batch_size", "trainer/max_epochs"]
    assert figures[:2] == ["final/test_acc", "final/best_val_acc"]


def hparams_columns(version: Path) -> tuple[list[str], list[str]]:
    """The settings and the figures of TensorBoard's HPARAMS tab, in their order."""
    for path in version.glob("events*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == "_hparams_/experiment":
                    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    experiment = content.experiment
                    infos = experiment.metric_infos
                    return [h.name for h in experiment.hparam_infos], [i.name.tag for i in infos]
    raise AssertionError("no HPARAMS")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_saved_config_runs_again_to_the_same_numbers(
    run: Run, workers: int, fitted: tuple[Path, str], tmp_path: Path
) -> None:
    cwd, printed = fitted
    config = cwd / "lightning_logs" / "version_0" / "config.yaml"
    done = run(tmp_path, "--config", config, "--data.num_workers", workers)
    assert done.returncode == 0, done.stderr

    def numbers(output: str) -> list[str]:
        return re.findall(r"(?:loss|acc|best val|test) +\d+\.\d+", output)

    assert len(numbers(printed)) == 2 * 4 + 2
    assert numbers(done.stdout) == numbers(printed)
    settings = yaml.safe_load(config.read_text())
    assert settings["model"]["max_lr"] == 0.014
    assert settings["trainer"]["precision"] is not None  # what was chosen for this machine


def test_a_checkpoint_wins_over_flags_and_says_so(
    run: Run, fitted: tuple[Path, str], data_dir: Path
) -> None:
    flags = ["--ckpt_path", "best", "--data.data_dir", data_dir, "--trainer.limit_test_batches", 1]
    done = run(fitted[0], "test", *flags, "--model.narrow", 5, "--model.wide", 32)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("used as in the checkpoint: --model.narrow 18 (not 5)\n")


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_the_other_verbs_read_the_best_checkpoint(
    run: Run, fitted: tuple[Path, str], verb: str
) -> None:
    cwd, printed = fitted
    config = cwd / "lightning_logs" / "version_0" / "config.yaml"
    data = yaml.safe_load(config.read_text())["data"]["data_dir"]
    limits = [f"--trainer.limit_{part}_batches=5" for part in ("val", "test", "predict")]
    done = run(cwd, verb, "--ckpt_path", "best", "--data.data_dir", data, *limits)
    assert done.returncode == 0, done.stderr
    if verb == "predict":
        [path] = (cwd / "lightning_logs").glob("version_*/predictions.txt")
        assert len(path.read_text().splitlines()) == 5 * 256
    else:
        stage = {"validate": "val", "test": "test"}[verb]
        [fit_acc] = re.findall(rf"^(?:best )?{stage} +(\d+\.\d+) %", printed, re.MULTILINE)
        [verb_acc] = re.findall(rf"{stage}/acc\D+([\d.]+)", done.stdout)
        assert float(verb_acc) * 100 == pytest.approx(float(fit_acc), abs=0.006)
    if verb == "test":
        [right] = re.findall(r"^ +all +1,280 +([\d,]+) +[\d.]+ %$", done.stdout, re.MULTILINE)
        assert int(right.replace(",", "")) / 12.8 == pytest.approx(float(fit_acc), abs=0.006)
        [folder] = re.findall(r"^pictures in (\S+)$", done.stdout, re.MULTILINE)
        names = {"confusion", "errors", "digits", "reliability"}
        assert {path.name for path in (cwd / folder).glob("*.png")} == {
            f"test-{name}.png" for name in names
        }
    assert not (cwd / "lightning_logs" / "version_1" / "config.yaml").exists()


def test_predict_refuses_to_share_the_images(run: Run, fitted: tuple[Path, str]) -> None:
    cwd, _ = fitted
    flags = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu"]
    done = run(cwd, "predict", "--ckpt_path", "best", *flags)
    assert done.returncode == 2
    assert done.stderr.endswith("error: predict runs in one process: use --trainer.devices 1\n")


def test_stops_at_the_target(run: Run, data_dir: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *DEBUG, "--data.data_dir", data_dir, "--stop.accuracy", 0.01)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch  1/2") == 1
    assert "epoch  2/2" not in done.stdout
    assert "target val/acc 1.00 % reached in epoch 1" in done.stdout
    assert re.search(r"^target +1.00 % reached in epoch 1$", done.stdout, re.MULTILINE)


def test_the_summary_is_of_the_fit_not_of_the_checkpoint_that_is_tested(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    scores = iter([0.5, 0.99, 0.9])  # the target is reached one epoch after the best

    class Scripted(MulticlassAccuracy):
        def compute(self) -> torch.Tensor:
            return torch.tensor(next(scores))

    metrics = iter([exact_accuracy(), Scripted(10), exact_accuracy(), exact_accuracy()])
    monkeypatch.setattr("mnist_lit.module.exact_accuracy", lambda: next(metrics))
    monkeypatch.chdir(tmp_path)
    stop = ["--stop.accuracy", "0.94", "--stop.epochs", "2", "--trainer.max_epochs", "4"]
    main([*DEBUG, *stop, "--data.data_dir", str(data_dir), "--trainer.num_sanity_val_steps", "0"])
    printed = capfd.readouterr().out
    assert "target val/acc 94.00 % reached in epoch 3, as the mean of 2 epochs\n" in printed
    assert "target      94.00 % reached in epoch 3\n" in printed
    assert "best val    99.00 % of 1,280\n" in printed
    assert "checkpoints/best-0.9900.ckpt\n" in printed

    stars = re.findall(r"^epoch .* val loss \S+  acc (\S+) % (\*?)", printed, re.MULTILINE)
    assert stars == [("50.00", "*"), ("99.00", "*"), ("90.00", "")]
    events = EventAccumulator("lightning_logs/version_0", {"images": 0}).Reload()
    final = {tag.removeprefix("final/"): events.Scalars(tag)[0].value for tag in FINAL}
    assert (final["epochs"], final["target_epoch"]) == (3, 3)
    assert final["best_val_acc"] == pytest.approx(0.99)
    assert [image.step for image in events.Images("val/confusion")] == [3 * 20]


def test_a_checkpoint_holds_the_weights_that_were_validated(
    run: Run, data_dir: Path, tmp_path: Path
) -> None:
    data = ["--data.data_dir", data_dir]
    assert run(tmp_path, *DEBUG, *data, "--trainer.val_check_interval", 7).returncode == 0
    [best] = tmp_path.glob("lightning_logs/version_0/checkpoints/best-*.ckpt")
    done = run(tmp_path, "validate", *DEBUG, *data, "--ckpt_path", "best")
    [accuracy] = re.findall(r"val/acc\D+([\d.]+)", done.stdout)
    assert f"best-{float(accuracy):.4f}" == best.stem


def test_an_epoch_without_validation_repeats_no_figures(
    run: Run, data_dir: Path, tmp_path: Path
) -> None:
    flags = ["--trainer.check_val_every_n_epoch", 2, "--trainer.max_epochs", 3]
    done = run(tmp_path, *DEBUG, "--data.data_dir", data_dir, *flags)
    assert done.returncode == 0, done.stderr
    epochs = re.findall(r"^epoch .*$", done.stdout, re.MULTILINE)
    assert ["val acc" in re.sub(r" loss \S+ ", "", line) for line in epochs] == [False, True, False]
    [best] = tmp_path.glob("lightning_logs/version_0/checkpoints/best-*.ckpt")
    assert torch.load(best, weights_only=True)["global_step"] == 2 * 20


def test_a_checkpoint_goes_on_elsewhere(
    run: Run, fitted: tuple[Path, str], data_dir: Path, tmp_path: Path
) -> None:
    version = Path("lightning_logs") / "version_0"
    (tmp_path / version / "checkpoints").mkdir(parents=True)
    shutil.copy(
        fitted[0] / version / "checkpoints" / "last.ckpt", tmp_path / version / "checkpoints"
    )
    flags = ["--data.data_dir", data_dir, "--ckpt_path", version / "checkpoints" / "last.ckpt"]
    done = run(tmp_path, *DEBUG, *flags)
    assert done.returncode == 0, done.stderr
    assert "checkpoints/last.ckpt\n" in done.stdout


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="SIGINT"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_fit_says_how_to_go_on(
    number: signal.Signals, data_dir: Path, tmp_path: Path, survived: Survived
) -> None:
    flags = (*DEBUG, "--data.data_dir", data_dir, "--trainer.max_epochs", 50)
    returncode, rest = run_and_signal(tmp_path, "epoch  2/50", number, *flags)
    assert returncode == 128 + number
    assert re.search(r"interrupted: --ckpt_path lightning_logs/\S+/last\.ckpt goes on", rest)
    assert (tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt").is_file()
    survived("signal")


def test_a_resumed_fit_keeps_its_schedule(run: Run, fitted: tuple[Path, str]) -> None:
    cwd, _ = fitted
    version = cwd / "lightning_logs" / "version_0"
    before = {path: path.stat().st_mtime for path in (version / "checkpoints").iterdir()}
    config = version / "config.yaml"
    last = version / "checkpoints" / "last.ckpt"
    done = run(cwd, "--config", config, "--ckpt_path", last, "--trainer.max_epochs", 3)
    assert done.returncode == 2
    assert "--trainer.max_epochs" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert before == {path: path.stat().st_mtime for path in (version / "checkpoints").iterdir()}


class Perceptron(DigitClassifier):
    def __init__(self, hidden: int = 8, max_lr: float = 0.01) -> None:
        layers = nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)
        super().__init__(nn.Sequential(*layers), max_lr=max_lr)


class Batches(MNISTDataModule):
    def __init__(self, data_dir: str = "data", batch_size: int = 16) -> None:
        super().__init__(data_dir, batch_size)


def test_main_trains_classes_of_ones_own_and_returns_the_figures_of_the_summary(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    limits = [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
    flags = ["--data.data_dir", str(data_dir), "--trainer.max_epochs=1", *limits]
    figures = main([*flags, "--model.hidden=5"], model=Perceptron, data=Batches)
    printed = capfd.readouterr().out
    assert figures.keys() == {"test_acc", "best_val_acc", "epochs", "seconds", "checkpoint"}
    assert figures["epochs"] == 1
    assert f"test        {100 * float(figures['test_acc']):.2f} % of 32" in printed
    assert f"best val    {100 * float(figures['best_val_acc']):.2f} % of 32" in printed
    weights = torch.load(str(figures["checkpoint"]), weights_only=True)["state_dict"]
    assert weights["network.1.weight"].shape == (5, 784)
    resumed = main(["--ckpt_path", "last"], model=Perceptron, data=Batches)
    assert resumed["test_acc"] == figures["test_acc"]
    test = ["test", *flags[:2], "--ckpt_path", "last", "--model.hidden=5"]
    assert main([*test, limits[2]], model=Perceptron, data=Batches) == {}


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def foreign_checkpoint(folder: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, folder / "foreign.ckpt")


BAD_INPUT: dict[str, tuple[list[str], int, str, Callable[[Path], None] | None]] = {
    # what is wrong: arguments, exit status, what the message names, what the folder holds
    "unknown flag": (["--model.narow", "3"], 2, "--model.narow", None),
    "unknown verb": (["fitt"], 2, "fitt", None),
    "no number": (["--trainer.max_epochs", "many"], 2, "trainer.max_epochs", None),
    "no value": (["--trainer.max_epochs"], 2, "--trainer.max_epochs", None),
    "no end": (["--trainer.max_epochs", "-1"], 2, "--trainer.max_epochs", None),
    "percent for fraction": (["--stop.accuracy", "99.4"], 2, "--stop.accuracy", None),
    "zero target": (["--stop.accuracy", "0"], 2, "--stop.accuracy", None),
    "mean of no epoch": (["--stop.epochs", "0"], 2, "--stop.epochs", None),
    "no channels": (["--model.narrow", "0"], 2, "--model.narrow", None),
    "no image left": (["--model.margin", "14"], 2, "--model.margin", None),
    "all dropped": (["--model.dropout", "1"], 2, "--model.dropout", None),
    "no learning rate": (["--model.max_lr", "0"], 2, "--model.max_lr", None),
    "a rate that explodes": (
        [*DEBUG, "--model.max_lr", "1e30"],
        2,
        "use a lower --model.max_lr",
        None,
    ),
    "unknown optimizer": (["--model.optimizer", "sgd"], 2, "model.optimizer", None),
    "no muon rate": (["--model.muon_lr", "0"], 2, "--model.muon_lr", None),
    "momentum without end": (["--model.muon_momentum", "1"], 2, "--model.muon_momentum", None),
    "rate in words": (["--model.max_lr", "fast"], 2, "model.max_lr", None),
    "empty batch": (["--data.batch_size", "0"], 2, "--data.batch_size", None),
    "half a batch": (["--data.batch_size", "1.5"], 2, "data.batch_size", None),
    "nothing to train on": (["--data.val_size", "60000"], 2, "--data.val_size", None),
    "negative workers": (["--data.num_workers", "-1"], 2, "--data.num_workers", None),
    "scale to nothing": (
        ["--data.augmentation.scale", "1"],
        2,
        "--data.augmentation.scale",
        None,
    ),
    "no own digits": (["--data.own_dir", "absent"], 2, "--data.own_dir absent: No such", None),
    "own digits in the wrong folders": (
        ["--data.own_dir", "x"],
        2,
        "x/10 is no digit",
        lambda folder: (folder / "x" / "10").mkdir(parents=True),
    ),
    "own digits alone": (
        ["--data.own_dir", "x", "--data.own_share", "1"],
        2,
        "--data.own_share",
        None,
    ),
    "too few own digits for a batch": (
        ["--data.own_dir", "x", "--data.own_share", "0.001"],
        2,
        "--data.own_share",
        None,
    ),
    "no weights to start from": (
        ["--model.init_from", "absent.pt"],
        2,
        "--model.init_from absent.pt: No such file",
        None,
    ),
    "text as weights to start from": (
        ["--model.init_from", "x.pt"],
        2,
        "--model.init_from x.pt: not a file of weights",
        write("x.pt", "hi"),
    ),
    "weights to start from with a payload": (
        ["--model.init_from", "x.pt"],
        2,
        "--model.init_from x.pt",
        write("x.pt", pickle.dumps(Payload())),
    ),
    "foreign weights to start from": (
        ["--model.init_from", "foreign.ckpt"],
        2,
        "--model.init_from foreign.ckpt: not the weights of a DigitNet",
        foreign_checkpoint,
    ),
    "weights of another network to start from": (
        ["--model.init_from", "shipped", "--model.narrow", "9", "--model.margin", "2"],
        2,
        "--model.init_from shipped holds another network: --model.network DigitNet --model.narrow"
        " 18 --model.wide 32 --model.margin 2",
        None,
    ),
    "unknown accelerator": (["--trainer.accelerator", "abacus"], 2, "abacus", None),
    "no devices": (["--trainer.devices", "0"], 2, "devices", None),
    "unknown precision": (["--trainer.precision", "17"], 2, "trainer.precision", None),
    "no such config": (["--config", "absent.yaml"], 2, "absent.yaml", None),
    "no such recipe": (["-c", "faster"], 2, "best, ddp, debug, fast, finetune, original", None),
    "a flag's old name": (
        ["--model.average", "0"],
        2,
        "model.average is now model.ema_decay",
        None,
    ),
    "an old config": (
        ["--config", "x.yaml"],
        2,
        "model.crops is now model.tta",
        write("x.yaml", "model: {crops: 5}"),
    ),
    "seed below zero": (["--seed_everything", "-1"], 2, "seed", None),
    "seed too large": (["--seed_everything", "99999999999"], 2, "seed", None),
    "devices in words": (["--trainer.devices", "abc"], 2, "devices", None),
    "devices that are none": (["--trainer.devices", "-1"], 2, "devices", None),
    "accelerator of another package": (["--trainer.accelerator", "tpu"], 2, "torch_xla", None),
    "no step": (
        ["--trainer.limit_train_batches", "0"],
        2,
        "--trainer.limit_train_batches",
        None,
    ),
    "nothing to test": (
        ["--trainer.limit_test_batches", "0"],
        2,
        "--trainer.limit_test_batches",
        None,
    ),
    "no gradient": (
        ["--trainer.accumulate_grad_batches", "0"],
        2,
        "--trainer.accumulate_grad_batches",
        None,
    ),
    "config by an equals sign": (["--config=x.yaml"], 2, "x.yaml", write("x.yaml", "{[")),
    "config is no YAML": (["--config", "x.yaml"], 2, "x.yaml", write("x.yaml", "{[")),
    "config with an unknown key": (
        ["--config", "x.yaml"],
        2,
        "epochs",
        write("x.yaml", "trainer: {epochs: 3}"),
    ),
    "config is binary": (["--config", "x.yaml"], 2, "x.yaml", write("x.yaml", b"\xff\xfe\x00")),
    "no such checkpoint": (["--ckpt_path", "absent.ckpt"], 2, "absent.ckpt", None),
    "no run yet": (["--ckpt_path", "last"], 2, "--ckpt_path last", None),
    "test of nothing": (["test"], 2, "--ckpt_path", None),
    "empty checkpoint": (["--ckpt_path", "x.ckpt"], 2, "x.ckpt", write("x.ckpt", b"")),
    "text as checkpoint": (["test", "--ckpt_path", "x.ckpt"], 2, "x.ckpt", write("x.ckpt", "hi")),
    "foreign checkpoint": (["--ckpt_path", "foreign.ckpt"], 2, "foreign.ckpt", foreign_checkpoint),
    "checkpoint with a payload": (
        ["test", "--ckpt_path", "x.ckpt"],
        2,
        "x.ckpt",
        write("x.ckpt", pickle.dumps(Payload())),
    ),
    "folder as checkpoint": (["--ckpt_path", "."], 2, "--ckpt_path", None),
    "data folder is a file": (["--data.data_dir", "x"], 1, "x", write("x", "")),
    "log folder is a file": (
        ["--trainer.default_root_dir", "x"],
        1,
        "--trainer.default_root_dir DIR",
        write("x", ""),
    ),
    "a name that is not UTF-8": (
        ["--data.data_dir", b"\xff".decode("utf-8", "surrogateescape")],
        2,
        "a name that is not UTF-8",
        None,
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_in_two_lines(
    case: str,
    tmp_path: Path,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    survived: Survived,
) -> None:
    arguments, status, named, prepare = BAD_INPUT[case]
    monkeypatch.chdir(tmp_path)
    if prepare:
        prepare(tmp_path)
    if "--data.data_dir" not in arguments and "test" not in arguments and arguments[0] != "fitt":
        arguments = ["--data.data_dir", str(data_dir), *arguments]
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(OSError if status == 1 else SystemExit) as raised:
        main()
    if status == 1:  # which the command tells in a line
        error = str(raised.value)
    else:
        error = capfd.readouterr().err
        assert getattr(raised.value, "code", None) == status, error
    assert named in error
    assert len(error.strip().splitlines()) <= 2, error
    assert "Traceback" not in error
    assert not (tmp_path / "executed").exists()
    survived("wrong usage")


def test_help_explains_our_flags(run: Run, tmp_path: Path) -> None:
    assert "fit" in run(tmp_path, "--help").stdout
    shown = " ".join(run(tmp_path, "fit", "--help").stdout.split())
    for flag, meaning in [
        ("--stop.accuracy", "Validation accuracy, as a fraction"),
        ("--data.augmentation.degrees", "in degrees"),
        ("--data.val_size", "held out for validation"),
        ("--model.max_lr", "learning rate at the top"),
        ("--model.ema_decay", "moving average"),
    ]:
        assert flag in shown
        assert meaning in shown


@pytest.mark.parametrize("name", ["debug", "debug.yaml"])
def test_a_recipe_is_found_by_name_unless_a_file_here_has_it(
    name: str, run: Run, data_dir: Path, tmp_path: Path
) -> None:
    flags = ["--config", name, "--data.data_dir", data_dir, "--trainer.max_epochs", 1]
    assert "epoch  1/1" in run(tmp_path, *flags).stdout
    (tmp_path / name).write_text("trainer: {limit_train_batches: 0}")
    assert "--trainer.limit_train_batches must be above 0" in run(tmp_path, *flags).stderr


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_trains(run: Run, config: Path, data_dir: Path, tmp_path: Path) -> None:
    given = yaml.safe_load(config.read_text())["trainer"]
    validates = given.get("limit_val_batches") != 0
    parts = ("train", "test", "val") if validates else ("train", "test")
    limits = [f"--trainer.limit_{part}_batches=2" for part in parts]
    # The two processes of ddp.yaml are started as this one was.
    done = (run_afresh if config.stem == "ddp" else run)(
        tmp_path, "--config", config, "--data.data_dir", data_dir, *limits, "--trainer.max_epochs=1"
    )
    assert done.returncode == 0, done.stderr
    assert ("--data.val_size 0" in done.stderr) == (config.stem == "original")
    [header] = re.findall(r"^\w+, [\d,]+ parameters, on (.+)$", done.stdout, re.MULTILINE)
    [device] = re.findall(r"^device +(.+)$", done.stdout, re.MULTILINE)
    assert header == device
