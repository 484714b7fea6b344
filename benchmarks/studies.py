"""The studies of seeds.py, read back: each seed's test accuracy, their mean and its interval."""

import json
import statistics
from pathlib import Path
from typing import Any

from scipy import stats

RESULTS = Path(__file__).parent / "results"
RECIPES = ("default", "fast", "best", "tiny")


def load(name: str) -> dict[str, Any]:
    """results/NAME.json, of a study or of any other benchmark."""
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def recipes() -> dict[str, dict[str, Any]]:
    """The study of each recipe, by its name."""
    return {name: load(name) for name in RECIPES}


def accuracies(study: dict[str, Any]) -> list[float]:
    """Each seed's test accuracy in percent."""
    return [100 * run["test_acc"] for run in study["runs"]]


def mean_with_interval(values: list[float]) -> tuple[float, float]:
    """The mean of two or more values, and half of its 95 % interval by Student's t."""
    quantile = float(stats.t.ppf(0.975, df=len(values) - 1))
    return statistics.mean(values), quantile * statistics.stdev(values) / len(values) ** 0.5
