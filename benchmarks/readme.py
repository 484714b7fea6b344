"""Fills the README's tables from benchmarks/results/*.json.

    python benchmarks/readme.py

A table stands between `<!-- results: NAME -->` and `<!-- end -->`.
"""

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plots import STUDIES
from seeds import mean_with_interval

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return result


def table(header: str, rows: list[list[str]]) -> str:
    columns = header.count("|") + 1
    lines = [f"| {header} |", "| " + " | ".join(["---"] * columns) + " |"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def seeds(name: str) -> str:
    """A row for every seed of a study."""
    study = load(name)
    rows = []
    for run in study["runs"]:
        target = f"epoch {run['target_epoch']:.0f}" if "target_epoch" in run else "not reached"
        rows.append(
            [
                f"{run['seed']}",
                f"{100 * run['best_val_acc']:.2f} %",
                target,
                f"{run['epochs']:.0f}",
                f"**{100 * run['test_acc']:.2f} %**",
            ]
        )
    header = "seed | best validation | target 99.4 % reached | epochs | test"
    how = study["how"]
    return (
        f"{table(header, rows)}\n\n{summary(study)}; torch {how['torch']}, commit {how['commit']}."
    )


def headline() -> str:
    study = load("default")
    accuracies = [100 * run["test_acc"] for run in study["runs"]]
    mean, _ = mean_with_interval(accuracies)
    epochs = sorted(run["epochs"] for run in study["runs"])
    # A run that was resumed has no seconds.
    seconds = min(run["seconds"] / run["epochs"] for run in study["runs"] if "seconds" in run)
    stopped = sum("target_epoch" in run for run in study["runs"])
    ended = "every run" if stopped == len(epochs) else f"{stopped} of {len(epochs)} runs"
    return (
        f"**{mean:.2f} % of the test set** is read right, on average over {len(epochs)} seeds"
        f" (lowest {min(accuracies):.2f} %, highest {max(accuracies):.2f} %), after"
        f" {epochs[0]:.0f} to {epochs[-1]:.0f} epochs of {seconds:.0f} s or more on one CPU core:"
        f" {ended} stopped by itself at its target.\n\n{headline_fast()}\n\n"
        f"{headline_recipe('best')}. {headline_recipe('tiny')}."
    )


def headline_fast() -> str:
    fast, race = load("fast"), load("time_to_accuracy")
    mean, _ = mean_with_interval([100 * run["test_acc"] for run in fast["runs"]])
    seconds = statistics.mean(run["seconds"] for run in race["fast"])
    return (
        f"`configs/fast.yaml` reads **{mean:.2f} %** (mean of {len(fast['runs'])} seeds) after"
        f" {fast['runs'][0]['epochs']:.0f} epochs: {seconds:.0f} s on two CPU cores,"
        f" **{race['ratio']:.0f} times sooner** than a plain PyTorch script of the same network"
        " reaches 99.4 %."
    )


def headline_recipe(name: str) -> str:
    runs = load(name)["runs"]
    mean, _ = mean_with_interval([100 * run["test_acc"] for run in runs])
    return (
        f"`configs/{name}.yaml` reads **{mean:.2f} %** (mean of {len(runs)} seeds) after"
        f" {runs[0]['epochs']:.0f} epochs with {runs[0]['parameters']:,} parameters"
    )


def summary(study: dict[str, Any]) -> str:
    accuracies = [100 * run["test_acc"] for run in study["runs"]]
    mean, half = mean_with_interval(accuracies)
    return (
        f"Mean of {len(accuracies)} seeds {mean:.2f} ± {half:.2f} % (95 % interval of the mean),"
        f" standard deviation {statistics.stdev(accuracies):.2f}, lowest {min(accuracies):.2f} %"
    )


def recipes() -> str:
    """A row for every study of seeds."""
    rows = []
    for name in STUDIES:
        if not (HERE / "results" / f"{name}.json").exists():
            continue
        study = load(name)
        runs = study["runs"]
        command = f"`configs/{name}.yaml`" if study["how"]["config"] else "the default"
        epochs = sorted({f"{run['epochs']:.0f}" for run in runs}, key=int)
        accuracies = [100 * run["test_acc"] for run in runs]
        mean, half = mean_with_interval(accuracies)
        rows.append(
            [
                command,
                f"{runs[0]['parameters']:,}",
                epochs[0] if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}",
                f"{len(runs)}",
                f"**{mean:.2f} ± {half:.2f}**",
                f"{min(accuracies):.2f} to {max(accuracies):.2f}",
                study["how"]["commit"],
            ]
        )
    header = "recipe | parameters | epochs | seeds | mean test accuracy, % | lowest to highest, %"
    return table(f"{header} | commit", rows)


def time_to_accuracy() -> str:
    study = load("time_to_accuracy")
    plain, fast = study["plain"], study["fast"]
    seconds = statistics.mean(run["seconds"] for run in fast)
    end = "99.4 %" if plain["reached"] else f"its {plain['epochs']} epochs, 99.4 % not reached"
    rows = [
        [
            "plain script",
            f"{plain['epochs']}",
            f"{plain['epoch_seconds']:.0f}",
            f"{plain['seconds']:.0f} to {end}",
            f"{100 * plain['curve'][-1]['test_acc']:.2f}",
        ],
        [
            "`configs/fast.yaml`",
            f"{fast[0]['epochs']}",
            f"{statistics.mean(run['epoch_seconds'] for run in fast):.0f}",
            f"{seconds:.0f}",
            ", ".join(f"{100 * run['test_acc']:.2f}" for run in fast),
        ],
    ]
    header = "program | epochs | seconds an epoch | seconds in all | test accuracy, %"
    return f"{table(header, rows)}\n\n**{study['ratio']:.1f} times sooner.**"


def inference() -> str:
    study = load("inference")
    rows = [
        [
            name,
            f"{size / 1000:.1f} kB",
            f"{1000 * study[f'{key}_1']:.2f} ms",
            f"{1000 / study[f'{key}_1000']:,.0f}",
        ]
        for name, key, size in (
            ("PyTorch", "pytorch", study["bytes"]["digitnet.pt"]),
            ("ONNX Runtime", "onnxruntime", study["bytes"]["digitnet.onnx"]),
        )
    ]
    return table("one core | file | one digit | digits a second in batches of 1,000", rows)


FAULTS = {
    "killed": "SIGKILL during a fit, at 24 moments and around the writing of every checkpoint:"
    " resumed, it ends with the same weights and metrics, bit for bit",
    "signal": "Ctrl-C or SIGTERM: says how to go on and exits as a shell expects",
    "lost process": "one of two processes killed: the other ends with an error, none hangs",
    "full disk": "a full disk, met by each kind of file: it is named, no half-written file is left",
    "damaged data": "data files missing, truncated, altered, swapped, empty: repaired",
    "wrong usage": "wrong flags, values, configs, checkpoints and folders: named in a line or two",
    "payload": "files that execute code when unpickled, each given to train, test, predict, export"
    " and demo: refused, nothing executed",
    "wrong part": "checkpoints in which a part is something else: refused in a line, or no effect",
    "mutated checkpoint": "checkpoints with random bytes changed: read or refused",
    "mutated image": "image files with random bytes changed: read or refused",
    "hostile post": "hostile posts to the demo: a 4xx, and no memory kept",
}


def reliability() -> str:
    survived = load("reliability")["survived"]
    rows = [[fault, f"{survived[key]:,}"] for key, fault in FAULTS.items()]
    return table("fault | injected and survived", rows)


def step() -> str:
    study = load("step")
    milliseconds, ratios, how = study["milliseconds"], study["ratios"], study["how"]
    names = ("loading", "transfer and augmentation", "forward", "forward and backward", "bare step")
    rows = [[name, f"{milliseconds[name]:.2f} ms"] for name in (*names, "Trainer step")]
    rows += [[name, f"{100 * value:.1f} %"] for name, value in ratios.items()]
    header = f"batch of {how['batch_size']}, {how['threads']} threads, {how['precision']} | "
    return f"{table(header, rows)}\n\nCommit {how['commit']}."


def epochs() -> str:
    """Seconds of an epoch by batch size and threads."""
    seconds = load("step")["epoch_seconds"]
    parsed = {tuple(map(int, re.findall(r"\d+", name))): value for name, value in seconds.items()}
    sizes, threads = (sorted({key[i] for key in parsed}) for i in (0, 1))
    rows = [[f"{n}", *(f"{parsed[size, n]:.0f}" for size in sizes)] for n in threads]
    return table("threads \\ batch | " + " | ".join(map(str, sizes)), rows)


def processes() -> str:
    study = load("processes")
    rows = [
        [name, f"{statistics.median(study['epoch_seconds'][name]):.1f}", f"{speedup:.2f}"]
        for name, speedup in study["speedups"].items()
    ]
    return table("steps of 64 | seconds an epoch, validation included | speed-up", rows)


def writers() -> str:
    """How alike the training images slant, by how far apart they stand."""
    correlations = load("writers")["correlations"]
    apart = [f"{int(places):,}" for places in correlations]
    row = ["correlation of their slants", *(f"{value:.2f}" for value in correlations.values())]
    return table("images apart | " + " | ".join(apart), [row])


def sureness() -> str:
    """The share of digits that is kept against how many of these are right."""
    study = load("sureness")
    shares, right = zip(*study["curve"], strict=True)
    header = "of the digits, the surest | " + " | ".join(f"{100 * x:.0f} %" for x in shares)
    return (
        f"{table(header, [['right', *(f'{100 * x:.2f} %' for x in right)]])}\n\n"
        f"{100 * study['nothing_refused']:.0f} % of what is no digit is marked, where 2 % of the"
        f" digits that are read right are; by the softmax alone {100 * study['by_softmax']:.0f} %."
    )


def wild() -> str:
    rows = [
        [
            name,
            f"{counts['images']:,}",
            f"{100 * counts['right'] / counts['images']:.1f} %",
            f"{100 * counts['marked'] / counts['images']:.1f} %",
            f"{counts['sure_wrong']}",
        ]
        for name, counts in load("wild")["sources"].items()
    ]
    return table("source | images | right | marked `?` | wrong at 95 % and more", rows)


def demo() -> str:
    study = load("demo")
    return (
        f"One client alone waits {study['alone_ms']:.0f} ms for an answer (median)."
        f" {study['how']['clients']} at once posted {study['answers']:,} drawings in"
        f" {study['how']['seconds']:.0f} s and waited {study['together_ms']:.0f} ms; all were read."
    )


TABLES: dict[str, Callable[[], str]] = {
    "headline": headline,
    "default": lambda: seeds("default"),
    "recipes": recipes,
    "time_to_accuracy": time_to_accuracy,
    "inference": inference,
    "sureness": sureness,
    "wild": wild,
    "step": step,
    "epochs": epochs,
    "processes": processes,
    "reliability": reliability,
    "demo": demo,
    "writers": writers,
}


def main() -> None:
    README.write_text(
        re.sub(
            r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)",
            lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[3]}",
            README.read_text("utf-8"),
            flags=re.DOTALL,
        ),
        "utf-8",
    )


if __name__ == "__main__":
    main()
