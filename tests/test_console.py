"""What a run prints."""

import pytest

from mnist_lit.console import wilson_interval


@pytest.mark.parametrize(
    ("accuracy", "number", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (0.994, 10_000, 0.99229, 0.99534), (1.0, 10, 0.7225, 1.0)],
)
def test_wilson_interval(accuracy: float, number: int, low: float, high: float) -> None:
    assert wilson_interval(accuracy, number) == pytest.approx((low, high), abs=1e-4)
