"""DigitNet, the CNN of 17,506 parameters, and TinyNet, of 2,348: the layers, and nothing else.

DigitNet has channels 1 -> 18 -> 32 -> 18 -> 32 -> 18 -> 32 -> 10 with two max-pools, one skip
connection without weights, and global average pooling instead of a dense layer. TinyNet has
separable convolutions, of 10 to 20 channels unless told. How they train is in module.py.
"""

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_lit.cpu_kernels import batch_norm, relu_dropout_

MAX_CHANNELS = 256  # in a file that is loaded: one may claim any number
MAX_MARGIN = 10  # leaves 8 x 8 pixels of 28 x 28
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # of the 60,000 training images, pixels in [0, 1]
TTA_SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))  # pixels down and to the right


class Network(nn.Module):
    """A classifier of digits: (B, 1, H, W) in [0, 1] -> (B, 10) logits.

    With test-time augmentation the logits are the mean over five shifts of the image, as Krizhevsky
    et al. (ImageNet classification with deep convolutional neural networks, 2012) averaged crops.

    Args:
        margin: Pixels that are left out at each edge of an image.
        tta: Test-time augmentation: in evaluation mode, the mean of the logits of the image and of
            the same shifted by a pixel to each side.
        channels: The arguments that its weights' shapes tell.
    """

    def __init__(self, margin: int = 0, tta: bool = False, **channels: int) -> None:
        super().__init__()
        self.margin, self.tta = margin, tta
        self.settings = {**channels, "margin": margin, "tta": tta}

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] -> (B, 10) logits. Any height and width from 8 up will do."""
        if self.training or not self.tta:
            return self.classify(self.normalize(images))
        height, width = images.shape[-2:]
        padded = F.pad(images, (1, 1, 1, 1))  # with black
        shifted = [
            padded[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
            for down, right in TTA_SHIFTS
        ]
        logits = self.classify(self.normalize(torch.cat(shifted)))
        return logits.unflatten(0, (len(TTA_SHIFTS), -1)).mean(dim=0)

    def classify(self, x: Tensor) -> Tensor:
        """(B, 1, H, W), normalised -> (B, 10) logits."""
        raise NotImplementedError

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> without the margin, of mean 0 and deviation 1 on MNIST."""
        if self.margin:
            inside = slice(self.margin, -self.margin)
            images = images[:, :, inside, inside]
        return (images - MNIST_MEAN) / MNIST_STD


class DigitNet(Network):
    """A small CNN that classifies one handwritten digit.

    Args:
        narrow: Channels of the input block and of the 1x1 transitions.
        wide: Channels of the 3x3 convolutions.
        dropout: Probability with which each activation of a 3x3 block is dropped in training.
        margin: Pixels that are left out at each edge of an image.
        tta: Test-time augmentation by shifts of a pixel, in evaluation mode.
        classes: Number of logits.
    """

    def __init__(
        self,
        narrow: int = 18,
        wide: int = 32,
        dropout: float = 0.008,
        margin: int = 0,
        tta: bool = False,
        classes: int = 10,
    ) -> None:
        super().__init__(margin, tta, narrow=narrow, wide=wide)
        self.input = ConvBlock(1, narrow, kernel_size=3, dropout=dropout)
        self.conv1 = ConvBlock(narrow, wide, kernel_size=3, dropout=dropout)
        self.transition1 = ConvBlock(wide, narrow, kernel_size=1)
        self.conv2 = ConvBlock(narrow, wide, kernel_size=3, dilation=2, dropout=dropout)
        self.transition2 = ConvBlock(wide, narrow, kernel_size=1)
        self.conv3 = ConvBlock(narrow, wide, kernel_size=3, dropout=dropout)
        # A ReLU between the last convolution and the pooling is part of the layout: every pooled
        # logit is the mean of non-negative evidence, so none is below zero.
        self.output = ConvBlock(wide, classes, kernel_size=1)
        self.pool = nn.MaxPool2d(2)
        self.to(memory_format=torch.channels_last)  # a fifth less time per step on a CPU

    def classify(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28), normalised -> (B, 10) logits."""
        x = self.input(x)  # (B, narrow, 28, 28)
        x = self.pool(self.transition1(self.conv1(x)) + x)  # (B, narrow, 14, 14)
        x = self.pool(self.transition2(self.conv2(x)))  # (B, narrow, 7, 7)
        x = self.output(self.conv3(x))  # (B, 10, 7, 7)
        return x.mean(dim=(2, 3))


class TinyNet(Network):
    """A 3x3 convolution and five separable ones, two at each of three image sizes.

    Args:
        narrow: Channels of the first convolution.
        wide: Channels of the last one.
        dropout: Probability with which each activation of a 3x3 block is dropped in training.
        margin: Pixels that are left out at each edge of an image.
        tta: Test-time augmentation by shifts of a pixel, in evaluation mode.
    """

    def __init__(
        self,
        narrow: int = 10,
        wide: int = 20,
        dropout: float = 0.0,
        margin: int = 0,
        tta: bool = False,
    ) -> None:
        super().__init__(margin, tta, narrow=narrow, wide=wide)
        # Of the layouts that were tried, among the best on digits of unseen writers, with fewer
        # parameters than its equals (docs/EXPERIMENTS.md).
        tenths = (0, 2, 6, 6, 8, 10)  # of the way from narrow to wide
        channels = [1, *(narrow + round((wide - narrow) * part / 10) for part in tenths)]
        blocks = [
            ConvBlock(
                *pair, kernel_size=3, dropout=dropout, activation="silu", separable=pair[0] > 1
            )
            for pair in itertools.pairwise(channels)
        ]
        self.stage1 = nn.Sequential(*blocks[:2])
        self.stage2 = nn.Sequential(*blocks[2:4])
        self.stage3 = nn.Sequential(*blocks[4:])
        self.output = nn.Linear(channels[-1], 10)
        self.pool = nn.MaxPool2d(2)
        self.to(memory_format=torch.channels_last)

    def classify(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28), normalised -> (B, 10) logits."""
        x = self.stage1(x)  # (B, channels, 28, 28)
        x = self.stage2(self.pool(x))  # (B, channels, 14, 14)
        x = self.stage3(self.pool(x))  # (B, wide, 7, 7)
        logits: Tensor = self.output(x.mean(dim=(2, 3)))
        return logits


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, activation and dropout; the image keeps its size.

    A separable convolution is one of each channel by itself, then one of 1x1 over all of them, with
    nothing in between (Chollet, Xception: deep learning with depthwise separable convolutions,
    2017): for 14 channels 322 weights instead of 1,764.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        dropout: float = 0.0,
        activation: Literal["relu", "silu"] = "relu",
        separable: bool = False,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(
            in_channels,
            in_channels if separable else out_channels,
            kernel_size,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=in_channels if separable else 1,
            bias=False,
        )
        self.conv: nn.Module = conv
        if separable:
            self.conv = nn.Sequential(conv, nn.Conv2d(in_channels, out_channels, 1, bias=False))
        self.norm = nn.BatchNorm2d(out_channels)
        self.dilation, self.dropout, self.activation = dilation, dropout, activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        x = self.conv(x)
        # Without a momentum Lightning's weight averaging takes the statistics anew.
        if not self.training or x.device.type != "cpu" or self.norm.momentum is None:
            x = self.norm(x)
        elif self.activation == "relu":
            return relu_dropout_(batch_norm(x, self.norm, 1 / (1 - self.dropout)), self.dropout)
        else:
            x = batch_norm(x, self.norm)
        x = F.relu_(x) if self.activation == "relu" else F.silu(x)
        return F.dropout(x, self.dropout, self.training)
