"""DigitNet: its layout, what it accepts, and its cheap dropout."""

import copy
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_lit.network import (
    ConvBlock,
    DigitNet,
    Network,
    TinyNet,
)


def test_defaults_have_17506_and_2348_parameters() -> None:
    assert DigitNet().parameter_count == 17_506
    assert TinyNet().parameter_count == 2_348


def test_convolutions_are_those_of_the_layout() -> None:
    layout = [
        (conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.dilation[0], conv.bias)
        for conv in DigitNet().modules()
        if isinstance(conv, nn.Conv2d)
    ]
    assert layout == [
        (1, 18, 3, 1, None),
        (18, 32, 3, 1, None),
        (32, 18, 1, 1, None),
        (18, 32, 3, 2, None),
        (32, 18, 1, 1, None),
        (18, 32, 3, 1, None),
        (32, 10, 1, 1, None),
    ]


def test_widths_and_dropout_are_arguments() -> None:
    net = DigitNet(narrow=4, wide=6, dropout=0.5)
    assert net.conv1.conv.in_channels == 4
    assert net.conv1.conv.out_channels == 6
    dropout = [m.dropout for m in net.modules() if isinstance(m, ConvBlock)]
    assert dropout == [0.5, 0.5, 0, 0.5, 0, 0.5, 0]


def test_tiny_convolutions_are_two_of_each_size() -> None:
    net, sizes = TinyNet(narrow=3, wide=13, dropout=0.5), []
    for block in net.modules():
        if isinstance(block, ConvBlock):
            assert block.dropout == 0.5
            block.conv.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    net(torch.rand(2, 1, 28, 28))
    assert sizes == [(3, 28, 28), (5, 28, 28), (9, 14, 14), (9, 14, 14), (11, 7, 7), (13, 7, 7)]


def test_a_separable_convolution_is_one_of_few_weights() -> None:
    block = ConvBlock(14, 6, kernel_size=3, separable=True)
    of_each, of_all = (weight.detach() for weight in block.conv.parameters())
    assert (of_each.numel(), of_all.numel()) == (14 * 9, 14 * 6)
    x = torch.rand(2, 14, 9, 5)
    whole = F.conv2d(x, of_all * of_each.transpose(0, 1), padding=1)
    torch.testing.assert_close(block.conv(x), whole)


@pytest.mark.parametrize("kind", [DigitNet, TinyNet])
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (28, 28), (64, 40)])
def test_any_image_size_from_8_up(size: tuple[int, int], kind: type[Network]) -> None:
    assert kind().eval()(torch.rand(3, 1, *size)).shape == (3, 10)


@pytest.mark.parametrize("kind", [DigitNet, TinyNet])
def test_a_margin_is_not_read(kind: type[DigitNet] | type[TinyNet]) -> None:
    whole, inner = kind().eval(), kind(margin=2).eval()
    inner.load_state_dict(whole.state_dict())
    images = torch.rand(3, 1, 28, 20)
    assert torch.equal(inner(images), whole(images[:, :, 2:26, 2:18]))


@pytest.mark.parametrize("kind", [DigitNet, TinyNet])
@pytest.mark.parametrize("margin", [0, 2])
def test_tta_averages_five_shifts_in_evaluation_mode(
    kind: type[DigitNet] | type[TinyNet], margin: int
) -> None:
    one, five = kind(dropout=0, margin=margin), kind(dropout=0, margin=margin, tta=True)
    five.load_state_dict(one.state_dict())
    images = torch.zeros(3, 1, 12, 16)
    images[:, :, 1:-1, 1:-1] = torch.rand(3, 1, 10, 14)  # moved by one, nothing leaves the image
    assert torch.equal(five(images), one(images))
    sides = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    moved = [one.eval()(images.roll(side, dims=(2, 3))) for side in sides]
    torch.testing.assert_close(five.eval()(images), torch.stack(moved).mean(dim=0))


def test_logits_are_means_of_non_negative_evidence() -> None:
    logits = DigitNet()(torch.rand(16, 1, 28, 28))
    assert (logits >= 0).all()
    assert (logits > 0).any()


def test_skip_connection_carries_the_input_block() -> None:
    net = DigitNet().eval()
    nn.init.zeros_(net.transition1.norm.weight)  # the branch beside the skip now says nothing
    a, b = net(torch.zeros(1, 1, 28, 28)), net(torch.rand(1, 1, 28, 28))
    assert not torch.allclose(a, b)


@pytest.mark.parametrize("kind", [DigitNet, TinyNet])
def test_normalises_inside(kind: type[Network]) -> None:
    net = kind().eval()
    seen: list[torch.Tensor] = []
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8))
    assert seen[0][0, 0, 0, 0].item() == pytest.approx(-0.1307 / 0.3081)
    assert seen[0][1, 0, 0, 0].item() == pytest.approx((1 - 0.1307) / 0.3081)


def test_torch_export_with_a_dynamic_batch() -> None:
    net = DigitNet().eval()
    program = torch.export.export(
        net,
        (torch.rand(2, 1, 28, 28),),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
    )
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(program.module()(images), net(images))


ACTIVATIONS: dict[Literal["relu", "silu"], Any] = {"relu": F.relu, "silu": F.silu}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.usefixtures("threads")
def test_a_block_is_convolution_norm_and_activation(
    training: bool, name: Literal["relu", "silu"]
) -> None:
    torch.manual_seed(0)
    block = ConvBlock(1, 8, kernel_size=3, activation=name).train(training)
    images = torch.randn(16, 1, 12, 12)
    expected = ACTIVATIONS[name](copy.deepcopy(block.norm)(block.conv(images)))
    torch.testing.assert_close(block(images), expected)


@pytest.mark.usefixtures("threads")
def test_a_block_drops_in_training_only() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 1, 28, 28)
    for name, activation in ACTIVATIONS.items():
        block = ConvBlock(1, 8, kernel_size=3, dropout=0.5, activation=name)
        before = activation(copy.deepcopy(block.norm)(block.conv(images)))
        first, second = block(images), block(images)
        assert (first != second).any()
        zeros = ((first == 0) & (before != 0)).float().mean() / (before != 0).float().mean()
        assert zeros.item() == pytest.approx(0.5, abs=0.02)
    block.eval()
    torch.testing.assert_close(block(images), block(images), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [DigitNet, TinyNet])
@pytest.mark.parametrize("threads", [2], indirect=True)
def test_threads_change_no_gradient(kind: type[Network], threads: int) -> None:
    torch.manual_seed(0)
    one, images = kind(margin=3), torch.rand(9, 1, 28, 28)
    several, gradients = copy.deepcopy(one), []
    for network, number in ((one, 1), (several, threads)):
        torch.set_num_threads(number)
        torch.manual_seed(1)  # of dropout
        F.cross_entropy(network(images), torch.arange(9)).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(one.state_dict(), several.state_dict(), rtol=1e-4, atol=1e-5)


def test_channels_last_changes_no_result() -> None:
    net = DigitNet().eval()
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    images = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(net(images), plain(images), rtol=1e-4, atol=1e-5)


@given(
    shape=st.tuples(st.integers(0, 4), st.integers(8, 40), st.integers(8, 40)),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    largest=st.floats(0, 1e4, width=32),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=200)
def test_any_images_give_finite_logits(
    shape: tuple[int, int, int], sizes: tuple[int, int], largest: float, seed: int
) -> None:
    torch.manual_seed(seed)
    batch, height, width = shape
    images = (torch.rand(batch, 1, height, width) - 0.5) * largest
    network = DigitNet(*sizes).eval()
    logits = network(images)
    assert logits.shape == (batch, 10)
    assert logits.isfinite().all()
    for image, alone in zip(images, logits, strict=True):  # none depends on the others
        torch.testing.assert_close(network(image[None])[0], alone, rtol=1e-3, atol=1e-3)
