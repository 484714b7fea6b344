"""Fills README.md, benchmarks/README.md and docs/EXPERIMENTS.md from benchmarks/results/*.json.

    python benchmarks/readme.py

What is filled stands between `<!-- results: NAME -->` and `<!-- end -->`; NAME is one of BLOCKS.
"""

import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from published import PUBLISHED
from studies import accuracies, load, mean_with_interval, recipes

ROOT = Path(__file__).parent.parent
DOCUMENTS = tuple(
    ROOT / name for name in ("README.md", "benchmarks/README.md", "docs/EXPERIMENTS.md")
)


def table(header: str, rows: list[list[str]]) -> str:
    columns = header.count("|") + 1
    lines = [f"| {header} |", "| " + " | ".join(["---"] * columns) + " |"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def mean(study: dict[str, Any]) -> str:
    """`99.49 ± 0.04`, in percent."""
    center, half = mean_with_interval(accuracies(study))
    return f"{center:.2f} ± {half:.2f}"


def span(values: list[float], form: str) -> str:
    """`15 to 19`, or `3` if all are the same."""
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} to {high}"


def named(name: str) -> str:
    """The flag that chooses a recipe."""
    return "" if name == "default" else f" --config {name}"


def recipe_table() -> str:
    """The four recipes at a glance."""
    rows = []
    for name, study in recipes().items():
        rows.append(
            [
                f"**{name}**",
                f"{study['runs'][0]['parameters']:,}",
                f"**{mean(study)}**",
                f"{statistics.median(run['epochs'] for run in study['runs']):g}",
                f"`mnist-lit train{named(name)}`",
            ]
        )
    numbers = span([len(study["runs"]) for study in recipes().values()], "d")
    race, default = load("time_to_accuracy"), load("default_time")
    fast = statistics.mean(run["seconds"] for run in race["fast"])
    seconds = span([run["seconds"] for run in default["runs"]], ".0f")
    epochs = span([run["epochs"] for run in default["runs"]], "d")
    header = "recipe | parameters | mean test accuracy, % | epochs | command"
    return (
        f"{table(header, rows)}\n\nMean of {numbers} seeds with its 95 % interval. Whole commands"
        f" on two cores: `fast` {fast:.0f} s ({race['how']['machine']}), the default {seconds} s"
        f" for {epochs} epochs ({default['how']['machine']}, {len(default['runs'])} runs)."
    )


def studies() -> str:
    """What each study over seeds gave, and on which seeds and commit."""
    rows = []
    for name, study in recipes().items():
        runs, values, how = study["runs"], accuracies(study), study["how"]
        rows.append(
            [
                name,
                f"{runs[0]['parameters']:,}",
                span([run["epochs"] for run in runs], ".0f"),
                f"**{mean(study)}**",
                f"{statistics.stdev(values):.2f}",
                span(values, ".2f"),
                f"{how['torch']}, {how['commit']}",
            ]
        )
    header = "recipe | parameters | epochs | mean test accuracy, % | standard deviation"
    return table(f"{header} | lowest to highest, % | torch, commit", rows)


def seeds() -> str:
    """Each seed's test accuracy."""
    rows = []
    for name, study in recipes().items():
        numbers = [run["seed"] for run in study["runs"]]
        row = " ".join(f"{value:.2f}" for value in accuracies(study))
        rows.append([name, span(numbers, "d"), row])
    return table("recipe | seeds | test accuracy of each, in order, %", rows)


def default_seeds() -> str:
    """What the default chose and reached on the held-out digits of each seed."""
    rows = [
        [
            f"{run['seed']}",
            f"{100 * run['best_val_acc']:.2f}",
            f"{run['target_epoch']:.0f}" if "target_epoch" in run else "not reached",
            f"{run['epochs']:.0f}",
            f"{100 * run['test_acc']:.2f}",
        ]
        for run in load("default")["runs"]
    ]
    header = "seed | best validation accuracy, % | target reached in epoch | epochs"
    return table(f"{header} | test accuracy, %", rows)


def published() -> str:
    rows = [
        [
            f"[{point.name}]({point.url})" if point.url else point.name,
            f"{point.parameters:,}",
            "" if point.best is None else f"{point.best:.2f}",
            f"{point.last:.3f}".removesuffix("0"),
            point.what,
        ]
        for point in PUBLISHED
    ]
    header = "source | parameters | best epoch on the test set, % | last epoch, %"
    return table(f"{header} | what it is", rows)


def speed() -> str:
    """The fast recipe against the plain script, in a sentence."""
    race = load("time_to_accuracy")
    seconds = statistics.mean(run["seconds"] for run in race["fast"])
    return (
        f"On two cores of an {race['how']['machine']} the whole command `mnist-lit train --config"
        f" fast` takes **{seconds:.0f} s**.\nThat is **{race['ratio']:.0f}x faster to 99.4 %** than"
        f" a plain PyTorch script of the same network ({race['plain']['seconds']:,.0f} s)."
    )


def time_to_accuracy() -> str:
    race, default = load("time_to_accuracy"), load("default_time")
    plain = race["plain"]
    end = "99.4 %" if plain["reached"] else f"its {plain['epochs']} epochs, 99.4 % not reached"
    rows = [
        [
            "plain script",
            f"{plain['epochs']}",
            f"{plain['epoch_seconds']:.0f}",
            f"{plain['seconds']:,.0f} to {end}",
            f"{100 * plain['curve'][-1]['test_acc']:.2f}",
        ]
    ]
    for name, runs in (("the default", default["runs"]), ("`--config fast`", race["fast"])):
        rows.append(
            [
                name,
                span([run["epochs"] for run in runs], "d"),
                f"{statistics.mean(run['epoch_seconds'] for run in runs):.0f}",
                f"{statistics.mean(run['seconds'] for run in runs):.0f}",
                " ".join(f"{100 * run['test_acc']:.2f}" for run in runs),
            ]
        )
    header = "program | epochs | seconds an epoch | seconds in all | test accuracy, %"
    return (
        f"{table(header, rows)}\n\n**{race['ratio']:.1f}x faster to 99.4 %**, {made(race)}."
        f" The default: {made(default)}."
    )


def made(result: dict[str, Any]) -> str:
    """With which torch and at which commit."""
    return f"torch {result['how']['torch']}, commit {result['how']['commit']}"


def step() -> str:
    study = load("step")
    milliseconds, ratios, how = study["milliseconds"], study["ratios"], study["how"]
    names = ("loading", "transfer and augmentation", "forward", "forward and backward", "bare step")
    rows = [[name, f"{milliseconds[name]:.2f} ms"] for name in (*names, "Trainer step")]
    rows += [[name, f"{100 * value:.1f} %"] for name, value in ratios.items()]
    header = f"batch of {how['batch_size']}, {how['threads']} threads, {how['precision']} | "
    return f"{table(header, rows)}\n\n{made(study).capitalize()}."


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


def busy() -> str:
    study = load("busy")
    rows = [
        [*name.split(": "), f"{statistics.median(seconds):.1f}", f"{study['ratios'][name]:.2f}"]
        for name, seconds in study["seconds"].items()
    ]
    return table("a core is busy | threads | seconds | ratio", rows)


def inference() -> str:
    rows = [
        [
            f"`--format {row['format']} --{row['precision']}`",
            row["runtime"],
            f"{row['bytes'] / 1000:.1f} kB",
            f"{100 * row['accuracy']:.2f} %",
            f"{row['digits'] - row['same']}",
            f"{row['difference']:.1g}",
            f"{1000 * row['seconds']:.2f} ms",
        ]
        for row in load("inference")["files"]
    ]
    header = "file | run by | size | test accuracy | digits classified otherwise than by PyTorch"
    return table(f"{header} | logits within | one digit", rows)


def demo() -> str:
    study = load("demo")
    return (
        f"One client alone waits {study['alone_ms']:.0f} ms for an answer (median)."
        f"\n{study['how']['clients']} at once wait {study['together_ms']:.0f} ms, and get"
        f" {study['answers']:,} answers in {study['how']['seconds']:.0f} s, none of them an error."
    )


def drawing() -> str:
    study = load("drawing")
    right = study["right"]
    rows = [["read right, of 52", *(str(number) for number in right.values())]]
    head = table(" | ".join(["variant", *right]), rows)
    return f"{head}\n\n{study['total']} of {study['drawings']} drawings are read right."


FAULTS = {
    "killed": "SIGKILL during a fit, at 24 moments and around the writing of every checkpoint:"
    " resumed, it ends with the same weights and metrics, bit for bit",
    "signal": "Ctrl-C or SIGTERM: says how to go on and exits as a shell expects",
    "lost process": "one of two processes killed: the other ends with an error, none hangs",
    "full disk": "a full disk, met by each kind of file: it is named, no half-written file is left",
    "damaged data": "data files missing, truncated, empty: replaced; altered, swapped: refused",
    "wrong usage": "wrong flags, values, configs, checkpoints and folders: named in a line or two",
    "payload": "files that execute code when unpickled, each given to train, test, predict, export"
    " and demo: refused, nothing executed",
    "wrong part": "checkpoints in which a part is something else: refused in a line, or no effect",
    "mutated checkpoint": "checkpoints with random bytes changed: loaded or refused",
    "mutated image": "image files with random bytes changed: classified or refused",
    "mutated file in a process of its own": "checkpoints and images with random bytes changed,"
    " read by one process: no crash, no traceback",
    "crafted file": "checkpoints and images made to crash a reader, fill its memory or keep it"
    " busy: no crash, no traceback",
    "crafted checkpoint": "checkpoints with a state that no fit leaves, or built to harm: refused",
    "config of a stranger": "configs that name a class where the user named no config: left out",
    "hostile post": "hostile posts and connections to the demo: refused, and no memory kept",
}


def reliability() -> str:
    survived = load("reliability")["survived"]
    rows = [[fault, f"{survived[key]:,}"] for key, fault in FAULTS.items() if key in survived]
    most = load("reliability").get("most", {})
    rows += [[f"the most {name} that these took", f"{value:g}"] for name, value in most.items()]
    return table("fault | injected and survived", rows)


def robustness() -> str:
    """The faults that a user may meet, a line each."""
    survived = load("reliability")["survived"]
    return (
        "- A fit killed at any moment resumes to the same weights, bit for bit"
        f" ({survived['killed']} kills).\n"
        f"- A full disk is named, and leaves no half-written file ({survived['full disk']} kinds of"
        " file).\n"
        f"- A wrong flag, file or folder is named in a line or two ({survived['wrong usage']}"
        " mistakes).\n"
        "- A checkpoint or an image with random bytes changed is used or refused"
        f" ({survived['mutated checkpoint']:,} of each).\n"
        f"- A checkpoint that carries code is refused, and none of it runs ({survived['payload']}"
        " kinds, five commands)."
    )


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
    header = "share kept | " + " | ".join(f"{100 * x:.0f} %" for x in shares)
    return (
        f"{table(header, [['accuracy', *(f'{100 * x:.1f} %' for x in right)]])}\n\n"
        f"{100 * study['nothing_refused']:.0f} % of letters and scribbles are marked, for"
        f" {100 * study['marked']:.1f} % of the right digits. By the softmax alone,"
        f" {100 * study['by_softmax']:.0f} % would be."
    )


def wild_short() -> str:
    """scikit-learn's digits; the disguises, the pages and the rest, each kind together."""
    sources = load("wild")["sources"]
    groups: dict[str, list[dict[str, int]]] = {}
    for name, counts in sources.items():
        group = name.partition(":")[0] if ":" in name else name
        groups.setdefault(group, []).append(counts)
    shares = {}
    for name, found in groups.items():
        images, right = (sum(counts[key] for counts in found) for key in ("images", "right"))
        kinds = f", {len(found)} kinds" if len(found) > 1 else ""
        shares[f"{name}{kinds}"] = f"{100 * right / images:.1f} %"
    return table("what | " + " | ".join(shares), [["accuracy", *shares.values()]])


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


def owners() -> str:
    """Errors on writers' own digits, before and after, and what was forgotten."""
    rows = {row["name"]: row for row in load("owners")["rows"]}
    controls = {name: row for name, row in rows.items() if "without" in name}
    styles = [name for name in rows if not name.isdigit() and name not in controls]
    groups = {"20 writers": [name for name in rows if name.isdigit()]}
    groups |= {name: [name] for name in styles}
    table_rows = []
    for group, names in groups.items():
        control = controls["base, without" if names[0].isdigit() else "base-undrawn, without"]
        some = [rows[name] for name in names]
        tested, before, after = (sum(r[key] for r in some) for key in ("tested", "before", "after"))
        without = sum(control["after"][name] for name in names)
        test = [100 - r["test"][1] / 100 for r in some]
        table_rows.append(
            [
                group,
                f"{tested:,}",
                f"{before}",
                f"**{after}**",
                f"{without}",
                f"{100 - some[0]['test'][0] / 100:.2f}",
                f"{statistics.mean(test):.2f} ({span(test, '.2f')})",
            ]
        )
    header = "whose digits | tested | errors before | after | after, with MNIST alone"
    return table(f"{header} | MNIST test accuracy before, % | after, %", table_rows)


def page() -> str:
    """What the page's own preparation reads, beside Python's."""
    rows = []
    for kind in ("disguises", "pages"):
        counts = load("page")[kind]
        shares = (
            f"{100 * counts[name] / counts['images']:.1f} %"
            for name in ("same", "page_right", "python_right")
        )
        rows.append([kind, f"{counts['images']:,}", *shares, f"{counts['pixels']:.4f}"])
    return table("source | images | equal answers | page | Python | pixels apart, mean", rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "recipes": recipe_table,
    "studies": studies,
    "seeds": seeds,
    "default_seeds": default_seeds,
    "published": published,
    "speed": speed,
    "sureness": sureness,
    "wild": wild,
    "page": page,
    "wild_short": wild_short,
    "time_to_accuracy": time_to_accuracy,
    "step": step,
    "epochs": epochs,
    "processes": processes,
    "busy": busy,
    "inference": inference,
    "demo": demo,
    "drawing": drawing,
    "reliability": reliability,
    "robustness": robustness,
    "writers": writers,
    "owners": owners,
}


def fill(text: str) -> str:
    """A document with what the results give in each of its blocks."""
    return re.sub(
        r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)",
        lambda place: f"{place[1]}{BLOCKS[place[2]]()}\n{place[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    for path in DOCUMENTS:
        path.write_text(fill(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
