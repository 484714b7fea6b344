"""What a run prints."""

from types import SimpleNamespace
from typing import Any

import pytest

from mnist_lit.console import Summary, wilson_interval


@pytest.mark.parametrize(
    ("accuracy", "number", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (0.994, 10_000, 0.99229, 0.99534), (1.0, 10, 0.7225, 1.0)],
)
def test_wilson_interval(accuracy: float, number: int, low: float, high: float) -> None:
    assert wilson_interval(accuracy, number) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("number", [5, 320, 10_000])
def test_an_interval_has_no_sign(number: int) -> None:
    low, _ = wilson_interval(0.0, number)
    _, high = wilson_interval(1.0, number)
    assert (f"{low:.2f}", f"{high:.2f}") == ("0.00", "1.00")
    assert low >= 0
    assert high <= 1


@pytest.mark.parametrize(
    ("target", "reached", "best", "expected"),
    [
        (0.994, 16, 0.9951, ["target      99.40 % reached in epoch 16", "99.51 % of 10,000"]),
        (0.994, None, 0.9, ["target      99.40 % not reached in 20 epochs", "90.00 % of 10,000"]),
        (None, None, None, ["target      none set", "none: the last weights were tested"]),
        (0.994, None, None, ["target      99.40 % of a validation, of which there was none"]),
    ],
)
def test_a_summary_says_what_the_fit_came_to(
    target: float | None, reached: int | None, best: float | None, expected: list[str]
) -> None:
    digits = SimpleNamespace(test_set=range(10_000), batch_size=64)
    trainer: Any = SimpleNamespace(datamodule=digits, num_test_batches=[157], world_size=1)
    text = Summary(
        device="cpu with 1 thread, 32-true",
        parameters=17_506,
        target=target,
        reached_epoch=reached,
        epochs=20,
        best_val_acc=best,
        validated=10_000 if best else 0,
        looks="measured once",
        seconds=60.4,
        checkpoint="best.ckpt",
        curves=None,
    ).text(trainer, 0.9946)
    for part in expected:
        assert part in text
    assert "test        99.46 % of 10,000, measured once; 95 % interval 99.30 to 99.59 %" in text
    assert "parameters  17,506\n" in text
    assert "time        60 s\n" in text
    assert text.endswith("checkpoint  best.ckpt")  # no curves without TensorBoard
