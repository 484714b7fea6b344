"""Compares recipes on writers whom they have not seen, digit by digit.

    python benchmarks/study.py WRITERS.csv.gz --work DIR fast fast,trainer.max_epochs=2

The writers of MNIST's test set are disjoint from those of its training set; digits that are held
out at random are not. So the 539 writers of the training set are dealt into folds, each with the
same share of either group of them, and each recipe is trained without one fold and evaluated on it.
WRITERS is a table with the columns `image`, `nist_series` and `writer`; one can be made from the
extended labels of QMNIST (Yadav and Bottou, Cold Case: The Lost MNIST Digits, 2019).

A recipe is the name of a config file and settings of its own behind commas. Each recipe is compared
with the first, run by run (the same fold and seed), by the errors in 10,000 digits: the mean
difference with its 95 % interval by Student's t, and how many digits only one of both has wrong.
A run that is finished is kept in DIR, so that a study that was broken off goes on with the next.
With --save NAME the result is benchmarks/results/NAME.json. MNIST's test set is not touched.
"""

import argparse
import csv
import gzip
import hashlib
import itertools
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from owners import WithoutWriters, trainer_of, writers_of
from record import save
from scipy import stats
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mnist_lit.augment import Augmentation
from mnist_lit.console import quiet
from mnist_lit.data import RawMNIST
from mnist_lit.files import written_whole
from mnist_lit.module import DigitClassifier
from mnist_lit.strokes import Strokes

ROOT = Path(__file__).parent.parent
FIRST_SEED = 500  # none that a result of this project has


def folds_of(table: Path, number: int) -> Tensor:
    """(60000,) int64: the fold of each training image, which is that of its writer."""
    with gzip.open(table, "rt") as file:
        group_of = {int(row["writer"]): row["nist_series"] for row in csv.DictReader(file)}
    generator = torch.Generator().manual_seed(0)
    fold_of = torch.empty(max(group_of) + 1, dtype=torch.int64)
    for group in sorted(set(group_of.values())):
        writers = torch.tensor(sorted(w for w, its in group_of.items() if its == group))
        dealt = torch.arange(len(writers)) % number
        fold_of[writers[torch.randperm(len(writers), generator=generator)]] = dealt
    return fold_of[writers_of(table)]


def config_of(recipe: str) -> dict[str, Any]:
    """`fast,model.tta=true` -> the sections of configs/fast.yaml, with that."""
    name, *changes = recipe.split(",")
    config: dict[str, Any] = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    for change in changes:
        path, _, value = change.partition("=")
        *sections, last = path.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = yaml.safe_load(value)
    return config


def run(recipe: str, fold: int, seed: int, folds: Tensor, work: Path) -> npt.NDArray[np.bool_]:
    """(60000,): which digits of the fold a network has wrong that was trained without it."""
    name = re.sub(r"[^a-zA-Z0-9.=]+", "-", recipe)
    if len(name) > 200:  # which file systems do not take
        name = f"{name[:180]}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    kept = work / f"{name}-fold{fold}-seed{seed}.npz"
    if kept.exists():
        with np.load(kept) as arrays:
            wrong: npt.NDArray[np.bool_] = arrays["wrong"]
        return wrong
    started = time.perf_counter()
    config = config_of(recipe)
    data = config["data"] | {"val_size": 0, "data_dir": str(work / "data")}
    data["augmentation"] = Augmentation(**data.get("augmentation", {}))
    data["strokes"] = Strokes(**data.get("strokes", {}))
    torch.manual_seed(seed)
    model, held_out = DigitClassifier(**config.get("model", {})), folds == fold
    fit = trainer_of(config["trainer"] | {"limit_val_batches": 0}, [])
    digits = WithoutWriters(held_out, **data)
    fit.fit(model, digits)
    mnist = RawMNIST(str(work / "data"), train=True)
    images, labels = mnist.data[held_out][:, None], mnist.targets[held_out]
    unseen = DataLoader(TensorDataset(images / 255), batch_size=digits.batch_size)
    answers = torch.cat(fit.predict(model, unseen))  # type: ignore[arg-type]
    wrong = np.zeros(len(folds), dtype=bool)
    wrong[held_out.numpy()] = (answers != labels).numpy()
    with written_whole(kept) as partial, partial.open("wb") as file:
        np.savez_compressed(file, wrong=wrong)
    print(
        f"{recipe}, fold {fold}, seed {seed}: {wrong.sum()} of {len(labels):,} wrong,"
        f" {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    return wrong


def compare(
    first: list[npt.NDArray[np.bool_]], other: list[npt.NDArray[np.bool_]], sizes: list[int]
) -> dict[str, Any]:
    """Two recipes over the same runs: errors in 10,000 digits, and their difference."""
    rates = np.array(
        [[10_000 * wrong.sum() / size for wrong, size in zip(runs, sizes, strict=True)]
         for runs in (first, other)]
    )  # fmt: skip
    differences = rates[1] - rates[0]
    number = len(differences)
    spread = differences.std(ddof=1) / number**0.5 if number > 1 else float("nan")
    reach = float(stats.t.ppf(0.975, number - 1) * spread) if number > 1 else float("nan")
    pairs = list(zip(first, other, strict=True))
    return {
        "errors": float(rates[1].mean()),
        "difference": float(differences.mean()),
        "interval": reach,
        "only_first_wrong": int(sum((a & ~b).sum() for a, b in pairs)),
        "only_this_wrong": int(sum((b & ~a).sum() for a, b in pairs)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("writers", type=Path, metavar="WRITERS.csv.gz")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE[,SETTING=VALUE...]")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="kept runs")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each recipe on each fold")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    args = parser.parse_args()
    quiet()
    args.work.mkdir(parents=True, exist_ok=True)
    folds = folds_of(args.writers, args.folds)
    runs: dict[str, list[npt.NDArray[np.bool_]]] = {recipe: [] for recipe in args.recipes}
    sizes: list[int] = []
    result: dict[str, Any] = {}
    for seed, fold in itertools.product(range(args.seeds), range(args.folds)):
        sizes.append(int((folds == fold).sum()))
        for recipe in args.recipes:
            runs[recipe].append(run(recipe, fold, FIRST_SEED + seed, folds, args.work))
        result = {
            recipe: compare(runs[args.recipes[0]], wrong, sizes) for recipe, wrong in runs.items()
        }
    for recipe, of in result.items():
        print(
            f"{recipe}: {of['errors']:.1f} errors in 10,000, {of['difference']:+.1f}"
            f" ± {of['interval']:.1f}; alone wrong on {of['only_this_wrong']} digits, the first"
            f" on {of['only_first_wrong']}"
        )
    if args.save:
        save(args.save, {"recipes": result, "runs": len(sizes)}, folds=args.folds, seeds=args.seeds)


if __name__ == "__main__":
    main()
