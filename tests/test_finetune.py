"""One person's digits, from the folder to a network that reads them: whole commands."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Run, Survived
from forked import Forks
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_faults import outcome
from test_own import draw

from mnist_lit import export, load_pretrained, predict
from mnist_lit.assets import test_digits as digits_of_test

SHORT = [
    *("--config", "finetune", "--trainer.max_epochs", "2", "--data.drawn", "50"),
    *("--data.val_size", "200", "--data.batch_size", "32", "--trainer.log_every_n_steps", "2"),
    *("--trainer.limit_train_batches", "6", "--trainer.limit_test_batches", "4"),
    *("--trainer.check_val_every_n_epoch", "1"),
    *("--trainer.accelerator", "cpu"),
]


@pytest.fixture(scope="module")
def own_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 digits of a person."""
    folder: Path = tmp_path_factory.mktemp("own") / "digits"
    draw(folder, range(60))
    return folder


def flags(data_dir: Path, own_dir: Path) -> list[object]:
    return [*SHORT, "--data.data_dir", data_dir, "--data.own_dir", own_dir]


@pytest.fixture(scope="module")
def tuned(
    run: Run, data_dir: Path, own_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A folder with a fit on one's own digits, and what it printed."""
    cwd = tmp_path_factory.mktemp("tuned")
    done = run(cwd, *flags(data_dir, own_dir))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return cwd, done.stdout


def test_own_accuracy_is_measured_printed_and_drawn(tuned: tuple[Path, str]) -> None:
    cwd, printed = tuned
    assert printed.splitlines()[1].startswith("own digits: 48 to train with, 12 held out (100.00 %")
    epochs = re.findall(r"^epoch .*$", printed, re.MULTILINE)
    assert len(epochs) == 2
    for line in epochs:
        assert re.search(r"val loss \S+  acc \d+\.\d\d %  own \d+\.\d\d % [* ] +[\d.]+ s$", line)
    assert re.search(r"^best val +\d+\.\d\d % of 200$", printed, re.MULTILINE)
    assert re.search(r"^test +\d+\.\d\d % of 128, measured once; 95 % interval", printed, re.M)
    own = r"^own digits +\d+\.\d\d % of 12, also seen in validation; 95 % interval \S+ to \S+ %$"
    assert re.search(own, printed, re.MULTILINE)
    version = cwd / "lightning_logs/version_0"
    scalars = EventAccumulator(str(version)).Reload()
    assert len(scalars.Scalars("own/acc")) == len(scalars.Scalars("val/acc")) == 2
    assert len(scalars.Scalars("test/own_acc")) == 1
    both = [event.value for event in scalars.Scalars("both/acc")]
    parts = zip(scalars.Scalars("own/acc"), scalars.Scalars("val/acc"), strict=True)
    assert both == pytest.approx([(own.value + val.value) / 2 for own, val in parts])
    assert scalars.Scalars("final/own_acc")
    assert (version / "test-own-errors.png").is_file()
    [best] = version.glob("checkpoints/best-*.ckpt")
    assert float(best.stem.removeprefix("best-")) == pytest.approx(max(both), abs=1e-4)
    config = yaml.safe_load((version / "config.yaml").read_text())
    assert config["model"]["init_from"] == "shipped"


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_the_other_verbs_measure_them_too(
    verb: str, run: Run, tuned: tuple[Path, str], data_dir: Path, own_dir: Path
) -> None:
    cwd, _ = tuned
    done = run(cwd, verb, *flags(data_dir, own_dir), "--ckpt_path", "best")
    assert done.returncode == 0, done.stderr
    name = {"validate": "own/acc", "test": "test/own_acc"}[verb]
    assert re.search(rf"{name}\W+[01]\.\d+", done.stdout)
    assert run(cwd, "predict", *flags(data_dir, own_dir), "--ckpt_path", "best").returncode == 0


def test_nothing_is_held_out_but_ones_own(
    run: Run, data_dir: Path, own_dir: Path, tmp_path: Path
) -> None:
    more = ["--data.val_size", 0, "--trainer.max_epochs", 1]
    done = run(tmp_path, *flags(data_dir, own_dir), *more, "--trainer.limit_val_batches", 0)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"^best val +none: the last", done.stdout, re.MULTILINE)
    assert re.search(r"^own digits .* of 12, measured once; ", done.stdout, re.MULTILINE)
    done = run(tmp_path, *flags(data_dir, own_dir), *more, "--trainer.limit_val_batches", 2)
    assert done.returncode == 0, done.stderr
    assert "--data.val_size 0: validation uses the test set" in done.stderr
    assert re.search(r" own \d+\.\d\d % \*", done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
@pytest.mark.parametrize(
    "call", [("replace", 4), pytest.param(("fsync", 1), marks=pytest.mark.slow)]
)
def test_a_fit_that_was_killed_and_resumed_equals_an_unbroken_one(
    call: tuple[str, int],
    forks: Forks,
    data_dir: Path,
    own_dir: Path,
    tuned: tuple[Path, str],
    tmp_path: Path,
    survived: Survived,
) -> None:
    (tuned[0] / "out").write_text(tuned[1])
    given = flags(data_dir, own_dir)
    status, _ = forks.run(tmp_path, *given, kill_in=call)
    assert status == -signal.SIGKILL
    status, _ = forks.run(tmp_path, "--ckpt_path", "last")
    assert status == 0, (tmp_path / "out").read_text()
    expected, resumed = outcome(tuned[0]), outcome(tmp_path)
    missing = expected["curves"].keys() - resumed["curves"].keys()
    assert all(point.startswith("train/") for point in missing)
    assert resumed["curves"].items() <= expected["curves"].items()
    for part in expected.keys() - {"curves"}:
        assert resumed[part] == expected[part], part
    survived("killed")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet over gloo")
def test_two_processes_measure_what_one_does(
    data_dir: Path, own_dir: Path, tuned: tuple[Path, str], tmp_path: Path
) -> None:
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "mnist_lit.train"]
    [best] = tuned[0].glob("lightning_logs/version_0/checkpoints/best-*.ckpt")

    def run(verb: str, *more: object) -> str:
        done = subprocess.run(
            [*command, verb, *map(str, [*flags(data_dir, own_dir), *more])],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            timeout=300,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = run("fit", *two)
    assert len(re.findall(r"^own digits .* of 12, ", printed, re.MULTILINE)) == 1
    results = [
        re.findall(r"(own/acc|both/acc)\W+([\d.]+)", run("validate", *how, "--ckpt_path", best))
        for how in ([], two)
    ]
    assert len(results[0]) == 2
    assert dict(results[0]) == pytest.approx(dict(results[1])) or results[0] == results[1]


def test_what_comes_out_is_used_everywhere(
    tuned: tuple[Path, str], own_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [best] = tuned[0].glob("lightning_logs/version_0/checkpoints/best-*.ckpt")
    network = load_pretrained(best)
    assert network.settings == load_pretrained().settings
    file = next((own_dir / "7").iterdir())
    with pytest.raises(SystemExit) as ended:
        predict.main([str(file), "--ckpt", str(best), "--single"])
    assert ended.value.code == 0
    assert "  7  " in capsys.readouterr().out
    export.main(["--format", "pt", "--ckpt", str(best), "--output", str(tmp_path / "own.pt")])
    images = digits_of_test()[0][:50].float() / 255
    assert torch.equal(load_pretrained(tmp_path / "own.pt")(images), network(images))


def test_a_finished_fit_is_trained_further_from_its_weights(
    run: Run, tuned: tuple[Path, str], data_dir: Path, own_dir: Path, tmp_path: Path
) -> None:
    last = tuned[0] / "lightning_logs/version_0/checkpoints/last.ckpt"
    given = [*flags(data_dir, own_dir), "--trainer.max_epochs", 3]
    refused = run(tmp_path, *given, "--ckpt_path", last)
    assert refused.returncode == 2
    assert "--model.init_from" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    done = run(tmp_path, *given, "--model.init_from", last)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^epoch  3/3", done.stdout, re.MULTILINE)
    again = run(
        tmp_path, *given, "--ckpt_path", "last"
    )  # its end is reached: nothing is left to do
    assert again.returncode == 0, again.stderr
    states: list[dict[str, Any]] = [
        torch.load(path, weights_only=True)["lr_schedulers"][0]
        for path in (last, tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt")
    ]
    assert [state["total_steps"] for state in states] == [12, 18]


def test_a_fit_broken_off_at_once_begins_again_from_the_same_weights(
    forks: Forks, data_dir: Path, own_dir: Path, tuned: tuple[Path, str], tmp_path: Path
) -> None:
    if sys.platform == "win32":
        pytest.skip("processes are forked")
    (tuned[0] / "out").write_text(tuned[1])
    status, _ = forks.run(tmp_path, *flags(data_dir, own_dir), kill_in=("fsync", 1))
    assert status == -signal.SIGKILL
    status, _ = forks.run(tmp_path, "--ckpt_path", "last")
    assert status == 0, (tmp_path / "out").read_text()
    assert "begins anew" in (tmp_path / "out").read_text()
    states: list[dict[str, Any]] = [
        torch.load(folder / "lightning_logs" / version / "checkpoints/last.ckpt", weights_only=True)
        for folder, version in ((tuned[0], "version_0"), (tmp_path, "version_1"))
    ]
    expected, found = (state["state_dict"] for state in states)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
