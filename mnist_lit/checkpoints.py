"""Which checkpoints are kept, how they are written whole and found again, with their settings."""

import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mnist_lit.errors import SettingError, explain
from mnist_lit.files import find_checkpoint, newest, written_whole
from mnist_lit.state import check_progress, check_training
from mnist_lit.weights import load_checkpoint, network_from


class OwnCheckpoints(ModelCheckpoint):
    """Resumed from a checkpoint, it forgets the files named there that its own folder lacks.

    It would remove the former best one, and a checkpoint is not trusted to say what to remove. The
    folder may have another name than in the checkpoint: it was moved, or the command is run in
    another working folder.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        former = state_dict.get("dirpath")

        def renamed(path: str) -> str:
            folder, name = os.path.split(path)
            return os.path.join(self.dirpath or "", name) if path and folder == former else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        here: dict[str, Any] = {
            name: renamed(state_dict[name]) for name in paths if name in state_dict
        }
        scores = state_dict.get("best_k_models", {})
        here["best_k_models"] = {renamed(path): score for path, score in scores.items()}
        super().load_state_dict(state_dict | here | {"dirpath": self.dirpath})
        self.current_score = state_dict.get("current_score")  # Lightning saves it, no more
        named = [self.best_model_path, self.kth_best_model_path, *self.best_k_models]
        if not all(self._owns(path) for path in named if path):
            self.best_model_path = self.kth_best_model_path = ""
            self.best_model_score = None
            self.best_k_models = {}

    def _owns(self, path: Any) -> bool:
        path, folder = Path(path).resolve(), Path(self.dirpath or "").resolve()
        return path.parent == folder and path.suffix == ".ckpt" and path.is_file()


def best_and_last(monitor: str = "val/acc") -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """Keep the checkpoint of the highest `monitor`, and that of the last epoch to resume from."""
    best = OwnCheckpoints(
        monitor=monitor,
        mode="max",
        filename=f"best-{{{monitor}:.4f}}",
        auto_insert_metric_name=False,
        # A fit killed between the writing of the two files writes this one again when resumed.
        enable_version_counter=False,
        # Saved when an epoch ends, or after each validation where they are not the same.
    )
    # Not `save_last=True` above: it skips the epochs that are not the best.
    last = OwnCheckpoints(
        filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    return best, last


class WholeCheckpoints(TorchCheckpointIO):
    """A process killed while it writes a checkpoint leaves the one before it as it was.

    Lightning's own writer goes by way of the system's folder of temporary files, from where a file
    is copied, not renamed, if that is another disk.
    """

    restoring = False  # a checkpoint was loaded, and not all of it is in its place yet
    path: Any = None  # of that checkpoint

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(_without_sharing(checkpoint), content)
        with written_whole(path) as partial, partial.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # the machine may lose its power, too

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        self.restoring, self.path = True, path
        content: dict[str, Any] = load_checkpoint(path)
        if content.get("callbacks") is None:
            content["callbacks"] = {}  # else Lightning would not call Restored.on_load_checkpoint
        return content


def _without_sharing(value: Any) -> Any:
    """A checkpoint without a list or dictionary in two places, which trust.py refuses.

    Lightning's StochasticWeightAveraging puts the state of its schedule into two.
    """
    if type(value) is dict:
        return {key: _without_sharing(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_without_sharing(item) for item in value)
    return value


class Restored(Callback):
    """Has the state in a checkpoint checked before Lightning puts it in its place, and says when.

    Its schedule may contradict its progress, so it also ends a fit that would go on past its end.
    """

    def __init__(self, checkpoints: WholeCheckpoints) -> None:
        self.checkpoints = checkpoints
        self.content: dict[str, Any] | None = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.content = checkpoint
        self._check(check_progress, trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.content is not None:
            self._check(check_training, trainer)
            # With --trainer.max_steps, Lightning 2.6.6 takes every checkpoint for one of an epoch
            # that is not over yet, and would end the epoch of last.ckpt a second time.
            trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
        self.content = None

    def _check(self, check: Callable[[dict[str, Any], Trainer], None], trainer: Trainer) -> None:
        try:
            check(self.content or {}, trainer)
        except ValueError as error:
            raise SettingError(f"--ckpt_path {self.checkpoints.path}: {error}") from error

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for config in trainer.lr_scheduler_configs if self.checkpoints.path else ():
            schedule: Any = config.scheduler
            if schedule.last_epoch >= getattr(schedule, "total_steps", math.inf):
                path = self.checkpoints.path
                raise SettingError(f"--ckpt_path {path}: its schedule ends before its epochs do")

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.checkpoints.restoring = False

    on_train_start = on_validation_start = on_test_start = on_predict_start = on_sanity_check_start


def find_config(ckpt_path: str, logs: Path) -> Path | None:
    """The config.yaml of the fit under `logs` that such a checkpoint belongs to."""
    found = find_checkpoint(ckpt_path, logs) if ckpt_path in ("last", "best") else ckpt_path
    if found is None:
        return newest(logs.glob("*/config.yaml"))
    version = Path(found).resolve().parent.parent
    if version.parent != logs.resolve():
        return None  # the settings of a file from elsewhere are not taken over
    config = version / "config.yaml"
    return config if config.exists() else None


def saved_settings(path: str) -> dict[str, Any]:
    """The arguments of the DigitClassifier in a checkpoint; nothing in the file is executed.

    Raises:
        SettingError: It cannot be read, or is not the checkpoint of a DigitClassifier.
    """
    try:
        checkpoint = load_checkpoint(path)
        network = network_from(checkpoint)
        # A checkpoint that is older than these settings lacks them.
        older: dict[str, Any] = {"network": "DigitNet", "margin": 0, "tta": False}
        settings = older | checkpoint["hyper_parameters"]
        if settings["network"] == "TinyNet":  # an older one had this setting without its effect
            settings |= {"wide": network.settings["wide"]}
        for name, value in {"network": type(network).__name__, **network.settings}.items():
            if settings[name] != value:
                raise ValueError(f"its {name} contradicts its weights")
        if not all(
            isinstance(value, int)
            or (isinstance(value, float) and math.isfinite(value))
            or (isinstance(value, str) and value.isidentifier())  # no module's class
            for value in settings.values()
        ):
            raise ValueError("its settings are neither numbers nor words")
    except (AttributeError, KeyError, TypeError) as error:
        reason = "weights alone, not a checkpoint of a fit"
        raise SettingError(f"--ckpt_path {path}: {reason}") from error
    except (OSError, ValueError) as error:
        raise SettingError(f"--ckpt_path {path}: {explain(error)}") from error
    return settings
