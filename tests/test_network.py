"""DigitNet: its layout, what it accepts, and its cheap dropout."""

import copy

import pytest
import torch
from torch import nn

from mnist_lit.network import DigitNet, SparseDropout


def test_default_has_17506_parameters() -> None:
    assert sum(parameter.numel() for parameter in DigitNet().parameters()) == 17_506


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
    assert net.conv1[0].in_channels == 4
    assert net.conv1[0].out_channels == 6
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5] * 4


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (28, 28), (64, 40)])
def test_any_image_size_from_8_up(size: tuple[int, int]) -> None:
    assert DigitNet().eval()(torch.rand(3, 1, *size)).shape == (3, 10)


def test_logits_are_means_of_non_negative_evidence() -> None:
    logits = DigitNet()(torch.rand(16, 1, 28, 28))
    assert (logits >= 0).all()
    assert (logits > 0).any()


def test_skip_connection_carries_the_input_block() -> None:
    net = DigitNet().eval()
    nn.init.zeros_(net.transition1[0].weight)  # the branch beside the skip now says nothing
    a, b = net(torch.zeros(1, 1, 28, 28)), net(torch.rand(1, 1, 28, 28))
    assert not torch.allclose(a, b)


def test_normalises_inside() -> None:
    net = DigitNet().eval()
    seen: list[torch.Tensor] = []
    net.input[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
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


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("p", [0.008, 0.3])
def test_sparse_dropout_drops_each_activation_with_probability_p(
    p: float, channels_last: bool
) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    ones = torch.ones(50, 8, 28, 28).to(memory_format=layout)
    dropped = SparseDropout(p)(ones) == 0
    # Within 5 standard deviations of a Bernoulli mean, over all and for each channel.
    for share, number in [(dropped.float().mean(), ones.numel())] + [
        (channel.float().mean(), ones.numel() / 8) for channel in dropped.unbind(1)
    ]:
        assert abs(share.item() - p) < 5 * (p * (1 - p) / number) ** 0.5


def test_sparse_dropout_is_independent_between_positions_and_calls() -> None:
    torch.manual_seed(0)
    dropout = SparseDropout(0.3)
    ones = torch.ones(2000, 1, 2, 2)
    first, second = (dropout(ones) == 0).float().flatten(1), (dropout(ones) == 0).float().flatten(1)
    correlations = torch.corrcoef(torch.cat([first, second], dim=1).T).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / 2000**0.5
    # The number dropped varies as it does for independent draws: variance n p (1 - p).
    assert first.sum(1).var().item() == pytest.approx(4 * 0.3 * 0.7, rel=0.15)


def test_sparse_dropout_scales_and_passes_gradients_like_stock_dropout() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 3, 8, 8).add(1).requires_grad_()
    y = SparseDropout(0.25)(x)
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.75)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, kept / 0.75)


def test_sparse_dropout_leaves_its_input_and_evaluation_alone() -> None:
    x = torch.rand(4, 3, 8, 8)
    before = x.clone()
    SparseDropout(0.5)(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    assert SparseDropout(0.5).eval()(x) is x


def test_channels_last_changes_no_result() -> None:
    net = DigitNet().eval()
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    images = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(net(images), plain(images), rtol=1e-4, atol=1e-5)
