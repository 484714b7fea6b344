"""Accuracy over seeds: trains once for each seed and reports each run's single test accuracy.

    python benchmarks/seeds.py NAME [--config FILE] [--first 260] [--seeds 10] [--jobs 2]

Every run is the command line in a process of its own, below benchmarks/runs/NAME. A study that was
killed goes on where it stopped when the same command is given again: finished seeds are kept and a
broken one resumes from its last epoch. The result is benchmarks/results/NAME.json, and the plots of
all studies are drawn anew. Seeds below 260 are used up: recipes were chosen knowing their results.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import plots
from record import save
from studies import accuracies, mean_with_interval
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent


def train(name: str, seed: int, config: str | None, threads: int) -> dict[str, float]:
    """One run to its end, from its last epoch if it was broken off; its final metrics."""
    folder = HERE / "runs" / name / f"seed{seed}"
    version = folder / "lightning_logs" / "version_0"
    if not (metrics := final_metrics(version)):
        last = version / "checkpoints" / "last.ckpt"
        if not last.exists():  # nothing to go on with: the new run is to be version_0 as well
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        flags = ["--seed_everything", str(seed), "--trainer.default_root_dir", str(folder)]
        flags += ["--data.data_dir", str(HERE / "runs" / "data")]
        if last.exists():
            flags += ["--ckpt_path", str(last)]
        if config:
            flags = ["--config", config, *flags]
        with (folder / "log.txt").open("a") as log:
            subprocess.run(
                [sys.executable, "-m", "mnist_lit.train", *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                check=True,
            )
        metrics = final_metrics(version)
    # The first line of every fit.
    starts = re.findall(r"([\d,]+) parameters, on", (folder / "log.txt").read_text())
    metrics["parameters"] = int(starts[0].replace(",", ""))
    if len(starts) > 1:
        del metrics["seconds"]  # which are those since it was resumed
    print(f"seed {seed}: {describe(metrics)}", flush=True)
    return {"seed": seed, **metrics}


def final_metrics(version: Path) -> dict[str, float]:
    """What the run logged beside its hyperparameters; nothing while it is not finished."""
    if not version.exists():
        return {}
    events = EventAccumulator(str(version)).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("final/")]
    return {tag.removeprefix("final/"): events.Scalars(tag)[-1].value for tag in tags}


def describe(run: dict[str, float]) -> str:
    reached = (
        f"reached in epoch {run['target_epoch']:.0f}" if "target_epoch" in run else "not reached"
    )
    best = f"{100 * run['best_val_acc']:.2f} %" if "best_val_acc" in run else "none"
    seconds = f"{run['seconds']:.0f} s" if "seconds" in run else "resumed"
    return (
        f"test {100 * run['test_acc']:.2f} %, best val {best}, target {reached},"
        f" {run['epochs']:.0f} epochs, {seconds}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="of the study and of its result file")
    parser.add_argument("--config", help="a file of configs/; without it, the defaults")
    parser.add_argument("--first", type=int, default=260, help="seed; those below are used up")
    parser.add_argument("--seeds", type=int, default=10, help="how many, at least 2")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("--seeds must be at least 2: one run has no interval")

    with ThreadPoolExecutor(args.jobs) as pool:
        runs = list(
            pool.map(
                lambda seed: train(args.name, seed, args.config, args.threads),
                range(args.first, args.first + args.seeds),
            )
        )
    study = {"runs": runs}
    values = accuracies(study)
    mean, half = mean_with_interval(values)
    print(
        f"\ntest accuracy of {len(runs)} seeds: mean {mean:.3f} % +- {half:.3f} (95 %), standard"
        f" deviation {statistics.stdev(values):.3f}, lowest {min(values):.2f} %"
    )
    save(args.name, study, **vars(args))
    plots.main()


if __name__ == "__main__":
    main()
