"""Whether a network learns a hand: fine-tuned on 50 digits of a writer, tested on the rest.

    python benchmarks/owners.py WRITERS.csv.gz --work DIR

WRITERS is a table with the columns `image` (of MNIST's training images, in their order) and
`writer`; one can be made from the extended labels of QMNIST (Yadav and Bottou, Cold Case: The Lost
MNIST Digits, 2019). A third of the writers are held out, and a base network is trained without
them by a shortened reader.yaml. Of these the 20 with the most errors are owners. For each, the base
is fine-tuned by finetune.yaml on a folder of 62 of their digits, as `--data.own_dir` takes it, of
which it holds out 12, and tested on the rest. Every held-out digit is an image file that is read as
`predict --single` does. `without` is the same fine-tuning on MNIST alone: what more training does
by itself. Two more owners are styles, drawn into the digits of many writers: a 1 with a serif and a
barred 7; their base has seen no drawn digits, and what counts is the 1s or 7s. A 7 whose serif and
bar would make the loop of a 9 is left out.

With --choose, the owners are of another third of the writers: recipes are compared there. What is
done is kept in DIR, so that a run that was broken off goes on. The result is
benchmarks/results/owners.json.
"""

import argparse
import csv
import gzip
import json
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from PIL import Image
from record import save
from torch import Tensor

import mnist_lit.data
from mnist_lit.assets import test_digits
from mnist_lit.callbacks import EpochSeed
from mnist_lit.checkpoints import best_and_last
from mnist_lit.console import quiet
from mnist_lit.data import MNISTDataModule, RawMNIST, stratified_split
from mnist_lit.device import default_precision, keep_freed_memory
from mnist_lit.module import DigitClassifier
from mnist_lit.network import Network
from mnist_lit.reading import read_digits
from mnist_lit.strokes import Strokes
from mnist_lit.sureness import shipped
from mnist_lit.weights import load_network

ROOT = Path(__file__).parent.parent
SEED = 60
EPOCHS = 6  # of a base network
OWNERS, DIGITS = 20, 62  # in a folder; a fifth is held out
STYLED = 3000  # digits of many writers, to draw a style into
STYLES = {"serif 1": 1, "barred 7": 7}


class Digits(NamedTuple):
    images: Tensor  # (N, 28, 28) uint8, as in MNIST
    labels: Tensor  # (N,) int64
    read: Tensor  # (N, 28, 28) uint8, as predict reads them

    def of(self, which: Tensor) -> "Digits":
        return Digits(*(each[which] for each in self))


class Owner(NamedTuple):
    own: Digits  # in a folder
    rest: Digits  # tested


class WithoutWriters(MNISTDataModule):
    """Trains on none of the images that are held out."""

    def __init__(self, held_out: Tensor, **settings: Any) -> None:
        super().__init__(**settings)
        self.held_out = held_out  # (60000,) bool

    def setup(self, stage: str = "fit") -> None:
        super().setup(stage)
        if stage == "fit":
            labels = RawMNIST(str(self.data_dir), train=True).targets
            train, _ = stratified_split(labels, self.val_size)  # drawn and own digits are behind
            kept = torch.ones(len(self.train_set), dtype=torch.bool)
            kept[: len(train)] = ~self.held_out[train]
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


def unseen(writers: Tensor, third: int) -> Tensor:
    """One of three shares of the writers, by a fixed draw."""
    names = writers.unique()
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(SEED))
    size = len(names) // 3
    return names[order[third * size : (third + 1) * size]]


def recipe(path: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The settings of trainer, model and data in a config file."""
    config = yaml.safe_load(Path(path).read_text())
    data = config["data"] | changes
    data["strokes"] = Strokes(**data["strokes"])
    return config["trainer"], config["model"], data


def trainer_of(settings: dict[str, Any], callbacks: list[Callback]) -> Trainer:
    return Trainer(
        **settings,
        accelerator="cpu",
        precision=default_precision("cpu"),  # type: ignore[arg-type]
        callbacks=[EpochSeed(), *callbacks],
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def train_base(path: Path, held_out: Tensor, **changes: Any) -> None:
    """reader.yaml, shortened, without the images that are held out."""
    if path.exists():
        return
    torch.manual_seed(SEED)
    trainer, model, data = recipe(str(ROOT / "configs" / "reader.yaml"), **changes)
    fit = trainer_of(trainer | {"max_epochs": EPOCHS}, [])
    data_dir = str(path.parent / "data")
    fit.fit(DigitClassifier(**model), WithoutWriters(held_out, data_dir=data_dir, **data))
    fit.save_checkpoint(path, weights_only=True)


def fine_tune(base: Path, own: Path | None, held_out: Tensor, config: str) -> tuple[Network, float]:
    """A recipe from `base` on the digits in a folder; what it chose, and the seconds."""
    trainer, model, data = recipe(config)
    model["init_from"] = str(base)
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        best, _ = best_and_last("both/acc" if own else "val/acc")
        best.dirpath = folder
        started = time.perf_counter()
        fit = trainer_of(trainer, [best])
        own_dir = None if own is None else str(own)
        module = WithoutWriters(
            held_out, data_dir=str(base.parent / "data"), own_dir=own_dir, **data
        )
        fit.fit(DigitClassifier(**model), module)
        return load_network(best.best_model_path), time.perf_counter() - started


def errors(network: Network, images: Tensor, labels: Tensor) -> Tensor:
    """(N,) bool of images (N, 28, 28) uint8."""
    with torch.inference_mode():
        logits = [network(part.unsqueeze(1).float() / 255) for part in images.split(500)]
    return torch.cat(logits).argmax(dim=1) != labels


def as_read(images: Tensor) -> Tensor:
    """(N, 28, 28) uint8 -> what a network gets of them as image files, by `predict --single`."""
    prepared = []
    with tempfile.TemporaryDirectory() as folder:
        for part in images.split(1000):
            paths = [Path(folder) / f"{number}.png" for number in range(len(part))]
            for path, image in zip(paths, part.numpy(), strict=True):
                write_file(path, image)
            for read in read_digits(shipped(), paths, single=True):
                if isinstance(read, Exception):
                    raise read
                prepared.append((255 * read.least.pixels).round().astype(np.uint8))
    return torch.from_numpy(np.stack(prepared))


def owner_of(digits: Digits) -> Owner:
    """With the same share of each digit to learn from."""
    rest, own = stratified_split(digits.labels, DIGITS)
    return Owner(digits.of(own), digits.of(rest))


def in_style(digits: Digits, style: str) -> Owner:
    """With all digits to learn from, and those of the style to test."""
    changed = styled(digits.images, digits.labels, style)
    before, after = (torch.tensor([loops(x) for x in some]) for some in (digits.images, changed))
    kept = after <= before
    changed, labels = changed[kept], digits.labels[kept]
    own, rest = owner_of(Digits(changed, labels, as_read(changed)))
    return Owner(own, rest.of(rest.labels == STYLES[style]))


def count(network: Network, digits: Digits) -> int:
    """Errors as predict would make them."""
    return int(errors(network, digits.read, digits.labels).sum())


def write_folder(folder: Path, images: Tensor, labels: Tensor) -> None:
    """An image file of each digit, in a folder of its label."""
    for number, (image, label) in enumerate(zip(images.numpy(), labels.tolist(), strict=True)):
        path = folder / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, image)


def write_file(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """As someone's own digits would come: dark on light."""
    Image.fromarray(255 - image).resize((140, 140), Image.Resampling.BICUBIC).save(path)


def styled(images: Tensor, labels: Tensor, style: str, size: float = 1) -> Tensor:
    """The same digits with a serif at each 1, or a bar through each 7, larger by `size`."""
    random, changed = np.random.default_rng(SEED), images.clone()
    for i in (labels == STYLES[style]).nonzero().flatten().tolist():
        pixels = changed[i].numpy()  # the same memory
        rows, columns = np.nonzero(pixels > 100)
        if style == "serif 1":
            top = rows.min()
            start = (float(columns[rows <= top + 1].mean()), float(top))
            end = (
                start[0] - size * random.uniform(4, 7),
                start[1] + size * random.uniform(3, 6),
            )
        else:
            middle = 0.5 * (rows.min() + rows.max()) + random.uniform(-1, 2)
            at = float(columns[np.abs(rows - middle) <= 1].mean())
            tilt = random.uniform(-1, 0.5)
            start = (at - size * random.uniform(3.5, 5.5), middle - tilt)
            end = (at + size * random.uniform(3.5, 5.5), middle + tilt)
        fine = np.zeros((28 * 8, 28 * 8), np.uint8)
        begin, stop = (tuple(round(8 * x + 4) for x in point) for point in (start, end))
        cv2.line(fine, begin, stop, 255, round(8 * random.uniform(1.8, 2.6)), cv2.LINE_AA)
        line = cv2.resize(fine, (28, 28), interpolation=cv2.INTER_AREA)
        np.maximum(pixels, line, out=pixels)
    return changed


def loops(image: Tensor) -> int:
    """How many parts of an image (28, 28) uint8, of four pixels at least, its ink encloses."""
    background = (image.numpy() < 100).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(background, connectivity=4)
    return int((stats[1:, cv2.CC_STAT_AREA] >= 4).sum()) - 1  # what is outside of it


class Bench:
    """A base network, and what it was not trained on."""

    def __init__(
        self, work: Path, name: str, writers: Tensor, third: int = 0, **changes: Any
    ) -> None:
        self.base = work / f"{name}.ckpt"
        self.held_out = torch.isin(writers, unseen(writers, third))
        train_base(self.base, self.held_out, **changes)
        mnist, kept = RawMNIST(str(work / "data"), train=True), work / f"third-{third}.npy"
        if not kept.exists():
            np.save(kept, as_read(mnist.data[self.held_out]).numpy())
        own = (mnist.data[self.held_out], mnist.targets[self.held_out])
        self.digits, self.writers = (
            Digits(*own, torch.from_numpy(np.load(kept))),
            writers[self.held_out],
        )
        self.network = load_network(self.base)
        self.wrong = errors(self.network, self.digits.read, self.digits.labels)

    def hardest(self) -> list[int]:
        """The held-out writers, those with the most errors first."""
        names, number = self.writers.unique(return_counts=True)
        counts = [int(self.wrong[self.writers == name].sum()) for name in names]
        order = sorted(range(len(names)), key=lambda i: (-counts[i], int(names[i])))
        return [int(names[i]) for i in order if number[i] >= 90][:OWNERS]

    def owner(self, owner: Owner, config: str) -> tuple[Network, dict[str, Any]]:
        """A network fine-tuned on some of their digits, and the errors on the rest."""
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), owner.own.images, owner.own.labels)
            network, seconds = fine_tune(self.base, Path(folder), self.held_out, config)
        return network, {
            "seconds": seconds,
            "tested": len(owner.rest.labels),
            "before": count(self.network, owner.rest),
            "after": count(network, owner.rest),
        }


def choose(bench: Bench, config: str) -> None:
    """A recipe on each owner, and on 6,000 digits of the others: nothing is kept."""
    names = bench.hardest()
    others = (~torch.isin(bench.writers, torch.tensor(names))).nonzero().flatten()
    random = torch.Generator().manual_seed(SEED)
    some = bench.digits.of(others[torch.randperm(len(others), generator=random)[:6000]])
    figures, after = [], []
    for name in names:
        owner = owner_of(bench.digits.of(bench.writers == name))
        network, its = bench.owner(owner, config)
        figures.append(its)
        after.append(count(network, some))
        print(name, json.dumps(its | {"others": after[-1]}), flush=True)
    sums = {key: sum(its[key] for its in figures) for key in ("tested", "before", "after")}
    others_errors = f"{count(bench.network, some)} -> {sum(after) / len(after):.1f} in the mean"
    print(json.dumps(sums), f"others' errors: {others_errors}")


class Kept:
    """What was measured so far, a line each in a file, by its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in map(json.loads, lines)}

    def add(self, name: str, figures: dict[str, Any]) -> None:
        self.rows[name] = {"name": name, **figures}
        with self.path.open("a") as file:
            file.write(json.dumps(self.rows[name]) + "\n")
        print(json.dumps(self.rows[name]), flush=True)


def on_test(network: Network) -> int:
    images, labels = test_digits()
    return int(errors(network, images[:, 0], labels).sum())


def measure(bench: Bench, kept: Kept, owners: dict[str, Owner], config: str) -> None:
    """Each owner, and the same fine-tuning without their digits."""
    name = f"{bench.base.stem}, without"
    if name not in kept.rows:
        network, seconds = fine_tune(bench.base, None, bench.held_out, config)
        after = {who: count(network, owner.rest) for who, owner in owners.items()}
        test = [on_test(bench.network), on_test(network)]
        kept.add(name, {"seconds": seconds, "after": after, "test": test})
    before = kept.rows[name]["test"][0]
    for who, owner in owners.items():
        if who not in kept.rows:
            network, figures = bench.owner(owner, config)
            kept.add(who, {**figures, "test": [before, on_test(network)]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("writers", type=Path, metavar="WRITERS")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--choose", action="store_true", help="on another third, and no test")
    parser.add_argument("--config", default=str(ROOT / "configs" / "finetune.yaml"))
    args = parser.parse_args()
    quiet()
    keep_freed_memory()
    mnist_lit.data.drawn_digits = cache(mnist_lit.data.drawn_digits)  # they are the same each time
    warnings.simplefilter("ignore")  # of a batch that is smaller than another, and the like
    args.work.mkdir(parents=True, exist_ok=True)
    writers = writers_of(args.writers)
    if args.choose:
        choose(Bench(args.work, "base-choose", writers, third=1), args.config)
        return
    bench, kept = Bench(args.work, "base", writers), Kept(args.work / "owners.jsonl")
    owners = {
        str(name): owner_of(bench.digits.of(bench.writers == name)) for name in bench.hardest()
    }
    measure(bench, kept, owners, args.config)
    undrawn = Bench(args.work, "base-undrawn", writers, drawn=0)
    some = undrawn.digits.of(torch.arange(STYLED))  # of many writers: the style is one's own
    measure(undrawn, kept, {style: in_style(some, style) for style in STYLES}, args.config)
    save("owners", {"rows": list(kept.rows.values())}, epochs=EPOCHS, digits=DIGITS)


if __name__ == "__main__":
    main()
