"""DigitClassifier: a network with its loss, metrics, optimizer, one-cycle schedule and EMA."""

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torchmetrics import Metric

from mnist_lit import load_pretrained
from mnist_lit.ema import EMA
from mnist_lit.errors import SettingError, explain
from mnist_lit.metrics import MeanLoss, exact_accuracy
from mnist_lit.muon import Muon
from mnist_lit.network import MAX_CHANNELS, MAX_MARGIN, DigitNet, Network, TinyNet
from mnist_lit.weights import load_network

if TYPE_CHECKING:
    NetworkChoice = Literal["DigitNet", "TinyNet"] | nn.Module
else:  # the command takes names alone: for a module it would import any class that is named
    NetworkChoice = Literal["DigitNet", "TinyNet"]


class DigitClassifier(LightningModule):
    """Trains a network; validates and tests the EMA (exponential moving average) of its weights.

    Args:
        network: DigitNet, or TinyNet, of separable convolutions; in Python also a module of your
            own, (B, 1, 28, 28) in [0, 1] -> (B, 10) logits.
        narrow: Channels of DigitNet's input block and 1x1 transitions, or of TinyNet's first
            convolution.
        wide: Channels of DigitNet's 3x3 convolutions, or of TinyNet's last one.
        dropout: Probability with which an activation of a 3x3 block is dropped in training.
        margin: Pixels that the network leaves out at each edge of an image; in training they would
            take time. MNIST's digits are 20 pixels large, around their centre of mass.
        tta: Test-time augmentation: validate, test and export the mean of the logits of an image
            and of the same shifted by a pixel to each side, at 5x the inference cost.
        optimizer: adam, or muon, which moves the convolutions by Muon and the rest by Adam.
        max_lr: Adam's learning rate at the top of the one-cycle schedule.
        muon_lr: Muon's, at the same time.
        muon_momentum: Share of earlier steps in the direction that Muon takes.
        weight_decay: Adam's L2 penalty; muon has none.
        pct_start: Fraction of all steps in which the learning rate rises.
        div_factor: The rate starts at max_lr / div_factor ...
        final_div_factor: ... and ends at max_lr / div_factor / final_div_factor.
        anneal_strategy: It rises and falls as half a cosine (cos) or in straight lines (linear).
        label_smoothing: Share of the target's probability that training spreads evenly over the ten
            digits. The losses of validation and test are without it.
        ema_decay: Decay per step of the exponential moving average of the weights that is
            validated, tested and exported: 0.998 averages over about 500 steps; 0 uses the raw
            weights.
        init_from: Trained weights to start from, with a new optimizer and schedule: shipped, for
            those in the package, or a checkpoint or file of weights. --ckpt_path wins over it.
    """

    def __init__(
        self,
        network: NetworkChoice = "DigitNet",
        narrow: int = 18,
        wide: int = 32,
        dropout: float = 0.008,
        margin: int = 3,
        tta: bool = False,
        optimizer: Literal["adam", "muon"] = "adam",
        max_lr: float = 0.014,
        muon_lr: float = 0.03,
        muon_momentum: float = 0.95,
        weight_decay: float = 1e-4,
        pct_start: float = 0.2,
        div_factor: float = 10,
        final_div_factor: float = 100,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        label_smoothing: float = 0.0,
        ema_decay: float = 0.998,
        init_from: str | None = None,
    ) -> None:
        super().__init__()
        self.example_input_array = torch.zeros(1, 1, 28, 28)  # for to_onnx and TensorBoard's graph
        known = isinstance(network, nn.Module) or network in ("DigitNet", "TinyNet")
        for name, value, valid, expected in (
            ("network", network, known, "DigitNet, TinyNet or a torch.nn.Module"),
            ("optimizer", optimizer, optimizer in ("adam", "muon"), "adam or muon"),
            (
                "anneal_strategy",
                anneal_strategy,
                anneal_strategy in ("cos", "linear"),
                "cos or linear",
            ),
            ("narrow", narrow, 1 <= narrow <= MAX_CHANNELS, f"from 1 to {MAX_CHANNELS}"),
            ("wide", wide, 1 <= wide <= MAX_CHANNELS, f"from 1 to {MAX_CHANNELS}"),
            ("dropout", dropout, 0 <= dropout < 1, "at least 0 and below 1"),
            ("margin", margin, 0 <= margin <= MAX_MARGIN, f"from 0 to {MAX_MARGIN}"),
            ("max_lr", max_lr, 0 < max_lr < math.inf, "above 0"),
            ("muon_lr", muon_lr, 0 < muon_lr < math.inf, "above 0"),
            ("muon_momentum", muon_momentum, 0 <= muon_momentum < 1, "at least 0 and below 1"),
            ("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "at least 0"),
            ("pct_start", pct_start, 0 < pct_start < 1, "between 0 and 1"),
            ("div_factor", div_factor, 1 <= div_factor < math.inf, "at least 1"),
            ("final_div_factor", final_div_factor, 1 <= final_div_factor < math.inf, "at least 1"),
            ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "from 0, below 1"),
            ("ema_decay", ema_decay, 0 <= ema_decay < 1, "at least 0 and below 1"),
        ):
            if not valid:
                raise SettingError(f"--model.{name} must be {expected}, not {value}")
        own = isinstance(network, nn.Module)  # which a checkpoint does not hold, its weights alone
        # Where weights came from does not matter to those that a checkpoint holds.
        self.save_hyperparameters(ignore=["init_from", *(["network"] if own else [])])
        self.network: nn.Module
        if isinstance(network, nn.Module):
            self.network = network
        elif network == "DigitNet":
            self.network = DigitNet(narrow, wide, dropout, margin, tta)
        else:
            self.network = TinyNet(narrow, wide, dropout, margin, tta)
        self.init_from = init_from
        if init_from is not None:
            start_from(init_from, self.network)
        self.ema = EMA(self.network, ema_decay, trained=init_from is not None)
        self.schedule: OneCycleLR | None = None
        self.resumed = False
        self.train_loss, self.train_acc = MeanLoss(), exact_accuracy()
        self.val_loss, self.val_acc = MeanLoss(), exact_accuracy()
        self.test_loss, self.test_acc = MeanLoss(), exact_accuracy()
        self.own_acc = exact_accuracy()  # of one's own digits, the second of two data loaders

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] -> (B, 10) logits of the EMA of the weights."""
        logits: Tensor = self.ema(images)
        return logits

    def accuracy(self, digits: Any) -> float:
        """Of `images` (N, 1, 28, 28) uint8 and `labels` (N,), outside of any loop."""
        training = self.training
        with torch.inference_mode():
            logits = self.eval()(digits.images.to(self.device) / 255)
        self.train(training)
        return float((logits.argmax(dim=1).cpu() == digits.labels).float().mean())

    def on_train_start(self) -> None:
        self.ema.begin(self.network)
        schedule = self.schedule
        if schedule is None or self.lr_schedulers() is not schedule:
            return  # a subclass has its own, or none
        steps = int(self.trainer.estimated_stepping_batches)
        if self.resumed and schedule.total_steps != steps:
            raise SettingError(
                f"--ckpt_path holds a schedule of {schedule.total_steps} steps and this fit has"
                f" {steps}: use the --trainer.max_epochs and --data.batch_size that it began with;"
                " or --model.init_from with that file in place of --ckpt_path, for a new schedule"
                " from its weights"
            )
        top = [group["max_lr"] for group in schedule.optimizer.param_groups]
        made_for = [schedule.total_steps, schedule.last_epoch, *top]
        if not self.resumed and made_for != [steps, self.global_step, *self._top_rates()]:
            # A callback has tried some steps, changed their number or found a rate since.
            self.trainer.strategy.setup_optimizers(self.trainer)
            self.resumed = False  # a tuner's own checkpoint does not count

    def _top_rates(self) -> list[float]:
        """Of the optimizer's parameter groups."""
        rates = ["muon_lr", "max_lr"] if self.hparams["optimizer"] == "muon" else ["max_lr"]
        return [self.hparams[rate] for rate in rates]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """images (B, 1, 28, 28) in [0, 1] and labels (B,) int64 -> the mean loss."""
        images, labels = batch
        logits = self.network(images)
        smoothing = self.hparams["label_smoothing"]
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        # Asking an accelerator for a number would make every step wait for it.
        asked = loss.device.type == "cpu" or batch_idx % 50 == 0
        if asked and not loss.isfinite():
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise SettingError(
                f"the loss is {loss.item()} at step {self.global_step}, at a learning rate of"
                f" {rate:.2g}: use a lower --model.max_lr"
            )
        self.train_loss.update(loss, len(labels))
        self.train_acc.update(logits, labels)
        if batch_idx == 0:
            self._log_epoch({"train/loss": self.train_loss, "train/acc": self.train_acc})
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.ema.update(self.trainer.global_step)

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """(B, 10) logits, for callbacks."""
        if dataloader_idx:
            return self._evaluate_own(batch, batch_idx, "own/acc")
        if batch_idx == 0:
            self._log_epoch({"val/loss": self.val_loss, "val/acc": self.val_acc})
        return self._evaluate(batch, self.val_loss, self.val_acc)

    def on_validation_epoch_end(self) -> None:
        if self.own_acc.update_called:  # what chooses: neither hand is to be forgotten
            both = (self.own_acc.compute() + self.val_acc.compute()) / 2
            self.log("both/acc", both, sync_dist=True)

    def test_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """(B, 10) logits, for callbacks."""
        if dataloader_idx:
            return self._evaluate_own(batch, batch_idx, "test/own_acc")
        if batch_idx == 0:
            self._log_epoch({"test/loss": self.test_loss, "test/acc": self.test_acc})
        return self._evaluate(batch, self.test_loss, self.test_acc)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """(B,) digits."""
        return self(batch[0]).argmax(dim=1)

    def _evaluate(
        self, batch: tuple[Tensor, Tensor], mean_loss: MeanLoss, accuracy: Metric
    ) -> Tensor:
        images, labels = batch
        logits: Tensor = self(images)
        mean_loss.update(F.cross_entropy(logits, labels), len(labels))
        accuracy.update(logits, labels)
        return logits

    def _evaluate_own(self, batch: tuple[Tensor, Tensor], batch_idx: int, name: str) -> Tensor:
        images, labels = batch
        if batch_idx == 0:
            self._log_epoch({name: self.own_acc})
        logits: Tensor = self(images)
        self.own_acc.update(logits, labels)
        return logits

    def _log_epoch(self, metrics: dict[str, Metric]) -> None:
        """Have Lightning compute and reset them when the epoch ends, over all processes.

        Told at the first step alone: at every step, it would cost a twentieth of a training step.
        """
        how: dict[str, Any] = {"on_step": False, "on_epoch": True, "prog_bar": True}
        self.log_dict(metrics, add_dataloader_idx=False, **how)

    def to_onnx(self, *args: Any, **kwargs: Any) -> Any:
        """Lightning's export, of the network as it classifies: in evaluation mode."""
        training = self.training
        self.eval()
        try:
            return super().to_onnx(*args, **kwargs)
        finally:
            self.train(training)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise SettingError(
                "--trainer.max_epochs -1 has no end, which a one-cycle schedule needs"
            )
        hparams, max_lr = self.hparams, self._top_rates()
        optimizer: torch.optim.Optimizer
        if hparams["optimizer"] == "muon":
            optimizer = Muon(
                self.network.parameters(),
                hparams["muon_lr"],
                hparams["max_lr"],
                momentum=hparams["muon_momentum"],
            )
        else:
            optimizer = torch.optim.Adam(
                self.network.parameters(),
                lr=hparams["max_lr"],
                weight_decay=hparams["weight_decay"],
                # One pass over all parameters instead of one per tensor, in which Lightning's mixed
                # precision cannot clip.
                fused=not self.trainer.gradient_clip_val,
            )
        rise = hparams["pct_start"]
        schedule = OneCycleLR(
            optimizer,
            max_lr=max_lr,
            total_steps=int(steps),
            # A rise of exactly one step would divide by zero.
            pct_start=rise if rise * steps != 1 else 1.001 * rise,
            div_factor=hparams["div_factor"],
            final_div_factor=hparams["final_div_factor"],
            anneal_strategy=hparams["anneal_strategy"],
            # By default Adam's first beta moves against the rate: 0.95, 0.85 at the top, 0.95.
            cycle_momentum=hparams["optimizer"] == "adam",
        )
        self.schedule, self.resumed = schedule, self.trainer.ckpt_path is not None
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "lr"},
        }


def start_from(source: str, network: nn.Module) -> None:
    """Give a network the weights in the package (`shipped`) or in a file.

    Raises:
        SettingError: The file cannot be read, or holds another network.
    """
    try:
        found = load_pretrained() if source == "shipped" else load_network(source)
    except (OSError, ValueError) as error:
        raise SettingError(f"--model.init_from {source}: {explain(error)}") from error
    if not isinstance(network, Network):
        raise SettingError(f"--model.init_from {source}: no weights of a network of your own")
    kind = {"network": type(network).__name__, **network.settings}
    its = {"network": type(found).__name__, **found.settings}
    for settings in (kind, its):
        settings.pop("tta", None)  # as the evaluation likes it
    if kind != its:
        flags = " ".join(f"--model.{name} {value}" for name, value in its.items())
        raise SettingError(f"--model.init_from {source} holds another network: {flags}")
    network.load_state_dict(found.state_dict())
