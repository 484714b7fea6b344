"""Where a training step's time goes: data path, network, optimizer, Trainer, and dropout.

    python benchmarks/step.py [--batch_size 64] [--steps 30] [--rounds 15]

The parts run in turn within one process, round after round, and medians are printed: a machine that
slows down slows all of them. Then how long an epoch takes at other batch sizes and on one thread.
Run it on an idle machine. The result is benchmarks/results/step.json.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import Precision
from record import save
from torch import Tensor

from mnist_lit.callbacks import EpochSeed
from mnist_lit.console import EpochLines, Progress
from mnist_lit.data import Batch, MNISTDataModule
from mnist_lit.device import default_precision, keep_freed_memory
from mnist_lit.module import DigitClassifier
from mnist_lit.network import ConvBlock, DigitNet

MARGIN = DigitClassifier().hparams["margin"]  # of the default


class StopWatch(Callback):
    """Seconds from the end of step `skip` to the end of the last step."""

    def __init__(self, skip: int) -> None:
        self.skip, self.seconds = skip, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.skip:
            self.started = time.perf_counter()
        self.seconds = time.perf_counter() - getattr(self, "started", time.perf_counter())


def bare_loop(
    batch: Batch, precision: str, network: torch.nn.Module, until: str = "optimizer"
) -> Callable[[], None]:
    """One step of nothing but forward, backward and optimizer, on a batch that is ready."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    images, labels = batch

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = F.cross_entropy(network(images), labels)
        if until == "forward":
            return
        optimizer.zero_grad()
        loss.backward()
        if until == "optimizer":
            optimizer.step()

    return step


def epoch_seconds(data: MNISTDataModule, precision: str, batch_size: int, steps: int) -> float:
    """Of an epoch of bare steps, at the pace of the median one."""
    images = data.train_set.images[:batch_size].float() / 255
    step = bare_loop(
        (images, data.train_set.labels[:batch_size]), precision, DigitNet(margin=MARGIN)
    )
    seconds = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:]) * len(data.train_set) / batch_size


def stock_layers(network: DigitNet) -> DigitNet:
    """The same network with torch's own BatchNorm and dropout, as on accelerators."""
    for block in network.children():
        if isinstance(block, ConvBlock):

            def forward(x: Tensor, block: Any = block) -> Tensor:
                x = F.relu_(block.norm(block.conv(x)))
                return F.dropout(x, block.dropout, block.training)

            block.forward = forward  # type: ignore[method-assign]
    return network


def trainer_seconds(data: MNISTDataModule, precision: Any, steps: int) -> float:
    """`steps` steps of the default module with logging and progress bar."""
    watch = StopWatch(skip=10)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        Trainer(
            accelerator="cpu",
            precision=precision,
            max_epochs=1,
            limit_train_batches=steps + watch.skip,
            limit_val_batches=1,
            num_sanity_val_steps=0,
            logger=TensorBoardLogger(folder, default_hp_metric=False),
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[EpochSeed(), EpochLines(), Progress(), LearningRateMonitor("step"), watch],
        ).fit(DigitClassifier(), data)
    return watch.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30, help="of each part in each round")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()

    keep_freed_memory()
    precision = default_precision("cpu")
    data = MNISTDataModule(batch_size=args.batch_size)
    data.prepare_data()
    data.setup("fit")
    batches = iter(data.train_dataloader())
    batch = next(batches)
    ready = batch[0].float() / 255, batch[1]
    in_training: Any = SimpleNamespace(
        training=True, world_size=1, global_rank=0, precision_plugin=Precision()
    )
    parts: dict[str, Callable[[], object]] = {
        "loading": lambda: next(batches),
        "transfer and augmentation": lambda: data.on_after_batch_transfer(batch, 0),
        "forward": bare_loop(ready, precision, DigitNet(margin=MARGIN), until="forward"),
        "forward and backward": bare_loop(
            ready, precision, DigitNet(margin=MARGIN), until="backward"
        ),
        "bare step": bare_loop(ready, precision, DigitNet(margin=MARGIN)),
        "bare step, no dropout": bare_loop(ready, precision, DigitNet(dropout=0, margin=MARGIN)),
        "bare step, stock layers": bare_loop(
            ready, precision, stock_layers(DigitNet(margin=MARGIN))
        ),
        "bare step, stock layers, no dropout": bare_loop(
            ready, precision, stock_layers(DigitNet(dropout=0, margin=MARGIN))
        ),
    }
    rounds: list[dict[str, float]] = []
    for _ in range(args.rounds):
        milliseconds = {}
        for name, part in parts.items():
            batches = iter(data.train_dataloader())
            data.trainer = in_training
            part()
            started = time.perf_counter()
            for _ in range(args.steps):
                part()
            milliseconds[name] = (time.perf_counter() - started) / args.steps * 1e3
        data.trainer = None
        seconds = trainer_seconds(data, precision, args.steps)
        milliseconds["Trainer step"] = seconds / args.steps * 1e3
        rounds.append(milliseconds)

    def ratio(value: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(value(milliseconds) for milliseconds in rounds)

    def path(ms: dict[str, float]) -> float:
        return ms["loading"] + ms["transfer and augmentation"]

    parts_ms = {name: statistics.median(ms[name] for ms in rounds) for name in rounds[0]}
    ratios = {
        "forward and backward, share of a Trainer step": ratio(
            lambda ms: ms["forward and backward"] / ms["Trainer step"]
        ),
        "data path, share of a Trainer step": ratio(lambda ms: path(ms) / ms["Trainer step"]),
        "Trainer over bare step": ratio(
            lambda ms: (ms["Trainer step"] - path(ms)) / ms["bare step"] - 1
        ),
        "dropout over none": ratio(lambda ms: ms["bare step"] / ms["bare step, no dropout"] - 1),
        "stock dropout over none": ratio(
            lambda ms: ms["bare step, stock layers"] / ms["bare step, stock layers, no dropout"] - 1
        ),
        "stock BatchNorm over ours": ratio(
            lambda ms: ms["bare step, stock layers, no dropout"] / ms["bare step, no dropout"] - 1
        ),
    }
    for name, value in parts_ms.items():
        print(f"{name:46}{value:9.3f} ms")
    for name, value in ratios.items():
        print(f"{name:46}{100 * value:9.1f} %")
    threads, epochs = torch.get_num_threads(), {}
    for number in sorted({1, threads}):
        torch.set_num_threads(number)
        for batch_size in (16, 32, 64, 128, 256, 512):
            seconds = epoch_seconds(data, precision, batch_size, args.steps)
            epochs[f"batches of {batch_size}, {number} threads"] = seconds
            print(f"batches of {batch_size:3}, {number} threads {seconds:9.1f} s an epoch")
    result = {"milliseconds": parts_ms, "ratios": ratios, "epoch_seconds": epochs}
    save("step", result, **vars(args), precision=precision, threads=threads)


if __name__ == "__main__":
    main()
