"""A run's folder, lightning_logs/version_N: claimed by one command alone, with its config.yaml."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from mnist_lit.errors import SettingError, explain
from mnist_lit.files import written_whole


class RunFolder(Callback):
    """The folder of a command's curves, checkpoints and config.yaml; that of a fit it resumes.

    Lightning's loggers look for a number that is free and claim nothing, so that commands which are
    started together would share it. Here a folder is made at once, by the first of the processes,
    and the others are told by Lightning.

    Args:
        logs: The folder that holds version_0, version_1, ...
        config: Gives the text of config.yaml.
    """

    def __init__(self, logs: Path, config: Callable[[], str]) -> None:
        self.logs, self.config = logs, config
        self.path: Path | None = None  # None in the other processes, or if nothing is written
        self.made: list[Path] = []  # by this command, from the inside out
        self.begun = False  # a step of training was made

    def claim(self, trainer: Trainer, verb: str, ckpt_path: str | None) -> None:
        """Once, by the process that writes; its loggers get their number here.

        Raises:
            SettingError: A logger of the user's own has a version that is an earlier fit's folder.
        """
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        resumed = resumed_version(ckpt_path, self.logs) if verb == "fit" else None
        numbers = {} if resumed is None else {self.logs.resolve(): resumed}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger | CSVLogger) and logger._version is None:
                root = Path(logger.root_dir).expanduser()
                if root.resolve() not in numbers:
                    numbers[root.resolve()] = self._make(root)
                logger._version = numbers[root.resolve()]
        if trainer.logger:
            self.path = folder_of(trainer.logger)
        elif verb == "fit" and trainer.checkpoint_callbacks:
            number = self._make(self.logs) if resumed is None else resumed
            self.path = self.logs / f"version_{number}"
            for callback in trainer.checkpoint_callbacks:
                callback.dirpath = callback.dirpath or str(self.path / "checkpoints")  # type: ignore[attr-defined]
        if self.path and verb == "fit" and self.path not in self.made:  # a logger of the user's own
            last = self.path / "checkpoints" / "last.ckpt"
            resumes = ckpt_path is not None and Path(ckpt_path).resolve() == last.resolve()
            if not resumes and (last.exists() or (self.path / "config.yaml").exists()):
                raise SettingError(
                    f"--trainer.logger: {self.path} holds an earlier fit: use another version, or"
                    f" --ckpt_path {last} to go on with it"
                )

    def _make(self, logs: Path) -> int:
        """Makes the next version_N under `logs`. Only one process can have made it."""
        taken = [re.fullmatch(r"version_(\d+)", path.name) for path in logs.glob("version_*")]
        number = max((int(match[1]) for match in taken if match), default=-1) + 1
        while True:
            folder = logs / f"version_{number}"
            missing = [path for path in folder.parents if not path.exists()]
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                number += 1
            except OSError as error:
                raise OSError(
                    f"{folder.absolute()}: {explain(error)}: --trainer.default_root_dir DIR is for"
                    " another folder"
                ) from error
            else:
                self.made += [folder, *missing]
                return number

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes config.yaml; a fit that is resumed in its folder keeps the one it has."""
        if self.path and not (self.path / "config.yaml").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            with written_whole(self.path / "config.yaml") as partial:
                partial.write_text(self.config(), "utf-8")
            self.made.insert(0, self.path / "config.yaml")
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):  # which takes the indented for code
                    logger.experiment.add_text("config", indent(self.config(), "    "))

    def on_train_batch_end(self, *_: Any) -> None:
        self.begun = True

    @contextlib.contextmanager
    def discarded_after_an_error(self) -> Iterator[None]:
        """A command that fails before its first step leaves nothing of its own behind."""
        try:
            yield
        except BaseException:
            if not self.begun:
                self._discard()
            raise

    def _discard(self) -> None:
        for path in self.made:
            if path.name.startswith("version_"):
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir():
                with contextlib.suppress(OSError):  # someone else's run is there by now
                    path.rmdir()
            else:
                path.unlink(missing_ok=True)


def folder_of(logger: Any) -> Path | None:
    """Where a logger's run is, and where Lightning puts `checkpoints`; None if on no disk."""
    if logger.save_dir is None or logger.version is None:
        return None
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(logger.save_dir, str(logger.name), version)


def in_home(trainer_config: Namespace) -> None:
    """`~` in the folders that are given: Lightning would make one of that name."""
    loggers = trainer_config["logger"]
    for item in loggers if isinstance(loggers, list) else [loggers]:
        if isinstance(item, Namespace) and item.get("init_args.save_dir"):
            item.init_args.save_dir = os.path.expanduser(item.init_args.save_dir)
    if trainer_config["default_root_dir"]:
        trainer_config.default_root_dir = os.path.expanduser(trainer_config["default_root_dir"])


def log_root(trainer_config: Namespace) -> Path:
    """The folder that holds version_0, version_1, ..., also with a logger of the user's own."""
    folder, name = trainer_config["default_root_dir"] or ".", "lightning_logs"
    logger = trainer_config["logger"]
    first = (logger or [None])[0] if isinstance(logger, list) else logger
    if isinstance(first, Namespace) and "init_args" in first:
        given = first.init_args
        folder = given.get("save_dir") or folder
        name = given.get("project") or given.get("name", name) or ""
    return Path(folder).expanduser() / name


def resumed_version(ckpt_path: str | None, logs: Path) -> int | None:
    """N if this is last.ckpt of version_N under `logs`, whose folder the fit then goes on with.

    Any other checkpoint starts a new folder, so that nothing which came after it is overwritten.
    """
    path = Path(ckpt_path or "").resolve()
    version = re.fullmatch(r"version_(\d+)", path.parent.parent.name)
    if version and path == logs.resolve() / version[0] / "checkpoints" / "last.ckpt":
        return int(version[1])
    return None
