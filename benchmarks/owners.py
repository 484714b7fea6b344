"""Whether a network learns a hand: fine-tuned on 50 digits of a writer, tested on the rest.

    python benchmarks/owners.py WRITERS.csv.gz --work DIR

WRITERS is a table with the columns `image` (of MNIST's training images, in their order) and
`writer`; one can be made from the extended labels of QMNIST (Yadav and Bottou, Cold Case: The Lost
MNIST Digits, 2019).
"""

import argparse
import csv
import gzip
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from torch import Tensor

from mnist_lit.callbacks import EpochSeed
from mnist_lit.console import quiet
from mnist_lit.data import MNISTDataModule
from mnist_lit.device import default_precision, keep_freed_memory
from mnist_lit.module import DigitClassifier
from mnist_lit.strokes import Strokes

ROOT = Path(__file__).parent.parent
SEED = 60
EPOCHS = 6  # of a base network: enough for 99.3 %


class WithoutWriters(MNISTDataModule):
    """Trains on none of the images that are held out."""

    def __init__(self, held_out: Tensor, **settings: Any) -> None:
        super().__init__(**settings)
        self.held_out = held_out  # (60000,) bool

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            kept = torch.ones(len(self.train_set), dtype=torch.bool)
            kept[: len(self.held_out)] = ~self.held_out  # what is drawn stands behind MNIST's
            self.train_set.images = self.train_set.images[kept]
            self.train_set.labels = self.train_set.labels[kept]


def writers_of(table: Path) -> Tensor:
    """(60000,) int64: who wrote each of MNIST's training images."""
    writers = torch.full((60_000,), -1)
    with gzip.open(table, "rt") as file:
        for row in csv.DictReader(file):
            writers[int(row["image"])] = int(row["writer"])
    if (writers < 0).any():
        raise SystemExit(f"{table}: not a row for each of the 60,000 images")
    return writers


def unseen(writers: Tensor) -> Tensor:
    """A third of the writers, by a fixed draw."""
    names = writers.unique()
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(SEED))
    return names[order[: len(names) // 3]]


def recipe(name: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of model and data in a config file."""
    config = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    data = config["data"] | changes
    data["strokes"] = Strokes(**data["strokes"])
    return config["model"], data


def train_base(path: Path, writers: Tensor, **changes: Any) -> None:
    """reader.yaml, shortened, without the writers that are held out."""
    if path.exists():
        return
    model, data = recipe("reader", **changes)
    held_out = torch.isin(writers, unseen(writers))
    trainer = Trainer(
        max_epochs=EPOCHS,
        limit_val_batches=0,
        accelerator="cpu",
        precision=default_precision("cpu"),  # type: ignore[arg-type]
        callbacks=[EpochSeed()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data_dir = str(path.parent / "data")
    trainer.fit(DigitClassifier(**model), WithoutWriters(held_out, data_dir=data_dir, **data))
    trainer.save_checkpoint(path, weights_only=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("writers", type=Path, metavar="WRITERS")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    quiet()
    keep_freed_memory()
    args.work.mkdir(parents=True, exist_ok=True)
    writers = writers_of(args.writers)
    torch.manual_seed(SEED)
    train_base(args.work / "base.ckpt", writers)
    torch.manual_seed(SEED)
    train_base(args.work / "base-undrawn.ckpt", writers, drawn=0)


if __name__ == "__main__":
    main()
