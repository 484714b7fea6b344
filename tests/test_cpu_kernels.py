"""BatchNorm and dropout on a CPU have the values, gradients and chances of torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mnist_lit.cpu_kernels import batch_norm, relu_dropout_


def norm_relu_dropout(x: torch.Tensor, norm: nn.BatchNorm2d, p: float) -> torch.Tensor:
    """As a block of DigitNet computes it."""
    return relu_dropout_(batch_norm(x, norm, 1 / (1 - p)), p)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("p", [0.008, 0.3])
def test_dropout_drops_each_activation_with_probability_p(
    p: float, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    norm.bias.data.fill_(100.0)  # ReLU itself zeroes nothing
    x = torch.randn(50, 8, 28, 28).to(memory_format=layout)
    dropped = norm_relu_dropout(x, norm, p) == 0
    # Within 5 standard deviations of a Bernoulli mean, over all and for each channel and row.
    for group in (dropped, *dropped.unbind(1), *dropped.unbind(2)):
        error = (p * (1 - p) / group.numel()) ** 0.5
        assert abs(group.float().mean().item() - p) < 5 * error


def test_dropout_is_independent_between_positions_and_calls() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(1)
    norm.bias.data.fill_(100.0)
    x = torch.randn(2000, 1, 2, 2)
    calls = [(norm_relu_dropout(x, norm, 0.3) == 0).float().flatten(1) for _ in range(2)]
    correlations = torch.corrcoef(torch.cat(calls, dim=1).T).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / 2000**0.5
    # The number dropped varies as it does for independent draws: variance n p (1 - p).
    assert calls[0].sum(1).var().item() == pytest.approx(4 * 0.3 * 0.7, rel=0.15)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    "shape", [(16, 3, 8, 8), (5, 18, 7, 4), (1, 10, 1, 2), (40, 1, 3, 3), (9, 32, 5, 6)]
)
@pytest.mark.parametrize("p", [0, 0.25])
@pytest.mark.usefixtures("threads")
def test_a_norm_with_dropout_has_the_values_and_gradients_of_the_stock_layers(
    p: float, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    ours, stock = nn.BatchNorm2d(shape[1]), nn.BatchNorm2d(shape[1])
    for norm in (ours, stock):
        norm.weight.data = torch.linspace(-1, 2, shape[1])
        norm.bias.data = torch.linspace(1, -0.5, shape[1])
    x = torch.randn(shape).mul_(2).add_(3).to(memory_format=layout).requires_grad_()
    y = norm_relu_dropout(x, ours, p)
    # Stock layers, with the positions that were dropped here as their mask.
    before = F.relu(stock(x))
    mask = torch.where((y == 0) & (before > 0), 0.0, 1 / (1 - p))
    if before.numel() > 1000:
        dropped = (mask == 0).float().mean() / (before > 0).float().mean()
        assert dropped == pytest.approx(p, abs=0.05)
    expected = before * mask
    torch.testing.assert_close(y, expected)
    weights = torch.randn_like(y)
    got = torch.autograd.grad((y * weights).sum(), [x, ours.weight, ours.bias], retain_graph=True)
    want = torch.autograd.grad((expected * weights).sum(), [x, stock.weight, stock.bias])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.state_dict(), stock.state_dict())


@pytest.mark.usefixtures("threads")
def test_a_norm_computes_in_float32_whatever_its_input() -> None:
    torch.manual_seed(0)
    ours, stock = nn.BatchNorm2d(18), nn.BatchNorm2d(18)
    x = torch.randn(16, 18, 14, 14).add_(3).to(torch.bfloat16, memory_format=torch.channels_last)
    y = norm_relu_dropout(x, ours, 0)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, F.relu(stock(x)), rtol=0.01, atol=0.01)
    # Sums of bfloat16 numbers in bfloat16 would be off by a hundredth.
    torch.testing.assert_close(ours.running_mean, stock.running_mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.running_var, stock.running_var, rtol=1e-4, atol=1e-4)
