"""DigitNet, the 17,506-parameter CNN, TinyNet with 3,520, and their BatchNorm and dropout on CPUs.

DigitNet has channels 1 -> 18 -> 32 -> 18 -> 32 -> 18 -> 32 -> 10 with two max-pools, one skip
connection without weights, and global average pooling instead of a dense layer. TinyNet has 7 to 10
channels, few more where images are small. Nothing here needs more than torch.
"""

import io
import itertools
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_BYTES = 100_000_000  # of a file of weights; a checkpoint of a fit has half a million
MAX_MARGIN = 10  # leaves 8 x 8 pixels of 28 x 28
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # of the 60,000 training images, pixels in [0, 1]
MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))  # of five crops: pixels down and to the right


class Network(nn.Module):
    """What reads digits: (B, 1, H, W) in [0, 1] -> (B, 10) logits.

    In evaluation mode the logits may be the mean over several crops of the image, as Krizhevsky et
    al. (ImageNet classification with deep convolutional neural networks, 2012) had it.

    Args:
        margin: Pixels that are left out at each edge of an image.
        crops: 5 reads an image also moved by a pixel to each side, in evaluation mode; 1 as it is.
        channels: The arguments that its weights' shapes tell.
    """

    def __init__(self, margin: int = 0, crops: int = 1, **channels: int) -> None:
        super().__init__()
        self.margin, self.crops = margin, crops
        self.sizes = {**channels, "margin": margin, "crops": crops}

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] -> (B, 10) logits. Any height and width from 8 up will do."""
        if self.training or self.crops == 1:
            return self.read(self.normalize(images))
        height, width = images.shape[-2:]
        padded = F.pad(images, (1, 1, 1, 1))  # with black
        moved = [
            padded[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
            for down, right in MOVES
        ]
        logits = self.read(self.normalize(torch.cat(moved)))
        return logits.unflatten(0, (len(MOVES), -1)).mean(dim=0)

    def read(self, x: Tensor) -> Tensor:
        """(B, 1, H, W), normalised -> (B, 10) logits."""
        raise NotImplementedError

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> without the margin, of mean 0 and deviation 1 on MNIST."""
        if self.margin:
            inside = slice(self.margin, -self.margin)
            images = images[:, :, inside, inside]
        return (images - MNIST_MEAN) / MNIST_STD


class DigitNet(Network):
    """A small CNN that reads one handwritten digit.

    Args:
        narrow: Channels of the input block and of the 1x1 transitions.
        wide: Channels of the 3x3 convolutions.
        dropout: Probability with which each activation of a 3x3 block is dropped in training.
        margin: Pixels that are left out at each edge of an image.
        crops: 5 reads an image also moved by a pixel to each side, in evaluation mode; 1 as it is.
    """

    def __init__(
        self,
        narrow: int = 18,
        wide: int = 32,
        dropout: float = 0.008,
        margin: int = 0,
        crops: int = 1,
    ) -> None:
        super().__init__(margin, crops, narrow=narrow, wide=wide)
        self.input = ConvBlock(1, narrow, kernel_size=3, dropout=dropout)
        self.conv1 = ConvBlock(narrow, wide, kernel_size=3, dropout=dropout)
        self.transition1 = ConvBlock(wide, narrow, kernel_size=1)
        self.conv2 = ConvBlock(narrow, wide, kernel_size=3, dilation=2, dropout=dropout)
        self.transition2 = ConvBlock(wide, narrow, kernel_size=1)
        self.conv3 = ConvBlock(narrow, wide, kernel_size=3, dropout=dropout)
        # A ReLU between the last convolution and the pooling is part of the layout: every pooled
        # logit is the mean of non-negative evidence, so none is below zero.
        self.output = ConvBlock(wide, 10, kernel_size=1)
        self.pool = nn.MaxPool2d(2)
        self.to(memory_format=torch.channels_last)  # a fifth less time per step on a CPU

    def read(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28), normalised -> (B, 10) logits."""
        x = self.input(x)  # (B, narrow, 28, 28)
        x = self.pool(self.transition1(self.conv1(x)) + x)  # (B, narrow, 14, 14)
        x = self.pool(self.transition2(self.conv2(x)))  # (B, narrow, 7, 7)
        x = self.output(self.conv3(x))  # (B, 10, 7, 7)
        return x.mean(dim=(2, 3))


class TinyNet(Network):
    """Two 3x3 convolutions at each of three image sizes, with about as many channels at each.

    Args:
        narrow: Channels at the full size; the smaller images have 1 to 3 more.
        dropout: Probability with which each activation of a 3x3 block is dropped in training.
        margin: Pixels that are left out at each edge of an image.
        crops: 5 reads an image also moved by a pixel to each side, in evaluation mode; 1 as it is.
    """

    def __init__(
        self, narrow: int = 7, dropout: float = 0.0, margin: int = 0, crops: int = 1
    ) -> None:
        super().__init__(margin, crops, narrow=narrow)
        channels = [1, *(narrow + more for more in (0, 0, 2, 2, 3, 1))]
        blocks = [
            ConvBlock(*pair, kernel_size=3, dropout=dropout, activation=F.silu)
            for pair in itertools.pairwise(channels)
        ]
        self.stage1 = nn.Sequential(*blocks[:2])
        self.stage2 = nn.Sequential(*blocks[2:4])
        self.stage3 = nn.Sequential(*blocks[4:])
        self.output = nn.Linear(channels[-1], 10)
        self.pool = nn.MaxPool2d(2)
        self.to(memory_format=torch.channels_last)

    def read(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28), normalised -> (B, 10) logits."""
        x = self.stage1(x)  # (B, narrow, 28, 28)
        x = self.stage2(self.pool(x))  # (B, narrow + 2, 14, 14)
        x = self.stage3(self.pool(x))  # (B, narrow + 1, 7, 7)
        logits: Tensor = self.output(x.mean(dim=(2, 3)))
        return logits


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, activation and dropout; the image keeps its size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = F.relu_,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.dropout = dropout
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        x = self.conv(x)
        if not self.training or x.device.type != "cpu":
            x = self.norm(x)
        elif self.activation is F.relu_:
            return relu_dropout_(batch_norm(x, self.norm, 1 / (1 - self.dropout)), self.dropout)
        else:
            x = batch_norm(x, self.norm)
        return F.dropout(self.activation(x), self.dropout, self.training)


def batch_norm(x: Tensor, norm: nn.BatchNorm2d, gain: float = 1.0) -> Tensor:
    """`gain * norm(x)` in training, by kernels that do not make threads wait for each other.

    Args:
        x: (B, C, H, W) on a CPU, what the convolution returned.
        norm: In training mode; its running statistics are updated.
        gain: A factor for the result that costs nothing.
    """
    y: Tensor
    y, mean, var = _BatchNorm.apply(x, norm.weight * gain, norm.bias * gain, norm.eps)
    number = x.numel() / x.shape[1]
    norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
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
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        width, channels = x.shape[3], x.shape[1]
        x = _rows(x)
        zeros, ones = weight.new_zeros(width * channels), weight.new_ones(width * channels)
        means, variances = torch.ops.aten.batch_norm_update_stats(x, zeros, ones, 0.0)
        means, variances = means.view(width, channels), variances.view(width, channels)
        mean = means.mean(dim=0)
        var = (variances + (means - mean) ** 2).mean(dim=0)
        y = _affine_norm(x, mean, var, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return _images(y, channels).data, mean, var  # no view, so the ReLU may write into it

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        channels = len(weight)
        width, number = x.shape[1] // channels, x.numel() / channels
        per_row = _per_row(width, weight, mean, var)
        # In evaluation mode, because in training it would subtract each row's own mean.
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            _rows(dy), x, *per_row, None, None, False, ctx.eps, [True, True, True]
        )
        dweight, dbias = (sums.view(width, channels).sum(dim=0) for sums in (dweight, dbias))
        # What is left of the gradient is linear in x: the shares of the batch's mean and variance.
        deviation = (var + ctx.eps).rsqrt()
        slope = -weight * deviation**2 * dweight / number
        offset = -weight * deviation * dbias / number - slope * mean
        zeros, ones = torch.zeros_like(mean), torch.ones_like(mean)
        dx += _affine_norm(x, zeros, ones, slope, offset, eps=0.0)
        return _images(dx, channels), dweight, dbias, None


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, W * C, H, 1), the same memory if that has the channels last."""
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch, height, 1, width * channels)
    return rows.permute(0, 3, 1, 2)


def _images(rows: Tensor, channels: int) -> Tensor:
    """(B, W * C, H, 1) -> (B, C, H, W), the same memory."""
    batch, _, height, _ = rows.shape
    return rows.permute(0, 2, 3, 1).reshape(batch, height, -1, channels).permute(0, 3, 1, 2)


def _affine_norm(
    rows: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """(rows - mean) / sqrt(var + eps) * weight + bias for (B, W * C, H, 1) and tensors (C,)."""
    weight, bias, mean, var = _per_row(rows.shape[1] // len(weight), weight, bias, mean, var)
    return torch.native_batch_norm(rows, weight, bias, mean, var, False, 0.0, eps)[0]


def _per_row(width: int, *vectors: Tensor) -> tuple[Tensor, ...]:
    """Each (C,) -> (W * C,); together, because one by one the calls take longer than the copies."""
    stacked = torch.stack(vectors)[:, None]
    return stacked.expand(-1, width, -1).reshape(len(vectors), -1).contiguous().unbind()


def load_network(path: str | Path) -> Network:
    """A network in evaluation mode from a file of its weights or from a training checkpoint.

    Nothing in the file is executed.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file does not hold the weights of a DigitNet or TinyNet.
    """
    return network_from(load_safely(path))


def load_safely(path: str | Path) -> Any:
    """What `torch.save` put into a file, as plain tensors and containers; nothing is executed.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It holds something else, is damaged, or is larger than it can be.
    """
    with open(path, "rb") as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the pickle protocol of foreign files
                content = torch.load(_unpacked(file), map_location="cpu", weights_only=True)
            if sum(tensor.numel() for tensor in _tensors(content)) > MAX_BYTES / 4:
                raise ValueError("too large")  # a single number may claim to be a large tensor
            return content
        except Exception as error:  # arbitrary bytes make the unpickler raise arbitrary errors
            raise ValueError("not a file of weights that can be read safely") from error


def _unpacked(file: BinaryIO) -> BinaryIO:
    """The zip archive that torch wrote, with all parts at the size that its directory tells.

    torch would unpack a small file to whatever it holds.
    """
    if file.seek(0, os.SEEK_END) > MAX_BYTES:
        raise ValueError("too large")
    file.seek(0)
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return file  # torch's format before 1.6
    unpacked = io.BytesIO()
    with zipfile.ZipFile(file) as parts, zipfile.ZipFile(unpacked, "w") as copy:
        if sum(part.file_size for part in parts.infolist()) > MAX_BYTES:
            raise ValueError("too large")
        for name in parts.namelist():
            copy.writestr(name, parts.read(name))
    unpacked.seek(0)
    return unpacked


def _tensors(content: Any) -> Iterator[Tensor]:
    """The tensors in nested containers, each once."""
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple | set):
            waiting += item


def network_from(content: Any) -> Network:
    """A network in evaluation mode from its weights or from the content of a checkpoint.

    Its class, `narrow` and `wide` are read from the weights themselves, `margin` and `crops` from
    the settings beside them, if there are any; of a checkpoint, the averaged weights are taken.

    Raises:
        ValueError: These are not the weights of a DigitNet or TinyNet.
    """
    try:
        weights = content.get("state_dict", content)
        averaged = "averaged.module."
        if any(name.startswith(averaged) for name in weights):
            weights = {
                name.removeprefix(averaged): tensor
                for name, tensor in weights.items()
                if name.startswith(averaged)
            }
        tiny = "stage1.0.conv.weight" in weights
        narrow = weights["stage1.0.conv.weight" if tiny else "input.conv.weight"].shape[0]
        wide = 1 if tiny else weights["conv1.conv.weight"].shape[0]
        if min(narrow, wide) < 1:
            raise ValueError("no channels")
        settings = content.get("hyper_parameters")
        if not isinstance(settings, dict):
            settings = {}
        margin, crops = settings.get("margin", 0), settings.get("crops", 1)
        if type(margin) is not int or not 0 <= margin <= MAX_MARGIN:
            raise ValueError("no such margin")
        if type(crops) is not int or crops not in (1, len(MOVES)):
            raise ValueError("no such number of crops")
        with torch.device("meta"):  # no memory is taken on the word of a file
            network: Network = (
                TinyNet(narrow, margin=margin, crops=crops)
                if tiny
                else DigitNet(narrow, wide, margin=margin, crops=crops)
            )
        network.load_state_dict(weights, assign=True)
        network.requires_grad_(False).float().eval()  # from half the precision, too
        if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
            raise ValueError("weights that are not finite")
        if not network(torch.zeros(1, 1, 28, 28)).isfinite().all():
            raise ValueError("a negative variance")
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError("not the weights of a DigitNet or TinyNet") from error
    return network
