"""DigitClassifier: exact metrics, the schedule, the EMA, and its checkpoints."""

import copy
import math
import re
from dataclasses import fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.loggers import CSVLogger
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Subset

from mnist_lit import load_pretrained
from mnist_lit.data import Digits, MNISTDataModule
from mnist_lit.errors import SettingError
from mnist_lit.module import DigitClassifier
from mnist_lit.strokes import Strokes


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


def test_the_rate_in_straight_lines(digits: Digits) -> None:
    watch = Watch()
    module = DigitClassifier(max_lr=0.02, anneal_strategy="linear")
    fit = trainer(max_epochs=4, callbacks=[watch], log_every_n_steps=1, num_sanity_val_steps=0)
    fit.fit(module, loader(digits, 40, 4), loader(digits, 4, 4))
    falls = [before - after for before, after in pairwise(watch.lrs[7:])]  # from the top, in step 8
    assert max(watch.lrs) == watch.lrs[7]
    assert falls == pytest.approx([(0.02 - 0.02 / 10 / 100) / 32] * 32)


class Ops(TorchDispatchMode):
    """Which operations had tensors on which devices."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: dict[str, set[str]] = {}

    def __torch_dispatch__(
        self, op: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = op(*args, **(kwargs or {}))
        for value in tree_leaves([args, kwargs, result]):
            if isinstance(value, torch.Tensor):
                self.devices.setdefault(str(op), set()).add(value.device.type)
        return result


def test_muons_settings_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = SimpleNamespace(estimated_stepping_batches=10, gradient_clip_val=None, ckpt_path=None)
    monkeypatch.setattr(DigitClassifier, "trainer", fit)
    made: Any = DigitClassifier(
        optimizer="muon", muon_lr=0.07, muon_momentum=0.6, max_lr=0.02
    ).configure_optimizers()
    matrices, vectors = made["optimizer"].param_groups
    assert (matrices["momentum"], matrices["max_lr"], vectors["max_lr"]) == (0.6, 0.07, 0.02)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_step_on_an_accelerator_never_waits_for_it(
    optimizer: Literal["adam", "muon"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meta tensor has no numbers: whatever asks for one, or for a copy on the CPU, fails."""
    adam = import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)
    module = DigitClassifier(optimizer=optimizer).train().to("meta")
    module.ema.n_averaged = torch.tensor(0)  # which is read once, as a fit begins
    module.ema.begin(module.network)
    module.ema.to("meta")
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    fit: Any = SimpleNamespace(
        estimated_stepping_batches=10,
        gradient_clip_val=None,
        ckpt_path=None,
        global_step=5,
        training=True,
        precision_plugin=SimpleNamespace(convert_input=lambda images: images),
    )
    monkeypatch.setattr(DigitClassifier, "trainer", fit)
    data = MNISTDataModule(strokes=Strokes(**{field.name: 0.3 for field in fields(Strokes)}))
    data.trainer = fit
    made: Any = module.configure_optimizers()
    batch = (
        torch.zeros(64, 1, 28, 28, dtype=torch.uint8, device="meta"),
        torch.zeros(64, dtype=torch.int64, device="meta"),
    )
    data.on_after_batch_transfer(batch, 0)  # makes the constants of its augmentation
    with Ops() as ops:
        for step in (1, 2):
            loss = module.training_step(data.on_after_batch_transfer(batch, 0), step)
            loss.backward()
            made["optimizer"].step()
            made["lr_scheduler"]["scheduler"].step()
            module.on_train_batch_end()
    assert "aten.convolution.default" in ops.devices
    assert {op for op, devices in ops.devices.items() if "cpu" in devices} == set()


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


def test_a_fifth_of_five_steps_is_a_rise_too(digits: Digits) -> None:
    watch = Watch()
    fit = trainer(max_epochs=1, num_sanity_val_steps=0, log_every_n_steps=1, callbacks=[watch])
    fit.fit(DigitClassifier(max_lr=0.01), loader(digits, 40, 8), loader(digits, 4, 4))
    assert len(watch.lrs) == 5
    assert watch.lrs[0] == pytest.approx(0.001)
    assert watch.lrs[1] < 0.01
    assert watch.lrs[-1] == pytest.approx(0.00001)


@pytest.mark.parametrize(
    ("setting", "value"), [("network", "ResNet"), ("network", None), ("optimizer", "sgd")]
)
def test_an_unknown_name_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"--model\.{setting} must be .*, not {value}"):
        DigitClassifier(**{setting: value})


def test_a_network_of_the_users_own_is_trained_and_comes_back(
    digits: Digits, tmp_path: Path
) -> None:
    def linear() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))

    module = DigitClassifier(network=linear())
    before = module.network[1].weight.clone()  # type: ignore[index]
    fit = trainer(max_epochs=1, log_every_n_steps=1, num_sanity_val_steps=0)
    fit.fit(module, loader(digits, 40, 4), loader(digits, 4, 4))
    assert not torch.equal(module.network[1].weight, before)  # type: ignore[index]
    fit.save_checkpoint(tmp_path / "x.ckpt")
    loaded = DigitClassifier.load_from_checkpoint(
        tmp_path / "x.ckpt", network=linear(), weights_only=True
    )
    torch.testing.assert_close(loaded.state_dict(), module.state_dict())


class Plain(DigitClassifier):
    """Another optimizer, without a schedule."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Stepped(DigitClassifier):
    """Another schedule, by the epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


@pytest.mark.parametrize("kind", [Plain, Stepped])
def test_a_subclass_has_an_optimizer_of_its_own(
    kind: type[DigitClassifier], digits: Digits
) -> None:
    module = kind(narrow=2, wide=2)
    before = module.network.state_dict()["output.conv.weight"].clone()
    fit = trainer(max_epochs=2, log_every_n_steps=1, num_sanity_val_steps=0)
    fit.fit(module, loader(digits, 40, 8), loader(digits, 4, 4))
    assert fit.global_step == 10
    assert not torch.equal(module.network.state_dict()["output.conv.weight"], before)
    rate = fit.optimizers[0].param_groups[0]["lr"]
    assert rate == pytest.approx(0.1 if kind is Plain else 0.001)


def test_a_failing_loss_is_named_without_a_schedule(digits: Digits) -> None:
    module = Plain(narrow=2, wide=2)
    torch.nn.init.constant_(module.network.get_parameter("output.conv.weight"), math.nan)
    with pytest.raises(ValueError, match=r"the loss is nan at step 0, at a learning rate of 0\.1"):
        trainer(max_epochs=1, num_sanity_val_steps=0, log_every_n_steps=1).fit(
            module, loader(digits, 40, 8), loader(digits, 4, 4)
        )


def test_lightnings_own_logger_and_bar_have_the_settings_and_the_figures(
    digits: Digits, tmp_path: Path
) -> None:
    fit = Trainer(
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=1,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
    )
    fit.fit(DigitClassifier(wide=6), loader(digits, 40, 8), loader(digits, 4, 4))
    [saved] = tmp_path.rglob("hparams.yaml")
    assert yaml.safe_load(saved.read_text())["wide"] == 6
    assert {"train/loss", "train/acc", "val/loss", "val/acc"} <= set(fit.progress_bar_metrics)


def test_a_learning_rate_finder_is_heeded(digits: Digits, tmp_path: Path) -> None:
    finder = LearningRateFinder(min_lr=1e-4, max_lr=0.1, num_training_steps=20, attr_name="max_lr")
    module, watch = DigitClassifier(max_lr=0.01), Watch()
    fit = trainer(
        max_epochs=1,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        callbacks=[finder, watch],
        default_root_dir=tmp_path,
    )
    fit.fit(module, loader(digits, 240, 8), loader(digits, 4, 4))
    assert module.hparams["max_lr"] != 0.01
    assert max(watch.lrs[-30:]) == pytest.approx(module.hparams["max_lr"])
    assert watch.lrs[-1] == pytest.approx(module.hparams["max_lr"] / 1000)


def test_a_batch_size_finder_gets_a_schedule_of_as_many_steps(
    data_dir: Path, tmp_path: Path
) -> None:
    data = MNISTDataModule(str(data_dir), batch_size=64)
    watch, finder = Watch(), BatchSizeFinder(init_val=2000, max_trials=2, steps_per_trial=1)
    fit = trainer(
        max_epochs=1,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        callbacks=[finder, watch],
        default_root_dir=tmp_path,
    )
    fit.fit(DigitClassifier(narrow=1, wide=1, max_lr=0.01), data)
    assert data.batch_size == 4000
    assert len(watch.lrs) == math.ceil(50_000 / 4000)
    assert watch.lrs[-1] == pytest.approx(0.00001)


def test_onnx_is_exported_as_it_classifies(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def export(model: torch.nn.Module, *_: Any, **__: Any) -> None:
        modes.extend([model.training, *(part.training for part in model.modules())])

    monkeypatch.setattr(torch.onnx, "export", export)
    module = DigitClassifier()
    module.to_onnx("x.onnx")  # of an example of its own
    assert modes
    assert not any(modes)
    assert module.training
    assert module.network.training


def test_compile_in_place_keeps_the_names_of_the_weights(tmp_path: Path) -> None:
    module = DigitClassifier(narrow=2, wide=3)
    names = list(module.state_dict())
    module.network.compile(backend="eager")
    assert list(module.state_dict()) == names
    torch.save(module.state_dict(), tmp_path / "x.pt")
    assert load_pretrained(tmp_path / "x.pt").settings["wide"] == 3


@pytest.mark.parametrize("kind", ["DigitNet", "TinyNet"])
def test_margin_and_tta_reach_the_network(kind: Literal["DigitNet", "TinyNet"]) -> None:
    model = DigitClassifier(network=kind, margin=2, tta=True)
    for network in (model.network, model.ema.module):
        assert (network.margin, network.tta) == (2, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("narrow", 0),
        ("narrow", 257),
        ("wide", -1),
        ("dropout", 1.0),
        ("margin", 11),
        ("max_lr", 0),
        ("weight_decay", -1),
        ("pct_start", 1),
        ("anneal_strategy", "stairs"),
        ("div_factor", 0.5),
        ("final_div_factor", float("inf")),
        ("label_smoothing", 1),
        ("ema_decay", 1),
    ],
)
def test_bad_settings_name_the_flag(name: str, value: float | str) -> None:
    with pytest.raises(ValueError, match=rf"--model\.{name}"):
        DigitClassifier(**{name: value})  # type: ignore[arg-type]


def test_a_fit_starts_from_trained_weights_with_a_schedule_of_its_own(
    digits: Digits, tmp_path: Path
) -> None:
    shipped = load_pretrained()
    kind: dict[str, Any] = {"margin": 2, "tta": True}
    module = DigitClassifier(init_from="shipped", max_lr=0.01, **kind).eval()
    images, _ = digits.__getitems__(list(range(20)))
    images = images.float() / 255
    assert torch.equal(module(images), shipped(images))  # the EMA
    assert torch.equal(module.network(images), shipped(images))
    assert "init_from" not in module.hparams
    watch = Watch()
    fit = trainer(max_epochs=1, limit_val_batches=0, callbacks=[watch])
    fit.fit(module.train(), loader(digits, 200, 10), loader(digits, 200, 10))
    assert watch.lrs[0] == pytest.approx(0.001)
    fit.save_checkpoint(tmp_path / "last.ckpt")
    further = DigitClassifier(init_from=str(tmp_path / "last.ckpt"), **kind).eval()
    assert torch.equal(further(images), module.eval()(images))
    assert torch.equal(further.network(images), module(images))
    [of_schedule] = torch.load(tmp_path / "last.ckpt", weights_only=True)["lr_schedulers"]
    assert of_schedule["last_epoch"] == 20


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("absent.pt", {}, "--model.init_from absent.pt: No such file"),
        (
            "shipped",
            {"network": "TinyNet"},
            "--model.init_from shipped holds another network: --model.network DigitNet",
        ),
        ("shipped", {"margin": 0}, "--model.margin 2"),
        ("shipped", {"network": torch.nn.Identity()}, "no weights of a network of your own"),
    ],
)
def test_weights_that_cannot_be_started_from_are_named(
    source: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        DigitClassifier(init_from=source, **settings)


def test_the_ema_begins_with_the_weights_that_a_fit_starts_from(digits: Digits) -> None:
    module = DigitClassifier(init_from="shipped", margin=2, tta=True, ema_decay=0.9)
    expected = load_pretrained().output.conv.weight.clone()  # type: ignore[union-attr, operator]
    watch = Watch()
    fit = trainer(max_epochs=1, limit_val_batches=0, callbacks=[watch])
    fit.fit(module, loader(digits, 80, 20), loader(digits, 80, 20))
    for weight in watch.weights:
        expected = 0.9 * expected + 0.1 * weight
    averaged: Any = module.ema.module
    assert torch.allclose(averaged.output.conv.weight, expected, atol=1e-6)
    assert not torch.allclose(watch.weights[-1], expected, atol=1e-4)
