"""What a run prints: its header, the bar, a line for each epoch, the summary, an error."""

import logging
import math
import shlex
import threading
import time
import warnings
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from tqdm import tqdm

from mnist_lit.device import describe_device

# TensorBoard's HPARAMS tab opens with the first five columns.
FIRST_COLUMNS = (
    *(("model", name) for name in ("network", "optimizer", "max_lr")),
    *(("data", "batch_size"), ("trainer", "max_epochs")),
)


class Header(Callback):
    """Says what is trained and on what, once the processes have shared out the threads.

    And of one's own digits how many there are, and how many the first weights get right.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network: Any = pl_module.network
        say(
            trainer,
            f"{type(network).__name__}, {parameters(network):,} parameters,"
            f" on {describe_device(trainer)}",
        )
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if getattr(data, "own_dir", None) is not None:
            line = f"own digits: {data.own_train} to train with, {len(data.own_val_set)} held out"
            if trainer.ckpt_path is None and getattr(pl_module, "init_from", None):
                line += f" ({percent(pl_module.accuracy(data.own_val_set))} as it starts)"  # type: ignore[operator]
            say(trainer, line)


class Progress(TQDMProgressBar):
    """One bar with the batch's loss and the epoch's running accuracy."""

    def __init__(self) -> None:
        # A refresh costs as much as a small step, so only every 20 steps.
        super().__init__(refresh_rate=20, leave=False)
        self.loss = torch.tensor(math.nan)
        self.first_step: int | None = None  # of this process, once it trains

    def init_train_tqdm(self) -> Any:
        return self._cleared(super().init_train_tqdm())

    def init_test_tqdm(self) -> Any:
        return self._cleared(super().init_test_tqdm())

    def init_predict_tqdm(self) -> Any:
        return self._cleared(super().init_predict_tqdm())

    def init_validation_tqdm(self) -> Any:
        bar = super().init_validation_tqdm()
        if self.trainer.state.fn == "fit":
            bar.disable = True  # two seconds: no bar of its own
        return self._cleared(bar)

    @staticmethod
    def _cleared(bar: Any) -> Any:
        bar.leave = False  # once it is full
        return bar

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.started, self.first_step = time.perf_counter(), trainer.global_step

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Any:
        # From the metric's own counts: compute() would wait for the other processes under DDP.
        metric: Any = pl_module.train_acc
        correct, wrong = metric.tp.sum(), metric.fn.sum()
        shown = {"loss": f"{float(self.loss):.4f}", "acc": percent(correct / (correct + wrong))}
        if self.first_step is not None and (done := trainer.global_step - self.first_step):
            steps = trainer.estimated_stepping_batches - trainer.global_step
            seconds = (time.perf_counter() - self.started) / done * steps
            shown["whole fit"] = f"{tqdm.format_interval(seconds)} left"
        return shown

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.train_progress_bar.set_description(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.loss = outputs["loss"]
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class EpochLines(Callback):
    """Prints a line for every epoch, with a star where `val/acc` is the best so far.

    With one's own digits, where the mean of `own/acc` and `val/acc` is.
    """

    def __init__(self) -> None:
        self.best = -1.0
        self.best_val_acc: float | None = None  # in that epoch
        self.images = 0  # in a validation
        self.validated: dict[str, Tensor] = {}  # since the last line
        self.started = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.started = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.validated = dict(trainer.callback_metrics)
            val_set = trainer.datamodule.val_set  # type: ignore[attr-defined]
            self.images = images_in(val_set, trainer.num_val_batches[:1], trainer)
            val_acc = float(self.validated["val/acc"])
            judged = float(self.validated.get("both/acc", val_acc))
            self.star = "*" if judged > self.best else " "
            if judged > self.best:
                self.best, self.best_val_acc = judged, val_acc

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        line = (
            f"epoch {trainer.current_epoch + 1:2d}/{trainer.max_epochs}"
            f"   train loss {metrics['train/loss']:.4f}  acc {percent(metrics['train/acc'])}"
        )
        if self.validated:  # not the figures of an earlier epoch, which the trainer keeps
            val_loss, val_acc = self.validated["val/loss"], self.validated["val/acc"]
            own = ""
            if "own/acc" in self.validated:
                own = f"  own {percent(self.validated['own/acc'])}"
            line += f"   val loss {val_loss:.4f}  acc {percent(val_acc)}{own} {self.star}"
            self.validated = {}
        say(trainer, f"{line}  {time.perf_counter() - self.started:6.1f} s")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if not isinstance(exception, KeyboardInterrupt | SIGTERMException | OSError):
            return
        callbacks = trainer.checkpoint_callbacks
        named = [Path(getattr(callback, "best_model_path", "")) for callback in callbacks]
        last = [path for path in named if path.name == "last.ckpt" and path.is_file()]
        if saved := last[0] if last else trainer.ckpt_path:
            say(trainer, f"interrupted: --ckpt_path {saved} goes on from its last whole epoch")
        elif trainer.state.fn == "fit":
            say(trainer, "interrupted in the first epoch: nothing is saved yet")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_val_acc": self.best_val_acc, "images": self.images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.best_val_acc = state_dict.get("best_val_acc")  # older versions saved none
        self.images = state_dict.get("images", 0)  # nor these


class Summary(NamedTuple):
    """What a fit came to, taken down before its test, which restores the best epoch's state."""

    device: str
    parameters: int
    target: float | None  # val/acc, as a fraction, at which to stop
    reached_epoch: int | None  # counted from 1
    epochs: int
    best_val_acc: float | None  # None if nothing was validated
    validated: int  # images
    looks: str  # how often the test images were looked at
    seconds: float
    checkpoint: str | None  # the file that is tested
    curves: str | None  # the folder for TensorBoard

    @classmethod
    def of(cls, trainer: Trainer, **figures: Any) -> "Summary":
        """Of the fit that has just ended; `figures` are those that the trainer does not know."""
        module: Any = trainer.lightning_module
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        unseen = data.val_size or trainer.limit_val_batches == 0
        boards = [x.root_dir for x in trainer.loggers if isinstance(x, TensorBoardLogger)]
        return cls(
            device=describe_device(trainer),
            parameters=parameters(module.network),
            epochs=epochs_of(trainer),
            looks="measured once" if unseen else "also seen after every epoch",
            curves=boards[0] if boards else None,
            **figures,
        )

    def text(self, trainer: Trainer, test: dict[str, float]) -> str:
        """A row for each figure, once the test is over."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        tested = images_in(data.test_set, trainer.num_test_batches[:1], trainer)
        own = ""
        if "test/own_acc" in test:
            held_out = images_in(data.own_val_set, trainer.num_test_batches[1:], trainer)
            seen = ", also seen in validation" if self.validated else ", measured once"
            own = measured(test["test/own_acc"], held_out, seen)
        if self.target is None:
            target = "none set"
        elif self.reached_epoch is not None:
            target = f"{percent(self.target)} reached in epoch {self.reached_epoch}"
        elif self.best_val_acc is None:
            target = f"{percent(self.target)} of a validation, of which there was none"
        else:
            epochs = f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
            target = f"{percent(self.target)} not reached in {epochs}"
        rows = {
            "device": self.device,
            "parameters": f"{self.parameters:,}",
            "target": target,
            "best val": f"{percent(self.best_val_acc)} of {self.validated:,}"
            if self.best_val_acc is not None
            else "none: the last weights were tested",
            "test": measured(test["test/acc"], tested, f", {self.looks}"),
            "own digits": own,
            "time": f"{self.seconds:.0f} s",
            "checkpoint": self.checkpoint and relative(self.checkpoint),
            "curves": self.curves and f"tensorboard --logdir {shlex.quote(relative(self.curves))}",
        }
        return "\n" + "\n".join(f"{name:12}{value}" for name, value in rows.items() if value)

    def figures(self, test: dict[str, float]) -> dict[str, float]:
        """Those that this fit has, once the test is over."""
        figures = {
            "test_acc": test["test/acc"],
            "own_acc": test.get("test/own_acc"),
            "best_val_acc": self.best_val_acc,
            "target_epoch": self.reached_epoch,
            "epochs": self.epochs,
            "seconds": self.seconds,
        }
        return {name: value for name, value in figures.items() if value is not None}

    def log(self, trainer: Trainer, settings: dict[str, Any], test: dict[str, float]) -> None:
        """The settings and the figures, for TensorBoard's HPARAMS tab and its like."""
        final = {f"final/{name}": value for name, value in self.figures(test).items()}
        first = {
            f"{part}/{name}": settings[part].pop(name)
            for part, name in FIRST_COLUMNS
            if name in settings[part]  # a model of one's own has other settings
        }
        settings = first | settings
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(settings, final)
            else:
                logger.log_hyperparams(settings)
                logger.log_metrics(final, trainer.global_step)
            logger.finalize("success")  # writes it out: the test has closed the file


def say(trainer: Trainer, line: str) -> None:
    """Print a line from the first process, above any bar; Lightning's print needs a bar for it."""
    if trainer.is_global_zero:
        tqdm.write(line)


def quiet() -> None:
    """Of Lightning's words those that someone asked for, and warnings in a line."""
    # Lightning's hints (unused devices, other products) give way to our header; warnings stay.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("callbacks", "profilers", "tuner"):  # what was asked for with a flag
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    for unhelpful in (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and torch
        "The number of training batches",  # smaller than the interval of step logs: a short epoch
        "The '.*' does not have many workers",  # a batch is one indexing call: none is faster
        "Checkpoint directory .* exists and is not empty",  # of the run that is resumed
        r"`ModelCheckpoint\(monitor='(val|both)/acc'\)` could not find",  # nothing was validated
        r"You are trying to `self.log\(\)` but `Trainer\(barebones=True",  # by --trainer.barebones
    ):
        warnings.filterwarnings("ignore", message=unhelpful)


def epochs_of(trainer: Trainer) -> int:
    """Epochs that are trained; `current_epoch` is one less after a resume with none to train."""
    progress: Any = trainer.fit_loop.epoch_progress.current
    return int(progress.processed)


def parameters(network: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def images_in(digits: Sized, batches: Sequence[int | float], trainer: Trainer) -> int:
    """How many of the images lie in so many batches of each process."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return min(len(digits), int(sum(batches)) * data.batch_size * trainer.world_size)


def percent(fraction: float | Tensor) -> str:
    """0.994 -> '99.40 %'. Two decimals, without which 99.4 cannot be told from 99.35."""
    return f"{100 * float(fraction):.2f} %"


def measured(accuracy: float, number: int, how: str) -> str:
    """An accuracy on so many images with its 95 % interval, as a row of the summary."""
    low, high = wilson_interval(accuracy, number)
    interval = f"95 % interval {100 * low:.2f} to {100 * high:.2f} %"
    return f"{percent(accuracy)} of {number:,}{how}; {interval}"


def wilson_interval(accuracy: float, number: int) -> tuple[float, float]:
    """95 % interval of an accuracy measured on `number` images (Wilson, JASA 22, 1927)."""
    z2 = 1.96**2
    center = (accuracy + z2 / (2 * number)) / (1 + z2 / number)
    spread = math.sqrt(accuracy * (1 - accuracy) / number + z2 / (4 * number**2))
    half = 1.96 * spread / (1 + z2 / number)
    return max(0.0, center - half), min(1.0, center + half)


def relative(path: str | Path) -> str:
    """The path from the working directory where it lies below it."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def report_thread(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread writes no traceback when its disk is full: it tells the main thread."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)
