"""DigitClassifier: exact metrics, the schedule, the EMA, and its checkpoints."""

import copy
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader, Subset

from mnist_lit.data import Digits
from mnist_lit.module import DigitClassifier


class FloatDigits(Subset[Any]):
    """Digits as the module receives them."""

    def __getitems__(self, indices: list[int]) -> Any:
        batch = [self[i] for i in indices]
        images = torch.stack([image for image, _ in batch]).float() / 255
        return images, torch.stack([label for _, label in batch])


def loader(digits: Digits, number: int, batch_size: int) -> DataLoader[Any]:
    return DataLoader(
        FloatDigits(digits, range(number)), batch_size, collate_fn=lambda batch: batch
    )


def trainer(**options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


class Watch(Callback):
    """Remembers learning rates and raw weights after each step."""

    def __init__(self) -> None:
        self.lrs: list[float] = []
        self.betas: list[float] = []
        self.weights: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.betas.append(trainer.optimizers[0].param_groups[0]["betas"][0])

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.weights.append(pl_module.network.output.conv.weight.detach().clone())


# Batches smaller than 50 steps and loaders without workers are what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' does not have many workers")


def test_metrics_are_exact_over_a_short_last_batch(digits: Digits) -> None:
    torch.manual_seed(0)
    module = DigitClassifier()
    for stage in ("val", "test"):
        run = trainer()
        evaluate = run.validate if stage == "val" else run.test
        [metrics] = evaluate(module, loader(digits, 101, 25), verbose=False)
        module.eval()
        with torch.no_grad():
            logits = module(digits.images[:101].float() / 255)
        labels = digits.labels[:101]
        correct = (logits.argmax(1) == labels).sum().item()
        assert metrics[f"{stage}/acc"] == torch.tensor(correct / 101).item()
        assert metrics[f"{stage}/loss"] == pytest.approx(F.cross_entropy(logits, labels).item())


def test_one_cycle_by_the_step_from_the_trainers_own_count(digits: Digits) -> None:
    watch = Watch()
    module = DigitClassifier(max_lr=0.02, pct_start=0.25, div_factor=5, final_div_factor=50)
    fit = trainer(max_epochs=4, callbacks=[watch], log_every_n_steps=1, num_sanity_val_steps=0)
    fit.fit(module, loader(digits, 40, 4), loader(digits, 4, 4))
    lrs = watch.lrs
    assert len(lrs) == 40
    assert lrs[0] == pytest.approx(0.02 / 5)
    assert max(lrs) == pytest.approx(0.02)
    assert lrs.index(max(lrs)) == 9  # a quarter of the steps
    assert lrs[-1] == pytest.approx(0.02 / 5 / 50)
    assert (watch.betas[0], watch.betas[9], watch.betas[-1]) == pytest.approx((0.95, 0.85, 0.95))
    assert isinstance(fit.optimizers[0], torch.optim.Adam)
    assert fit.optimizers[0].param_groups[0]["weight_decay"] == 1e-4


@pytest.mark.parametrize("ema_decay", [0, 0.4])
def test_validates_the_ema_of_the_weights(digits: Digits, ema_decay: float) -> None:
    watch, module = Watch(), DigitClassifier(ema_decay=ema_decay)
    trainer(max_epochs=1, callbacks=[watch], log_every_n_steps=1, num_sanity_val_steps=0).fit(
        module, loader(digits, 40, 4), loader(digits, 4, 4)
    )
    expected = watch.weights[0]
    for step, weights in enumerate(watch.weights[1:], start=2):
        decay = min(ema_decay, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights
    ema: Any = module.ema.module
    torch.testing.assert_close(ema.output.conv.weight, expected)
    images = torch.rand(2, 1, 28, 28)
    module.eval()
    torch.testing.assert_close(module(images), ema(images))
    assert module.network.parameter_count == 17_506
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == 17_506


def test_label_smoothing_is_of_training_alone(digits: Digits) -> None:
    module = DigitClassifier(dropout=0, label_smoothing=0.2)
    images, labels = digits.images[:20].float() / 255, digits.labels[:20]
    with torch.no_grad():
        log_probabilities = copy.deepcopy(module.network).train()(images).log_softmax(dim=1)
    targets = 0.8 * F.one_hot(labels, 10) + 0.2 / 10
    fit = trainer(max_epochs=1, log_every_n_steps=1, num_sanity_val_steps=0)
    fit.fit(module, loader(digits, 20, 20), loader(digits, 20, 20))
    metrics = fit.callback_metrics
    expected = -(targets * log_probabilities).sum(dim=1).mean()
    assert float(metrics["train/loss"]) == pytest.approx(float(expected), rel=1e-4)
    module.eval()
    with torch.no_grad():
        plain = F.cross_entropy(module(images), labels)
    assert float(metrics["val/loss"]) == pytest.approx(float(plain), rel=1e-4)


def test_checkpoints_load_without_executing_code(digits: Digits, tmp_path: Path) -> None:
    module = DigitClassifier(narrow=4, wide=6)
    fit = trainer(max_epochs=1, log_every_n_steps=1, num_sanity_val_steps=0)
    fit.fit(module, loader(digits, 8, 4), loader(digits, 4, 4))
    fit.save_checkpoint(tmp_path / "x.ckpt")
    loaded = DigitClassifier.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert loaded.hparams == module.hparams
    torch.testing.assert_close(loaded.state_dict(), module.state_dict())


def test_a_fit_without_end_names_the_flag(digits: Digits) -> None:
    with pytest.raises(ValueError, match=r"--trainer\.max_epochs"):
        trainer(max_epochs=-1, num_sanity_val_steps=0).fit(
            DigitClassifier(), loader(digits, 8, 4), loader(digits, 4, 4)
        )


def test_a_rise_of_a_single_step_names_the_flag(digits: Digits) -> None:
    with pytest.raises(ValueError, match=r"--model\.pct_start 0\.2 of 5 steps"):
        trainer(max_epochs=1, num_sanity_val_steps=0).fit(
            DigitClassifier(), loader(digits, 40, 8), loader(digits, 4, 4)
        )


@pytest.mark.parametrize("kind", ["DigitNet", "TinyNet"])
def test_margin_and_tta_reach_the_network(kind: Literal["DigitNet", "TinyNet"]) -> None:
    model = DigitClassifier(network=kind, margin=2, tta=True)
    for network in (model.network, model.ema.module):
        assert (network.margin, network.tta) == (2, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("narrow", 0),
        ("wide", -1),
        ("dropout", 1.0),
        ("margin", 11),
        ("max_lr", 0),
        ("weight_decay", -1),
        ("pct_start", 1),
        ("div_factor", 0.5),
        ("final_div_factor", float("inf")),
        ("label_smoothing", 1),
        ("ema_decay", 1),
    ],
)
def test_bad_settings_name_the_flag(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"--model\.{name}"):
        DigitClassifier(**{name: value})  # type: ignore[arg-type]
