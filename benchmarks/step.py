"""Where a training step's time goes: data path, network, optimizer, Trainer, and dropout.

    python benchmarks/step.py [--batch_size 64] [--steps 30] [--rounds 15]

The parts run in turn within one process, round after round, and medians are printed: a machine that
slows down slows all of them. Run it on an idle machine. The result is kept in
benchmarks/results/step.json with the machine and the versions.
"""

import argparse
import contextlib
import io
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from mnist_lit.callbacks import EpochLines, EpochSeed, Progress
from mnist_lit.data import Batch, MNISTDataModule
from mnist_lit.module import DigitClassifier
from mnist_lit.network import ConvBlock, DigitNet
from mnist_lit.train import default_precision

RESULTS = Path(__file__).parent / "results"


class StopWatch(Callback):
    """Seconds from the end of step `skip` to the end of the last step."""

    def __init__(self, skip: int) -> None:
        self.skip, self.seconds = skip, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.skip:
            self.started = time.perf_counter()
        self.seconds = time.perf_counter() - getattr(self, "started", time.perf_counter())


def bare_loop(batch: Batch, precision: str, network: torch.nn.Module) -> Callable[[], None]:
    """One step of nothing but forward, backward and optimizer, on a batch that is ready."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    images, labels = batch

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def stock_dropout(network: DigitNet) -> DigitNet:
    """The same network with torch's own dropout, as on accelerators."""
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

    precision = default_precision("cpu")
    data = MNISTDataModule(batch_size=args.batch_size)
    data.prepare_data()
    data.setup("fit")
    batches = iter(data.train_dataloader())
    batch = next(batches)
    ready = batch[0].float() / 255, batch[1]
    in_training: Any = SimpleNamespace(training=True, world_size=1, global_rank=0)
    parts: dict[str, Callable[[], object]] = {
        "loading": lambda: next(batches),
        "transfer and augmentation": lambda: data.on_after_batch_transfer(batch, 0),
        "bare step": bare_loop(ready, precision, DigitNet()),
        "bare step, no dropout": bare_loop(ready, precision, DigitNet(dropout=0)),
        "bare step, stock dropout": bare_loop(ready, precision, stock_dropout(DigitNet())),
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
        "data path, share of a Trainer step": ratio(lambda ms: path(ms) / ms["Trainer step"]),
        "Trainer over bare step": ratio(
            lambda ms: (ms["Trainer step"] - path(ms)) / ms["bare step"] - 1
        ),
        "dropout over none": ratio(lambda ms: ms["bare step"] / ms["bare step, no dropout"] - 1),
        "stock dropout over none": ratio(
            lambda ms: ms["bare step, stock dropout"] / ms["bare step, no dropout"] - 1
        ),
    }
    for name, value in parts_ms.items():
        print(f"{name:36}{value:9.3f} ms")
    for name, value in ratios.items():
        print(f"{name:36}{100 * value:9.1f} %")
    how = vars(args) | {
        "precision": precision,
        "threads": torch.get_num_threads(),
        "machine": processor(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }
    result = {"milliseconds": parts_ms, "ratios": ratios, "how": how}
    (RESULTS / "step.json").write_text(json.dumps(result, indent=2) + "\n")


def processor() -> str:
    """The processor's name where the system tells it."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return str(capabilities.get("cpu_name", platform.processor() or platform.machine()))


if __name__ == "__main__":
    main()
