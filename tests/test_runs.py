"""A run's folder: nobody else's, left by no command that did nothing, and found again."""

import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Run
from jsonargparse import Namespace
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit.runs import RunFolder, log_root, resumed_version

TB = "lightning.pytorch.loggers.TensorBoardLogger"
CSV = "lightning.pytorch.loggers.CSVLogger"


def small(data_dir: Path) -> list[object]:
    """An epoch of three steps."""
    limits = {"train": 3, "val": 2, "test": 2}
    flags = [f"--trainer.limit_{part}_batches={number}" for part, number in limits.items()]
    return [*flags, "--trainer.max_epochs", 1, "--data.data_dir", data_dir]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def fit(run: Run, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a fit was made."""
    cwd = tmp_path_factory.mktemp("fit")
    done = run(cwd, *small(data_dir))
    assert done.returncode == 0, done.stderr
    return cwd


@pytest.fixture
def fitted(fit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fit, tmp_path / "fit"))


def test_folders_made_at_the_same_time_are_not_shared(tmp_path: Path) -> None:
    numbers: list[int] = []
    start = threading.Barrier(16)

    def make() -> None:
        start.wait()
        numbers.append(RunFolder(tmp_path / "logs", str)._make(tmp_path / "logs"))

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(16))


@pytest.mark.slow
def test_fits_started_together_have_a_folder_each(data_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mnist_lit.train", *map(str, small(data_dir))]
    fits = [
        subprocess.Popen(
            [*command, "--seed_everything", str(seed)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    printed = [fit.communicate(timeout=300)[0] for fit in fits]
    assert [fit.returncode for fit in fits] == [0, 0, 0]
    for seed, text in enumerate(printed):
        [checkpoint] = re.findall(r"^checkpoint +(\S+)$", text, re.MULTILINE)
        assert (tmp_path / checkpoint).is_file()
        config = (tmp_path / checkpoint).parent.parent / "config.yaml"
        assert yaml.safe_load(config.read_text())["seed_everything"] == seed
    assert len(list((tmp_path / "lightning_logs").iterdir())) == 3


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--ckpt_path", "best", "--trainer.max_epochs", 4], 2),  # another schedule
        (["--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping"], 2),  # monitors what?
        (["validate", "--ckpt_path", "best", "--data.data_dir", "/dev/null"], 1),
    ],
    ids=["schedule", "callback", "validate"],
)
def test_a_command_that_fails_before_its_first_step_leaves_nothing(
    flags: list[object], status: int, run: Run, fitted: Path, data_dir: Path
) -> None:
    before = files(fitted)
    folders = set(fitted.rglob("version_*"))
    verb = flags[:1] if flags[0] == "validate" else []
    done = run(fitted, *verb, *small(data_dir), *flags[len(verb) :])
    assert done.returncode == status, done.stderr
    assert files(fitted) == before
    assert set(fitted.rglob("version_*")) == folders


def test_the_first_command_of_all_leaves_nothing_either(run: Run, tmp_path: Path) -> None:
    done = run(tmp_path, "--data.data_dir", "/dev/null")
    assert done.returncode == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_last_and_best_are_of_the_newest_fit_that_saved_something(
    run: Run, fitted: Path, data_dir: Path
) -> None:
    broken_off = fitted / "lightning_logs" / "version_7"
    broken_off.mkdir()
    shutil.copy(fitted / "lightning_logs/version_0/config.yaml", broken_off)
    [best] = fitted.glob("lightning_logs/version_0/checkpoints/best-*.ckpt")
    done = run(fitted, "validate", *small(data_dir), "--ckpt_path", "best")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"--ckpt_path best is {best.relative_to(fitted)}\n"
    done = run(fitted, "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr
    assert "--ckpt_path last is lightning_logs/version_0/checkpoints/last.ckpt\n" in done.stderr
    assert "begins anew" not in done.stderr


def test_best_of_a_fit_without_validation_is_refused(
    run: Run, data_dir: Path, tmp_path: Path
) -> None:
    none = ["--trainer.limit_val_batches", 0]
    assert run(tmp_path, *small(data_dir), *none).returncode == 0
    done = run(tmp_path, "test", "--ckpt_path", "best")
    assert done.returncode == 2
    assert done.stderr == (
        "error: --ckpt_path best: lightning_logs/version_0 validated nothing: use last\n"
    )


def test_a_version_of_the_users_own_is_no_earlier_fits(
    run: Run, data_dir: Path, tmp_path: Path
) -> None:
    logger = [f"--trainer.logger={TB}", "--trainer.logger.save_dir=.", "--trainer.logger.version=a"]
    assert run(tmp_path, *small(data_dir), *logger).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    done = run(tmp_path, *small(data_dir), *logger, "--model.narrow", 4)
    assert done.returncode == 2
    assert "--trainer.logger: lightning_logs/a holds an earlier fit" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    last = "lightning_logs/a/checkpoints/last.ckpt"
    done = run(tmp_path, "--ckpt_path", last)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("logger", ["false", CSV], ids=["none", "csv"])
def test_without_tensorboard_each_fit_has_its_folder_too(
    logger: str, run: Run, data_dir: Path, tmp_path: Path
) -> None:
    flags = [f"--trainer.logger={logger}"]
    if logger == CSV:
        flags.append("--trainer.logger.save_dir=logs")
    logs = "lightning_logs" if logger == "false" else "logs/lightning_logs"
    for number in range(2):
        done = run(tmp_path, *small(data_dir), *flags)
        assert done.returncode == 0, done.stderr
        version = tmp_path / logs / f"version_{number}"
        assert (version / "config.yaml").is_file()
        assert (version / "checkpoints" / "last.ckpt").is_file()
        assert f"checkpoint  {logs}/version_{number}/checkpoints/best" in done.stdout
        assert (version / "test-errors.png").is_file() == (logger == CSV)
    assert not (tmp_path / "checkpoints").exists()
    done = run(tmp_path, *flags, "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr
    assert f"--ckpt_path last is {logs}/version_1/checkpoints/last.ckpt\n" in done.stderr
    assert not (tmp_path / logs / "version_2").exists()


@pytest.mark.slow
def test_a_second_logger_gets_the_pictures_and_the_figures_too(
    data_dir: Path, tmp_path: Path
) -> None:
    loggers = [f"--trainer.logger+={CSV}", "--trainer.logger.save_dir=logs"]
    loggers += [f"--trainer.logger+={TB}", "--trainer.logger.save_dir=~/boards"]
    code = "import os; os.environ['HOME'] = os.getcwd(); import mnist_lit.train as t; t.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, [*small(data_dir), *loggers])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version = tmp_path / "logs/lightning_logs/version_0"
    names = {path.name for path in version.iterdir()}
    assert {"metrics.csv", "config.yaml", "checkpoints", "test-errors.png"} <= names
    assert "final/test_acc" in (version / "metrics.csv").read_text()
    board = tmp_path / "boards/lightning_logs/version_0"
    tags = EventAccumulator(str(board)).Reload().Tags()
    assert {"final/test_acc", "test-digits/7"} <= set(tags["scalars"])
    assert {"val/errors", "test/errors"} <= set(tags["images"])
    assert not (tmp_path / "~").exists()


@pytest.mark.slow
def test_a_home_folder_is_found(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "home" / "data").symlink_to(data_dir)
    code = "import sys, os; os.environ['HOME'] = sys.argv.pop(1); import mnist_lit.train as t; t."
    flags = ["--data.data_dir", "~/data", "--trainer.default_root_dir", "~/runs"]
    done = subprocess.run(
        [
            *(sys.executable, "-c", code + "main()", str(tmp_path / "home")),
            *map(str, [*small(data_dir), *flags]),
        ],
        cwd=tmp_path / "work",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "work").iterdir()) == []
    assert (tmp_path / "home/runs/lightning_logs/version_0/checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize(
    ("logger", "root"),
    [
        (None, "there/lightning_logs"),
        (False, "there/lightning_logs"),
        (Namespace(class_path=CSV, init_args=Namespace(save_dir="x", name="y")), "x/y"),
        ([Namespace(class_path=TB, init_args=Namespace(save_dir="x"))], "x/lightning_logs"),
    ],
)
def test_logs_lie_where_the_first_logger_puts_them(logger: Any, root: str) -> None:
    trainer = Namespace(default_root_dir="there", logger=logger)
    assert log_root(trainer) == Path(root)


def test_only_the_last_checkpoint_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    checkpoints = logs / "version_3" / "checkpoints"
    assert resumed_version(str(checkpoints / "last.ckpt"), logs) == 3
    assert resumed_version(str(checkpoints / "best-0.9940.ckpt"), logs) is None
    assert resumed_version(str(checkpoints / "last.ckpt"), tmp_path / "elsewhere") is None
    assert resumed_version(None, logs) is None


def test_a_folder_that_may_not_be_made_is_named_whole_with_its_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self.parent))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "mkdir", refuse)
    folder = tmp_path / "lightning_logs" / "version_0"
    with pytest.raises(OSError, match="default_root_dir DIR") as refused:
        RunFolder(Path("lightning_logs"), str)._make(Path("lightning_logs"))
    assert str(refused.value).startswith(f"{folder}: Permission denied: ")
