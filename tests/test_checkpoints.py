"""Which checkpoints a fit keeps, how they are found again, and which are refused."""

import argparse
import importlib
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Survived
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from mnist_lit.checkpoints import (
    WholeCheckpoints,
    best_and_last,
    find_config,
    saved_settings,
)
from mnist_lit.files import find_checkpoint, last_or_best
from mnist_lit.module import DigitClassifier


class Scripted(LightningModule):
    """Reports the given validation accuracies, one an epoch."""

    def __init__(self, accuracies: list[float]) -> None:
        super().__init__()
        self.accuracies = accuracies
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, *_: Any) -> torch.Tensor:
        return self.weight * 1

    def validation_step(self, *_: Any) -> None:
        self.log("val/acc", self.accuracies[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1)


@pytest.mark.filterwarnings("ignore:The '.*' does not have many workers")
def test_checkpoints_are_of_the_best_and_of_the_last_epoch(tmp_path: Path) -> None:
    loader: Any = DataLoader(range(1))  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=4,
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(best_and_last()),
    )
    trainer.fit(Scripted([0.1, 0.9, 0.2, 0.3]), loader, loader)
    epochs = {
        path.name: torch.load(path, weights_only=True)["epoch"]
        for path in (tmp_path / "checkpoints").iterdir()
    }
    assert epochs == {"best-0.9000.ckpt": 1, "last.ckpt": 3}


def test_the_newest_fit_is_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no fit has begun"):
        find_checkpoint("last", tmp_path)
    (tmp_path / "version_8").mkdir()
    (tmp_path / "version_8" / "config.yaml").touch()  # broken off in its first epoch
    assert find_checkpoint("last", tmp_path) is None
    assert find_config("last", tmp_path) == tmp_path / "version_8" / "config.yaml"
    for number, files in enumerate((["last", "best-0.9930", "best-0.9940"], ["last"], [])):
        version = tmp_path / f"version_{number}"
        (version / "checkpoints").mkdir(parents=True)
        (version / "config.yaml").touch()
        os.utime(version / "config.yaml", (number, number))
        for name in files:
            (version / "checkpoints" / f"{name}.ckpt").touch()
            os.utime(version / "checkpoints" / f"{name}.ckpt", (number, number))
        (tmp_path / "version_9").mkdir(exist_ok=True)  # of a test: it is no fit
        found = find_checkpoint("last", tmp_path)
        saved = version if files else tmp_path / "version_1"
        assert found == str(saved / "checkpoints" / "last.ckpt")
        config = saved / "config.yaml"
        assert find_config("last", tmp_path) == config
        if files:
            assert find_config(str(version / "checkpoints" / "last.ckpt"), tmp_path) == config
            assert find_config(str(version / "checkpoints" / "last.ckpt"), tmp_path / "x") is None
        if number == 0:
            assert Path(find_checkpoint("best", tmp_path) or "").name == "best-0.9940.ckpt"
        else:
            with pytest.raises(ValueError, match="version_1 validated nothing: use last"):
                find_checkpoint("best", tmp_path)


def test_a_commands_ckpt_finds_last_and_best_as_train_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert last_or_best("absent.ckpt") == "absent.ckpt"  # the command says what is wrong with it
    with pytest.raises(argparse.ArgumentTypeError, match="best: no fit has begun under lightning_"):
        last_or_best("best")
    version = Path("lightning_logs/version_0")
    (version / "checkpoints").mkdir(parents=True)
    (version / "config.yaml").touch()
    with pytest.raises(argparse.ArgumentTypeError, match="last: the newest fit ended in its first"):
        last_or_best("last")
    for name in ("last", "best-0.9930"):
        (version / "checkpoints" / f"{name}.ckpt").touch()
        assert last_or_best(name[:4]) == str(version / "checkpoints" / f"{name}.ckpt")
    assert capsys.readouterr().err.startswith(
        "--ckpt last is lightning_logs/version_0/checkpoints/"
    )


@pytest.mark.parametrize("command", ["predict", "export", "demo"])
def test_a_command_takes_best_for_its_ckpt(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("lightning_logs/version_0/checkpoints")
    folder.mkdir(parents=True)
    (folder / "best-0.9930.ckpt").write_text("no weights")
    arguments = {"predict": ["x.png"], "export": ["--output", "x.onnx"], "demo": []}[command]
    with pytest.raises(SystemExit):
        importlib.import_module(f"mnist_lit.{command}").main([*arguments, "--ckpt", "best"])
    said = capfd.readouterr().err
    assert f"--ckpt {folder}/best-0.9930.ckpt: not a file of weights that can be read" in said


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    writer = WholeCheckpoints()
    writer.save_checkpoint({"epoch": 1}, path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*last\.ckpt"):
        writer.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(path.parent.iterdir()) == [path]


def test_what_stands_in_two_places_of_a_checkpoint_is_read(tmp_path: Path) -> None:
    path, rates = tmp_path / "x.ckpt", [0.5]
    writer = WholeCheckpoints()
    writer.save_checkpoint({"a": {"rates": rates}, "b": ([rates], rates)}, path)
    expected = {"a": {"rates": [0.5]}, "b": ([[0.5]], [0.5]), "callbacks": {}}
    assert writer.load_checkpoint(path) == expected


def test_a_trainer_reads_no_more_than_the_safe_loader(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(1).expand(10**9)}}, path)
    with pytest.raises(ValueError, match="read safely"):
        WholeCheckpoints().load_checkpoint(path)


@pytest.mark.parametrize(
    "named", ["", "../../precious", "..", "precious.ckpt", "../best.ckpt", "gone.ckpt"]
)
def test_a_resumed_checkpoint_does_not_say_what_to_remove(named: str, tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "checkpoints"
    for precious in (tmp_path / "precious", folder / "precious.ckpt"):
        precious.mkdir(parents=True)
    (folder.parent / "best.ckpt").touch()
    for callback in best_and_last():
        callback.dirpath = str(folder)
        path = str(folder / named) if named else str(folder / "best-0.5000.ckpt")
        if not named:
            Path(path).touch()
        state = callback.state_dict() | {
            "dirpath": str(folder),
            "best_model_path": path,
            "best_k_models": {path: torch.tensor(0.5)},
        }
        callback.load_state_dict(state)
        assert callback.best_model_path == ("" if named else path)
        assert bool(callback.best_k_models) == (not named)


@pytest.mark.parametrize("former", ["lightning_logs/version_0/checkpoints", "/elsewhere"])
def test_a_checkpoint_in_a_folder_that_was_moved_keeps_its_files(
    former: str, tmp_path: Path
) -> None:
    path = tmp_path / "best-0.5000.ckpt"
    path.touch()
    best, _ = best_and_last()
    best.dirpath = str(tmp_path)
    named = f"{former}/{path.name}"
    best.load_state_dict(
        best.state_dict()
        | {"dirpath": former, "best_model_path": named, "kth_best_model_path": named}
        | {"best_k_models": {named: torch.tensor(0.5)}, "best_model_score": torch.tensor(0.5)}
    )
    assert best.best_model_path == best.kth_best_model_path == str(path)
    assert best.best_k_models == {str(path): torch.tensor(0.5)}
    assert best.best_model_score == 0.5


def a_checkpoint() -> dict[str, Any]:
    model = DigitClassifier(narrow=2, wide=3, max_lr=0.5)
    return {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}


@pytest.mark.parametrize("since", ["today", "when there was one network, without a margin or TTA"])
def test_settings_come_from_the_checkpoint(since: str, tmp_path: Path) -> None:
    checkpoint = a_checkpoint()
    if since != "today":
        for setting in ("network", "margin", "tta"):
            del checkpoint["hyper_parameters"][setting]
    torch.save(checkpoint, tmp_path / "x.ckpt")
    settings = saved_settings(str(tmp_path / "x.ckpt"))
    assert (settings["narrow"], settings["wide"], settings["max_lr"]) == (2, 3, 0.5)


def test_an_older_tiny_checkpoint_is_of_its_weights_width(tmp_path: Path) -> None:
    model = DigitClassifier(network="TinyNet", narrow=2, wide=12)
    older = dict(model.hparams) | {"wide": 32}  # the default, whatever its weights
    saved = {"state_dict": model.state_dict(), "hyper_parameters": older}
    torch.save(saved, tmp_path / "x.ckpt")
    assert saved_settings(str(tmp_path / "x.ckpt")) == older | {"wide": 12}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda saved: saved.pop("hyper_parameters"), "weights alone"),
        (lambda saved: saved.update(hyper_parameters=[]), "weights alone"),
        (lambda saved: saved["hyper_parameters"].pop("wide"), "weights alone"),
        (lambda saved: saved["hyper_parameters"].update(wide=10**9), "its wide contradicts"),
        (
            lambda saved: saved["hyper_parameters"].update(network="TinyNet"),
            "its network contradicts",
        ),
        (lambda saved: saved.pop("state_dict"), "not the weights of a DigitNet"),
        (lambda saved: saved["hyper_parameters"].update(max_lr=[[1]]), "nor words"),
        (lambda saved: saved["hyper_parameters"].update(max_lr=None), "nor words"),
        (lambda saved: saved["hyper_parameters"].update(max_lr=math.nan), "nor words"),
        (lambda saved: saved["hyper_parameters"].update(max_lr=-(10**400)), "read safely"),
        (lambda saved: saved.update(state_dict=7), "not the weights of a DigitNet"),
    ],
)
def test_what_is_no_checkpoint_of_ours_is_named(
    tmp_path: Path, damage: Any, said: str, survived: Survived
) -> None:
    checkpoint = a_checkpoint()
    damage(checkpoint)
    path = tmp_path / "x.ckpt"
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=f"--ckpt_path {path}: .*{said}"):
        saved_settings(str(path))
    with pytest.raises(ValueError, match=r"--ckpt_path .*: Is a directory"):
        saved_settings(str(tmp_path))
    survived("wrong part")
