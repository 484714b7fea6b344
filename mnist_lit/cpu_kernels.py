"""BatchNorm and dropout in training on a CPU, by the fastest of torch's kernels. Nothing else here.

Both compute exactly what the stock layers do (tests/test_cpu_kernels.py holds them side by side).
On two cores they save a seventh and a third of a training step (benchmarks/step.py).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LINE = 16  # float32 numbers in a cache line


def batch_norm(x: Tensor, norm: nn.BatchNorm2d, gain: float = 1.0) -> Tensor:
    """`gain * norm(x)` in training, by kernels that do not make threads wait for each other.

    On one thread, or where each thread's sums fill whole cache lines, these are torch's own;
    elsewhere `_BatchNorm` (docs/EXPERIMENTS.md, 27 November).

    Args:
        x: (B, C, H, W) on a CPU, what the convolution returned.
        norm: In training mode; its running statistics are updated.
        gain: A factor for the result that costs nothing.
    """
    norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
    if torch.get_num_threads() == 1 or x.shape[1] % LINE == 0:
        weight, bias = norm.weight * gain, norm.bias * gain
        running = norm.running_mean, norm.running_var
        return F.batch_norm(x, *running, weight, bias, True, norm.momentum, norm.eps)  # type: ignore[arg-type]
    y: Tensor
    y, mean, var = _BatchNorm.apply(x, norm.weight, norm.bias, norm.eps, gain)
    number = x.numel() / x.shape[1]
    norm.running_mean.lerp_(mean, norm.momentum)  # type: ignore[union-attr, arg-type]
    norm.running_var.lerp_(var * (number / (number - 1)), norm.momentum)  # type: ignore[union-attr, arg-type]
    return y


def relu_dropout_(x: Tensor, p: float) -> Tensor:
    """`(1 - p) * dropout(relu(x), p)` in training and in place, at a cost that grows with p.

    Stock dropout draws a random number for each of the n activations, which is a third of a whole
    training step on a CPU, whatever p. Here Poisson(-n ln(1 - p)) positions are drawn uniformly,
    with replacement. A Poisson process splits into independent ones, so each activation is hit
    Poisson(-ln(1 - p)) times independently of the others, and missed with probability 1 - p:
    dropout, exactly. Two more passes over the activations are saved: the factor 1 / (1 - p) is left
    to the norm before, whose gain a ReLU lets through; and zeros need no mask for the way back,
    because the ReLU's own gradient is zero there.

    Args:
        x: (B, C, H, W) on a CPU, in any dense layout of memory.
        p: Probability of dropping an activation, below 1.
    """
    y: Tensor = _ReluDropout.apply(x, p)
    return y


class _ReluDropout(torch.autograd.Function):
    """(B, C, H, W) -> the same memory, above zero and dropped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        if p:
            expected_hits = torch.tensor(-x.numel() * math.log1p(-p))
            hits = torch.randint(x.numel(), (int(torch.poisson(expected_hits)),))
            x.as_strided((x.numel(),), (1,)).index_fill_(0, hits, 0)
        x.relu_()
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        [y] = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(dy, y, 0), None


class _BatchNorm(torch.autograd.Function):
    """(B, C, H, W) -> the same normed; mean (C,); biased variance (C,).

    BatchNorm's kernels add up rows of C numbers in a buffer for each thread. Rows as short as 18
    numbers share cache lines, and two threads that write to one line take longer than one alone: up
    to seven times as long. So the kernels are given rows of W * C numbers, and what they count for
    each of those is put together for each channel.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, gain: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        width, channels = x.shape[3], x.shape[1]
        x = _rows(x)
        zeros = weight.new_zeros(width * channels)  # whose type makes the kernel add up in float32
        means, variances = torch.ops.aten.batch_norm_update_stats(x, zeros, zeros, 0.0)
        between, mean = torch.var_mean(means.view(width, channels), dim=0, correction=0)
        var = between.add_(variances.view(width, channels).mean(dim=0))
        weight = weight * gain
        rows = _per_row(width, weight, bias * gain, mean, var)
        y = torch.ops.aten.native_batch_norm(x, *rows, False, 0.0, eps)[0]
        ctx.save_for_backward(x, weight, var, *rows)
        ctx.eps, ctx.gain = eps, gain
        ctx.mark_non_differentiable(mean, var)
        return _images(y, channels).data, mean, var  # no view, so the ReLU may write into it

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, var, weights, _, means, variances = ctx.saved_tensors
        channels = len(weight)
        width, number = x.shape[1] // channels, x.numel() / channels
        # In evaluation mode, because in training it would subtract each row's own mean.
        dx, *sums = torch.ops.aten.native_batch_norm_backward(
            _rows(dy), x, weights, means, variances, None, None, False, ctx.eps, [True, True, True]
        )
        dweight, dbias = (each.view(width, channels).sum(dim=0) for each in sums)
        # What is left of the gradient: the shares of the batch's mean and variance.
        share = weight * (var + ctx.eps).rsqrt_() / -number
        rest = _per_row(width, share * dweight, share * dbias)
        dx += torch.ops.aten.native_batch_norm(x, *rest, means, variances, False, 0.0, ctx.eps)[0]
        return _images(dx, channels), dweight * ctx.gain, dbias * ctx.gain, None, None


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, W * C, H, 1), the same memory if that has the channels last."""
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch, height, 1, width * channels)
    return rows.permute(0, 3, 1, 2)


def _images(rows: Tensor, channels: int) -> Tensor:
    """(B, W * C, H, 1) -> (B, C, H, W), the same memory."""
    batch, _, height, _ = rows.shape
    return rows.permute(0, 2, 3, 1).reshape(batch, height, -1, channels).permute(0, 3, 1, 2)


def _per_row(width: int, *vectors: Tensor) -> tuple[Tensor, ...]:
    """Each (C,) -> (W * C,); together, because one by one the calls take longer than the copies."""
    return torch.stack(vectors).repeat(1, width).unbind()
