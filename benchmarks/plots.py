"""The README's plots of what was measured, from benchmarks/results/*.json.

    python benchmarks/plots.py

Writes seeds.png, parameters.png and seconds.png to benchmarks/results/.
"""

import json
import statistics
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from record import RESULTS

STUDIES = {"default": "default", "fast": "fast.yaml", "best": "best.yaml", "tiny": "tiny.yaml"}
# Single runs in public repositories: parameters, test accuracy in the best epoch and in the last.
# The last of them is the mean of 1,500 networks; of the one before it the last epoch alone is told.
REFERENCES = [
    (19_972, 99.57, 99.57),
    (17_506, 99.44, 99.38),
    (9_994, 99.61, 99.60),
    (6_188, 99.54, 99.44),
    (4_838, 99.42, 99.41),
    (1_560, 99.21, 99.21),
    (326_000, 99.641, 99.641),
]


def studies() -> dict[str, dict[str, Any]]:
    """The results of benchmarks/seeds.py that there are, by their labels."""
    return {
        label: json.loads(path.read_text())
        for name, label in STUDIES.items()
        if (path := RESULTS / f"{name}.json").exists()
    }


def accuracies(study: dict[str, Any]) -> list[float]:
    """The seeds' test accuracies in percent."""
    return [100 * run["test_acc"] for run in study["runs"]]


def draw_seeds() -> Figure:
    """A dot for every seed, a bar at the mean of each study."""
    figure, axes = one_plot((7, 3.2))
    for row, study in enumerate(reversed(studies().values())):
        values = sorted(accuracies(study))
        # Dots of equal accuracy stand on top of each other.
        heights = [row + 0.12 * values[:i].count(value) for i, value in enumerate(values)]
        axes.plot(values, heights, "o", color="tab:blue", alpha=0.7, markersize=6)
        mean = statistics.mean(values)
        axes.vlines(mean, row - 0.3, row + 0.45, color="tab:red")
        axes.annotate(f"{mean:.2f}", (mean, row - 0.3), ha="center", va="top", color="tab:red")
    axes.axvline(99.4, color="0.7", linewidth=0.8, zorder=0)
    labels = [f"{label}\n{len(study['runs'])} seeds" for label, study in studies().items()]
    axes.set_yticks(range(len(labels)), labels[::-1])
    axes.set(xlabel="test accuracy, % (a dot for each seed; red: mean)")
    axes.set_ylim(-0.6, len(labels) - 0.3)
    return figure


def draw_parameters() -> Figure:
    """Accuracy against parameters: our means with their seeds' spread, others' single runs.

    Recipes with the same number of parameters stand side by side.
    """
    figure, axes = one_plot((7, 4))
    for i, (parameters, best, last) in enumerate(REFERENCES):
        axes.plot([parameters] * 2, [last, best], color="0.6", linewidth=1, zorder=1)
        labels = ("published, best epoch", "published, last epoch") if i == 0 else (None, None)
        axes.plot(parameters, best, "^", color="0.5", label=labels[0])
        axes.plot(parameters, last, "v", color="0.75", label=labels[1])
    axes.annotate(
        "mean of 1,500", (326_000, 99.641), (-8, -4), textcoords="offset points", ha="right"
    )
    drawn: list[int] = []
    for label, study in studies().items():
        values, parameters = accuracies(study), study["runs"][0]["parameters"]
        drawn.append(parameters)
        place = parameters * 1.12 ** (
            drawn.count(parameters) - 1
        )  # beside, not on top of each other
        mean = statistics.mean(values)
        spread = [[mean - min(values)], [max(values) - mean]]
        axes.errorbar(
            place,
            mean,
            yerr=spread,
            fmt="o",
            color="tab:blue",
            capsize=3,
            label="ours: mean, lowest and highest of its seeds" if len(drawn) == 1 else None,
        )
        axes.annotate(label, (place, mean), (4, 3), textcoords="offset points")
    axes.axhline(99.4, color="tab:red", linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlabel="parameters", ylabel="test accuracy, %")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def draw_seconds() -> Figure:
    """Test accuracy against seconds: every epoch of the plain script, and the fast runs' ends."""
    study = json.loads((RESULTS / "time_to_accuracy.json").read_text())
    figure, axes = one_plot((7, 3.6))
    curve = study["plain"]["curve"]
    seconds, values = [point["seconds"] for point in curve], [point["test_acc"] for point in curve]
    axes.plot(
        seconds, [100 * value for value in values], "o-", color="0.5", label="plain script, epochs"
    )
    axes.plot(
        [run["seconds"] for run in study["fast"]],
        [100 * run["test_acc"] for run in study["fast"]],
        "*",
        color="tab:blue",
        markersize=12,
        label="fast.yaml, whole runs",
    )
    axes.axhline(99.4, color="tab:red", linewidth=0.8, zorder=0, label="99.4 %")
    axes.set(xscale="log", xlabel="seconds on two CPU cores", ylabel="test accuracy, %")
    marks = [60, 120, 300, 600, 1200, 1800]
    axes.set_xticks(marks, [str(mark) for mark in marks])
    axes.minorticks_off()
    axes.legend(loc="lower right")
    return figure


def one_plot(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def main() -> None:
    draw_seeds().savefig(RESULTS / "seeds.png", dpi=110)
    draw_parameters().savefig(RESULTS / "parameters.png", dpi=110)
    if (RESULTS / "time_to_accuracy.json").exists():
        draw_seconds().savefig(RESULTS / "seconds.png", dpi=110)


if __name__ == "__main__":
    main()
