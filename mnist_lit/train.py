"""The command line: `python -m mnist_lit.train [fit|validate|test|predict] [flags]`.

The only file that knows all the others. Without a verb it fits; a fit ends with one test of the
best checkpoint.
"""

import gc
import inspect
import io
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mnist_lit.callbacks import EpochSeed, StopAtAccuracy, StopOnSigterm, Threads
from mnist_lit.checkpoints import (
    Restored,
    WholeCheckpoints,
    best_and_last,
    find_config,
    saved_settings,
)
from mnist_lit.console import (
    EpochLines,
    Header,
    Progress,
    Summary,
    epochs_of,
    quiet,
    relative,
    report_thread,
)
from mnist_lit.data import MNISTDataModule
from mnist_lit.device import default_precision, keep_freed_memory
from mnist_lit.errors import SettingError, command, fail, printable
from mnist_lit.files import find_checkpoint, written_whole
from mnist_lit.module import DigitClassifier
from mnist_lit.pictures import Pictures
from mnist_lit.runs import RunFolder, in_home, log_root
from mnist_lit.settings import as_config, find_recipe
from mnist_lit.weights import OLD_SETTINGS

LIGHTNING = Path(lightning.__file__).parent


class Parser(LightningArgumentParser):
    """Reports a wrong flag in one line instead of the usage of some two hundred flags."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        renamed = [
            f"model.{old} is now model.{new}"
            for old, new in OLD_SETTINGS.items()
            if re.search(rf"\bmodel\.{old}\b", message)
        ]
        raise SettingError("; ".join([*renamed, message])) from ex


class DigitCLI(LightningCLI):
    """The flags of the Trainer, the DigitClassifier, the MNISTDataModule and StopAtAccuracy.

    Besides LightningCLI's documented hooks it overrides four that are private, as they were in
    Lightning 2.6.6: `parse_arguments` (a verb left out, the settings of a resumed fit),
    `_parse_ckpt_path` (last, best; the settings of a checkpoint), `_set_seed` and `_run_subcommand`
    (errors in a line).
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(StopAtAccuracy, "stop")
        parser.set_defaults({"stop.epochs": 5})  # of the command: alone, the callback averages none

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        args = list(sys.argv[1:] if args is None else args)
        for arg in args:
            if any("\ud800" <= c <= "\udfff" for c in arg):
                raise SettingError(
                    f"{printable(arg)}: a name that is not UTF-8, as TensorBoard's are"
                )
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["fit", *args]
        files = []
        for position, arg in enumerate(args):
            if arg.startswith("--config="):
                files.append(find_recipe(arg.removeprefix("--config=")))
                args[position] = f"--config={files[-1]}"
            elif position and args[position - 1] in ("-c", "--config"):
                args[position] = find_recipe(arg)
                files.append(args[position])
        try:
            self.config = parser.parse_args(args)
            fit = self.config.get("fit")
            if fit and fit.ckpt_path and (of := find_config(fit.ckpt_path, log_root(fit.trainer))):
                # A resumed fit has the settings that it began with; flags given now still win.
                self.config = parser.parse_args(["fit", "--config", as_config(of), *args[1:]])
        except (SettingError, UnicodeDecodeError) as error:
            if "Problems parsing config" in str(error) or isinstance(error, UnicodeDecodeError):
                raise SettingError(f"--config {' or '.join(files)} is not YAML: {error}") from error
            raise

    def _parse_ckpt_path(self) -> None:
        """Find `last` or `best` in the newest run; a checkpoint's settings win over flags."""
        config = self.config[self.config.subcommand]
        if config.ckpt_path is None:
            if self.config.subcommand != "fit":
                raise SettingError(
                    f"{self.config.subcommand} needs --ckpt_path: a checkpoint file, or last or"
                    " best for those of the newest run"
                )
            return
        config.weights_only = True  # nothing in the file is executed
        found = find_checkpoint(config.ckpt_path, log_root(config.trainer))
        # A subclass with arguments of its own may hold any network: no settings are taken from it.
        model: Any = self.model_class
        own = inspect.signature(model) != inspect.signature(DigitClassifier)
        saved = saved_settings(found) if found and not own else {}
        asked = config.ckpt_path
        if found and asked != found and getattr(rank_zero_only, "rank", 0) == 0:
            print(f"--ckpt_path {asked} is {found}", file=sys.stderr)
        if found is None:
            broken_off = f"--ckpt_path {config.ckpt_path}: the newest fit ended in its first epoch"
            if self.config.subcommand != "fit":
                raise SettingError(f"{broken_off} and saved nothing")
            warnings.warn(f"{broken_off}, so this one begins anew", stacklevel=2)
        config.ckpt_path = found
        if found and "init_from" in config.model:
            config.model.init_from = None  # the weights are those of the checkpoint
        given = config.model.clone()
        saved = {name: value for name, value in saved.items() if name in given}
        try:
            subconfig = {self.config.subcommand: {"model": saved}}
            self.config = self.parser.parse_object(subconfig, self.config)  # checks their types
        except SettingError as error:
            raise SettingError(f"--ckpt_path {found}: {error}") from error
        used = self.config[self.config.subcommand].model
        changed = [
            f"{name} {used[name]} (not {given[name]})"
            for name in saved
            if used[name] != given[name]
        ]
        if changed and getattr(rank_zero_only, "rank", 0) == 0:
            print(
                f"used as in the checkpoint: --model.{', --model.'.join(changed)}", file=sys.stderr
            )

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise SettingError(f"--seed_everything: {error}") from error

    def before_instantiate_classes(self) -> None:
        if self.subcommand != "fit":  # the checkpoint's own folder does not matter then
            warnings.filterwarnings("ignore", message="The dirpath has changed")
        trainer = self.config[self.subcommand].trainer
        in_home(trainer)
        for name in ("limit_train_batches", "limit_test_batches", "limit_predict_batches"):
            if trainer[name] == 0:
                raise SettingError(f"--trainer.{name} must be above 0")
        if re.search("spawn|notebook|fork", str(trainer.strategy)):
            raise SettingError(
                f"--trainer.strategy {trainer.strategy}: what its processes find is lost: use ddp"
            )
        if trainer.accumulate_grad_batches < 1:
            raise SettingError("--trainer.accumulate_grad_batches must be at least 1")
        if trainer.precision is None:
            trainer.precision = default_precision(trainer.accelerator)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, ImportError) as error:  # of ours and of the Trainer
            cause = re.search(
                r"given class_path '(.*?)':\s*(.*?)\s*(- Expected|Given value|$)", str(error), re.S
            )
            raise SettingError(": ".join(cause.groups()[:2]) if cause else str(error)) from error

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            with self.folder.discarded_after_an_error():
                super()._run_subcommand(subcommand)
        except SystemExit as stopped:
            if self.trainer.interrupted:  # a shell's usual status, which Lightning does not give
                number = signal.SIGTERM if isinstance(stopped, SIGTERMException) else signal.SIGINT
                raise SystemExit(128 + number) from None
            raise
        except OSError as error:
            unnamed = error.errno is not None and error.filename is None
            if unnamed and self.folder.path:
                error.filename = str(self.folder.path)  # TensorBoard's writer does not say
            raise
        except Exception as error:
            path = self.config_init[subcommand]["ckpt_path"]
            if not isinstance(error, SettingError) and self.checkpoints.restoring and path:
                reason = f"{type(error).__name__}: {error}"
                raise SettingError(f"--ckpt_path {path} cannot be restored: {reason}") from error
            *_, raised = traceback.extract_tb(error.__traceback__)
            if LIGHTNING in Path(raised.filename).parents and (raised.line or "")[:5] == "raise":
                raise SettingError(str(error)) from error  # it refuses a flag, or two together
            raise  # not about a flag or file: whoever mends it needs the traceback

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer, config = self.config_init[self.subcommand]["trainer"], self.config[self.subcommand]
        logs = log_root(config.trainer)
        parser = self._parser(self.subcommand)
        self.folder = RunFolder(logs, lambda: parser.dump(config, skip_unset=False))
        self.checkpoints, self.pictures = WholeCheckpoints(), Pictures()
        self.figures: dict[str, float | str] = {}  # of a fit, once its test is over
        both = config.data.get("own_dir") is not None
        self.best, self.last = best_and_last("both/acc" if both else "val/acc")
        given = trainer["callbacks"] or []
        given = given if isinstance(given, list) else [given]
        if trainer["barebones"]:  # Lightning's way to time the steps alone
            callbacks = [*given, Threads(), EpochSeed()]
            return super().instantiate_trainer(callbacks=callbacks, **kwargs)
        if trainer["logger"] in (None, True):
            kwargs["logger"] = TensorBoardLogger(
                logs.parent, name=logs.name, default_hp_metric=False
            )
        self.lines = EpochLines()
        ours = [Threads(), Header(), EpochSeed(), self.lines, self.pictures, StopOnSigterm()]
        callbacks = [*given, Restored(self.checkpoints), self.folder, *ours]
        if kwargs.get("logger", trainer["logger"]):
            callbacks.append(LearningRateMonitor("step"))
        if any(isinstance(callback, ProgressBar) for callback in given):
            pass  # the user's own takes the place of ours
        elif trainer["enable_progress_bar"] is not False and sys.stdout.isatty():
            callbacks.append(Progress())
        else:  # a log file gets the epoch lines alone, not thousands of redrawn bars
            kwargs["enable_progress_bar"] = False
        if trainer["enable_checkpointing"] is not False:
            callbacks += [self.best, self.last]
        kwargs["plugins"] = trainer["plugins"] or [self.checkpoints]
        if trainer["enable_model_summary"] is None:
            kwargs["enable_model_summary"] = False  # the header says the one number that matters
        made = super().instantiate_trainer(callbacks=callbacks, **kwargs)
        self.folder.claim(made, str(self.subcommand), config.ckpt_path)
        return made

    def before_fit(self) -> None:
        self.started = time.perf_counter()

    def after_fit(self) -> None:
        trainer = self.trainer
        seconds = time.perf_counter() - self.started
        if trainer.barebones:
            print(f"{trainer.global_step:,} steps in {seconds:.1f} s, with their validation")
        if trainer.barebones or self.config_init["fit"]["trainer"]["fast_dev_run"]:
            return
        if trainer.is_global_zero and not (self.folder.begun or trainer.should_stop):
            given = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
            ends = " and ".join(f"--trainer.{flag} {n}" for flag, n in given.items() if n != -1)
            epochs = epochs_of(trainer)
            trained = f"{epochs} epoch{'s' * (epochs != 1)}, {trainer.global_step} steps"
            print(f"nothing is left to train after {trained}, with {ends}", file=sys.stderr)
        score, stop = self.best.best_model_score, self.config_init["fit"]["stop"]
        fit = Summary.of(
            trainer,
            target=stop.accuracy,
            reached_epoch=stop.reached_epoch,
            best_val_acc=None if score is None else self.lines.best_val_acc or float(score),
            validated=self.lines.images,
            seconds=seconds,
            # Of the best epoch, or of the last if none was validated.
            checkpoint=self.best.best_model_path or self.last.best_model_path or None,
        )
        results = trainer.test(  # of MNIST's test set, and of one's own digits
            self.model, self.datamodule, ckpt_path=fit.checkpoint, verbose=False, weights_only=True
        )
        test: dict[str, float] = {k: v for result in results for k, v in result.items()}
        if trainer.is_global_zero:
            print(fit.text(trainer, test))
        config = self.config["fit"].as_dict()
        settings = {name: config[name] for name in ("model", "data", "stop", "seed_everything")}
        settings["trainer"] = {"max_epochs": config["trainer"]["max_epochs"]}
        fit.log(trainer, settings, test)
        self.figures = {**fit.figures(test), "checkpoint": fit.checkpoint or ""}

    def after_test(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.barebones:
            print(self.pictures.test_table())
            if self.pictures.folder:
                print(f"pictures in {relative(self.pictures.folder)}")

    def predict(self, **kwargs: Any) -> None:
        """Writes the predicted digit of each test image, one a line, to the run's log folder."""
        if self.trainer.world_size > 1:  # each process would predict its own share of the images
            raise SettingError("predict runs in one process: use --trainer.devices 1")
        batches: Any = self.trainer.predict(**kwargs)
        digits = torch.cat(batches).tolist()
        path = (self.folder.path or Path(self.trainer.default_root_dir)) / "predictions.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_text("".join(f"{digit}\n" for digit in digits))
        print(f"{len(digits):,} digits written to {path}")


def main(
    args: list[str] | None = None,
    model: type[DigitClassifier] = DigitClassifier,
    data: type[MNISTDataModule] = MNISTDataModule,
) -> dict[str, float | str]:
    """Run the command, and return the figures of a fit's summary.

    Args:
        args: The words after `mnist-lit train`; by default those of the process.
        model: DigitClassifier, or a subclass, whose arguments are then the flags --model.NAME.
        data: MNISTDataModule, or a subclass, whose arguments are then the flags --data.NAME.

    Returns:
        test_acc, best_val_acc and own_acc, as fractions; target_epoch, the epoch in which the
        target was reached; epochs; seconds; checkpoint, the path of the file that was tested ("" if
        none was saved). A figure that the fit does not have is left out, and the other verbs
        return none.

    Raises:
        SystemExit: With status 2 for a wrong flag, file or folder.
    """
    quiet()
    threading.excepthook = report_thread
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each epoch at once, through a pipe, too
    keep_freed_memory()
    try:
        return DigitCLI(
            model,
            data,
            save_config_callback=None,  # RunFolder writes it
            seed_everything_default=42,
            trainer_defaults={"max_epochs": 20},
            parser_class=Parser,
            parser_kwargs={"prog": command("train")},
            auto_configure_optimizers=False,
            args=args,
            load_from_checkpoint_support=False,
        ).figures
    except (SettingError, MisconfigurationException) as error:
        fail(error, status=2)
    finally:
        # Lightning leaves gloo's threads running, which now and then abort a process as it exits.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    from mnist_lit.__main__ import guarded

    gc.freeze()  # the end of the process need not search what was imported: a second less
    guarded(main, by_exception=True)
