"""The plots of what was measured, from benchmarks/results/*.json.

    python benchmarks/plots.py

Writes seeds.png, parameters.png and seconds.png to benchmarks/results/.
"""

import statistics

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from published import PUBLISHED
from studies import RESULTS, accuracies, load, mean_with_interval, recipes


def draw_seeds() -> Figure:
    """A dot for every seed, a bar at the mean of each recipe."""
    figure, axes = one_plot((7, 3.2))
    studies = recipes()
    for row, study in enumerate(reversed(studies.values())):
        values = sorted(accuracies(study))
        # Dots of equal accuracy stand on top of each other.
        heights = [row + 0.12 * values[:i].count(value) for i, value in enumerate(values)]
        axes.plot(values, heights, "o", color="tab:blue", alpha=0.7, markersize=6)
        mean = statistics.mean(values)
        axes.vlines(mean, row - 0.3, row + 0.45, color="tab:red")
        axes.annotate(f"{mean:.2f}", (mean, row - 0.3), ha="center", va="top", color="tab:red")
    axes.axvline(99.4, color="0.7", linewidth=0.8, zorder=0)
    labels = [f"{name}\n{len(study['runs'])} seeds" for name, study in studies.items()]
    axes.set_yticks(range(len(labels)), labels[::-1])
    axes.set(xlabel="test accuracy, % (a dot for each seed; red: mean)")
    axes.set_ylim(-0.6, len(labels) - 0.3)
    return figure


def draw_parameters() -> Figure:
    """Accuracy against parameters: our means with their intervals, and what others published.

    Every point stands at its own number of parameters; names tell those of one number apart.
    """
    figure, axes = one_plot((7, 4))
    for i, (name, parameters, best, last, *_) in enumerate(PUBLISHED):
        labels = ("published: last epoch", "best epoch on the test set") if i == 0 else (None, None)
        axes.plot(parameters, last, "v", color="0.45", label=labels[0])
        if best is not None and best != last:
            axes.plot([parameters] * 2, [last, best], color="0.45", linewidth=1, zorder=1)
            axes.plot(
                *(parameters, best, "^"),
                color="0.45",
                fillstyle="none",
                zorder=3,
                label=labels[1],
            )
        right = parameters < 100_000
        axes.annotate(
            name,
            (parameters, last),
            (7 if right else -7, -9),
            textcoords="offset points",
            ha="left" if right else "right",
            color="0.4",
            fontsize=8,
        )
    for i, (name, study) in enumerate(recipes().items()):
        parameters = study["runs"][0]["parameters"]
        mean, half = mean_with_interval(accuracies(study))
        axes.errorbar(
            parameters,
            mean,
            yerr=half,
            fmt="o",
            color=f"C{i}",
            capsize=4,
            label="ours: mean over seeds, 95 % interval" if i == 0 else None,
        )
        axes.annotate(
            f"{name} {mean:.2f}",
            (parameters, mean),
            (-8, -3),
            textcoords="offset points",
            ha="right",
            color=f"C{i}",
        )
    axes.axhline(99.4, color="0.7", linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlabel="parameters", ylabel="test accuracy, %")
    marks = [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 300_000]
    axes.set_xticks(marks, [f"{mark:,}" for mark in marks])
    axes.minorticks_off()
    axes.set_xlim(900, 450_000)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def draw_seconds() -> Figure:
    """Test accuracy against seconds: every epoch of the plain script, and the fast runs' ends."""
    study = load("time_to_accuracy")
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
        label="fast, whole commands",
    )
    axes.axhline(99.4, color="tab:red", linewidth=0.8, zorder=0, label="99.4 %")
    axes.set(xscale="log", xlabel="seconds on two CPU cores", ylabel="test accuracy, %")
    marks = [60, 120, 300, 600, 1200, 1800]
    axes.set_xticks(marks, [f"{mark:,}" for mark in marks])
    axes.minorticks_off()
    axes.legend(loc="lower right")
    return figure


def one_plot(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def main() -> None:
    for name, draw in (
        ("seeds", draw_seeds),
        ("parameters", draw_parameters),
        ("seconds", draw_seconds),
    ):
        draw().savefig(RESULTS / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
