"""What steers a fit: stopping at the target, repeatable draws, threads, SIGTERM."""

import os
import signal
import statistics
import sys
from collections import deque
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mnist_lit.console import percent, say
from mnist_lit.device import cores, spare_busy_cores
from mnist_lit.errors import SettingError


class StopAtAccuracy(Callback):
    """Stops the fit once `val/acc` reaches a target, and says in which epoch.

    Args:
        accuracy: Validation accuracy, as a fraction, at which to stop; exactly this value is
            enough. null trains to the end.
        epochs: The accuracy is the mean of so many epochs, the newest of those that were validated,
            or of as many as there are yet: a fit that has only just crossed a line has nothing to
            spare. Of several validations in an epoch the last one counts.
    """

    def __init__(self, accuracy: float | None = 0.994, epochs: int = 1) -> None:
        if accuracy is not None and not 0 < accuracy <= 1:
            raise SettingError(
                f"--stop.accuracy is a fraction above 0 and up to 1, such as 0.994, not {accuracy}"
            )
        if epochs < 1:
            raise SettingError(f"--stop.epochs must be at least 1, not {epochs}")
        self.accuracy = accuracy
        self.recent = deque[float](maxlen=epochs)
        self.newest: int | None = None  # the epoch of the last of them
        self.reached_epoch: int | None = None  # counted from 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.reached_epoch is not None:
            trainer.should_stop = True  # resumed from the checkpoint of the epoch that reached it

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.accuracy is None or trainer.barebones:
            return
        val_acc = trainer.callback_metrics["val/acc"]
        if self.newest == trainer.current_epoch:
            self.recent.pop()
        self.newest = trainer.current_epoch
        self.recent.append(float(val_acc))
        # Compared in the metric's own float32, in which 0.994 and 9940 / 10000 are the same number.
        mean, target = (
            torch.tensor(value, dtype=val_acc.dtype)
            for value in (statistics.fmean(self.recent), self.accuracy)
        )
        if mean >= target:
            self.reached_epoch = trainer.current_epoch + 1
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.accuracy is not None and self.reached_epoch is not None:
            mean = f", as the mean of {len(self.recent)} epochs" if len(self.recent) > 1 else ""
            say(
                trainer,
                f"target val/acc {percent(self.accuracy)} reached in epoch"
                f" {self.reached_epoch}{mean}",
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "target": [self.accuracy, self.recent.maxlen],
            "reached_epoch": self.reached_epoch,
            "recent": list(self.recent),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.recent.extend(state_dict.get("recent", []))  # older versions saved none
        if state_dict.get("target") == [self.accuracy, self.recent.maxlen]:
            self.reached_epoch = state_dict["reached_epoch"]


class StopOnSigterm(Callback):
    """Ends a fit of several processes at once when the first of them gets SIGTERM.

    Lightning's own handler waits for the other processes in the middle of a step, in which they may
    be waiting for this one. Checkpoints are written whole, so that any moment will do.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._stop)

    @staticmethod
    def _stop(*_: Any) -> NoReturn:
        raise SIGTERMException

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        kill_others = getattr(trainer.strategy.launcher, "kill", None)
        if isinstance(exception, SIGTERMException) and kill_others:
            kill_others(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has none


class EpochSeed(Callback):
    """Starts every epoch's random draws from (seed, epoch, process), so a resumed fit repeats them.

    A checkpoint holds no random state. With this, dropout and augmentation of epoch n do not depend
    on whether the epochs before it ran in this process or in one that was killed.
    """

    # Not on_train_epoch_start, which Lightning skips for the first epoch after a resume, nor
    # on_train_batch_start, before which the first batch is already augmented.
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seed(trainer.current_epoch, trainer.global_rank)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seed(trainer.current_epoch + 1, trainer.global_rank)

    @staticmethod
    def _seed(epoch: int, rank: int) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # left there by seed_everything
        torch.manual_seed((seed * 10_000 + epoch) * 10_000 + rank)


class Threads(Callback):
    """Chooses the number of threads of a fit on the CPU; a resumed fit takes its checkpoint's.

    Another number rounds differently, so that the weights would differ from those of a fit that was
    not interrupted. OMP_NUM_THREADS wins.
    """

    def __init__(self) -> None:
        self.saved: int | None = None  # in the checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.root_device.type != "cpu" or trainer.world_size > 1:
            return
        if self.saved is None:
            told = spare_busy_cores()
        else:
            told = None
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(min(self.saved, cores()))
            if (used := torch.get_num_threads()) != self.saved:
                told = f"--ckpt_path was trained with {self.saved} threads and goes on with {used}:"
                told += " its weights will differ from those of an uninterrupted fit"
        if told:
            print(told, file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        return {"threads": torch.get_num_threads()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.saved = state_dict["threads"]
