"""DigitNet: its layout, what it accepts, and its cheap dropout."""

import copy
import io
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import Survived
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_lit.network import (
    ConvBlock,
    DigitNet,
    Network,
    TinyNet,
    batch_norm,
    load_network,
    relu_dropout_,
)


def norm_relu_dropout(x: torch.Tensor, norm: nn.BatchNorm2d, p: float) -> torch.Tensor:
    """As a block of DigitNet computes it."""
    return relu_dropout_(batch_norm(x, norm, 1 / (1 - p)), p)


def test_defaults_have_17506_and_3520_parameters() -> None:
    assert DigitNet().parameter_count == 17_506
    assert TinyNet().parameter_count == 3_520


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
    net, sizes = TinyNet(narrow=3, dropout=0.5), []
    for block in net.modules():
        if isinstance(block, ConvBlock):
            assert block.dropout == 0.5
            block.conv.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    net(torch.rand(2, 1, 28, 28))
    assert sizes == [(3, 28, 28)] * 2 + [(5, 14, 14)] * 2 + [(6, 7, 7), (4, 7, 7)]


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
def test_five_crops_are_averaged_in_evaluation_mode(
    kind: type[DigitNet] | type[TinyNet], margin: int
) -> None:
    one, five = kind(dropout=0, margin=margin), kind(dropout=0, margin=margin, crops=5)
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
    nn.init.zeros_(net.transition1.conv.weight)  # the branch beside the skip now says nothing
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
@pytest.mark.parametrize("shape", [(16, 3, 8, 8), (5, 18, 7, 4), (1, 10, 1, 2), (40, 1, 3, 3)])
@pytest.mark.parametrize("p", [0, 0.25])
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


@pytest.mark.parametrize("activation", [F.relu_, F.silu])
@pytest.mark.parametrize("training", [True, False])
def test_a_block_is_convolution_norm_and_activation(training: bool, activation: Any) -> None:
    torch.manual_seed(0)
    block = ConvBlock(1, 8, kernel_size=3, activation=activation).train(training)
    images = torch.randn(16, 1, 12, 12)
    expected = activation(copy.deepcopy(block.norm)(block.conv(images)))
    torch.testing.assert_close(block(images), expected)


def test_a_block_drops_in_training_only() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 1, 28, 28)
    for activation in (F.relu_, F.silu):
        block = ConvBlock(1, 8, kernel_size=3, dropout=0.5, activation=activation)
        before = activation(copy.deepcopy(block.norm)(block.conv(images)))
        first, second = block(images), block(images)
        assert (first != second).any()
        zeros = ((first == 0) & (before != 0)).float().mean() / (before != 0).float().mean()
        assert zeros.item() == pytest.approx(0.5, abs=0.02)
    block.eval()
    torch.testing.assert_close(block(images), block(images), rtol=0, atol=0)


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


@pytest.mark.parametrize("saved", [DigitNet(narrow=5, wide=7), TinyNet(narrow=3)])
def test_load_network_takes_kind_and_sizes_from_the_weights(saved: Network, tmp_path: Path) -> None:
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    loaded = load_network(tmp_path / "weights.pt")
    assert type(loaded) is type(saved)
    assert loaded.sizes == saved.sizes
    assert not loaded.training
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(loaded(images), saved.eval()(images))


@pytest.mark.parametrize("saved", [DigitNet(5, 7, margin=3), TinyNet(3, margin=10, crops=5)])
def test_load_network_takes_margin_and_crops_from_the_settings(
    saved: Network, tmp_path: Path
) -> None:
    content = {"state_dict": saved.state_dict(), "hyper_parameters": saved.sizes}
    torch.save(content, tmp_path / "net.pt")
    assert load_network(tmp_path / "net.pt").sizes == saved.sizes


@pytest.mark.parametrize(
    "settings",
    [{"margin": margin} for margin in (-1, 11, 2.0, "2", True, torch.tensor(2))]
    + [{"crops": crops} for crops in (0, 2, 10**9, 5.0, "5", True, torch.tensor(5))],
)
def test_load_network_refuses_other_settings(settings: dict[str, Any], tmp_path: Path) -> None:
    content = {"state_dict": DigitNet().state_dict(), "hyper_parameters": settings}
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="not the weights of a DigitNet"):
        load_network(tmp_path / "net.pt")


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_load_network_reads_other_precisions(kind: torch.dtype, tmp_path: Path) -> None:
    saved = DigitNet().to(kind)
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(load_network(tmp_path / "weights.pt")(images), saved.float().eval()(images))


def test_load_network_refuses_to_unpack_a_bomb(tmp_path: Path) -> None:
    torch.save(DigitNet(2, 2).state_dict(), tmp_path / "weights.pt")
    with (
        zipfile.ZipFile(tmp_path / "weights.pt") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name) + bytes(30_000_000))
    assert (tmp_path / "bomb.pt").stat().st_size < 10_000_000
    with pytest.raises(ValueError, match="read safely"):
        load_network(tmp_path / "bomb.pt")


def rezipped(network: DigitNet) -> tuple[bytes, bytes, bytes]:
    """Its weights as torch saves them: the parts, their directory and the end record."""
    saved, plain = io.BytesIO(), io.BytesIO()
    torch.save(network.state_dict(), saved)
    with zipfile.ZipFile(saved) as parts, zipfile.ZipFile(plain, "w") as copy:
        for name in parts.namelist():
            copy.writestr(name, parts.read(name))
    content = plain.getvalue()
    size, start = struct.unpack("<II", content[-10:-2])
    return content[:start], content[start : start + size], content[start + size :]


def test_load_network_loads_what_it_has_measured(tmp_path: Path) -> None:
    """A directory before the end record, where Python looks, and another at its stated offset."""
    hidden, hidden_directory, _ = rezipped(DigitNet(8, 8))
    shown, directory, end = rezipped(DigitNet(2, 2))
    moved, position = bytearray(directory), 0
    while position < len(moved):  # Python adds what it takes for a prefix to each offset
        name_length, extra, comment = struct.unpack_from("<HHH", moved, position + 28)
        [offset] = struct.unpack_from("<I", moved, position + 42)
        struct.pack_into("<I", moved, position + 42, offset + len(hidden) - len(shown))
        position += 46 + name_length + extra + comment
    end = end[:-6] + struct.pack("<I", len(hidden)) + end[-2:]
    path = tmp_path / "weights.pt"
    path.write_bytes(hidden + hidden_directory + shown + bytes(moved) + end)
    loaded_by_torch = torch.load(path, weights_only=True)
    assert loaded_by_torch["input.conv.weight"].shape[0] == 8
    assert load_network(path).sizes["narrow"] == 2


def test_load_network_takes_the_average_from_a_checkpoint(tmp_path: Path) -> None:
    raw, averaged = DigitNet(), DigitNet()
    state = {f"network.{name}": tensor for name, tensor in raw.state_dict().items()}
    state |= {f"averaged.module.{name}": tensor for name, tensor in averaged.state_dict().items()}
    torch.save({"state_dict": state | {"averaged.n_averaged": torch.tensor(9)}}, tmp_path / "c")
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(load_network(tmp_path / "c")(images), averaged.eval()(images))


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "damage",
    [
        lambda weights: weights.pop("output.norm.bias"),
        lambda weights: weights.update({"extra": torch.zeros(1)}),
        lambda weights: weights.update({"conv3.conv.weight": torch.zeros(32, 18, 5, 5)}),
        lambda weights: weights.update({"input.conv.weight": "a word"}),
        lambda weights: weights.update({"input.conv.weight": torch.tensor(1.0)}),
        lambda weights: weights.update({"input.conv.weight": torch.zeros(0, 1, 3, 3)}),
        lambda weights: weights.update(
            {"output.norm.bias": torch.zeros(10, dtype=torch.complex64)}
        ),
        lambda weights: weights["input.norm.running_var"].fill_(-1),
        lambda weights: weights["input.norm.weight"].fill_(float("nan")),
        lambda weights: weights.clear(),
    ],
)
def test_load_network_refuses_what_is_not_its_own(
    tmp_path: Path, damage: Any, survived: Survived
) -> None:
    weights = dict(DigitNet().state_dict())
    damage(weights)
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="not the weights of a DigitNet"):
        load_network(tmp_path / "weights.pt")
    survived("wrong part")


def test_load_network_refuses_a_number_that_claims_to_be_a_large_tensor(tmp_path: Path) -> None:
    weights = DigitNet().state_dict()
    weights["input.conv.weight"] = torch.zeros(1).expand(10**9, 1, 3, 3)
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="not a file of weights that can be read safely"):
        load_network(tmp_path / "weights.pt")


def test_load_network_executes_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made by the payload"
    torch.save(DigitNet().state_dict() | {"payload": Payload(made)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="read safely"):
        load_network(tmp_path / "weights.pt")
    assert not made.exists()
    with pytest.raises(FileNotFoundError):
        load_network(tmp_path / "missing.pt")


def test_load_network_survives_any_mutation(tmp_path: Path) -> None:
    torch.save(DigitNet(narrow=2, wide=2).state_dict(), tmp_path / "weights.pt")
    original = (tmp_path / "weights.pt").read_bytes()
    random, refused = Random(0), 0
    for _ in range(300):
        content = bytearray(original)
        for _ in range(random.randint(1, 20)):
            content[random.randrange(len(content))] = random.randrange(256)
        (tmp_path / "weights.pt").write_bytes(content[: random.randint(1, 2 * len(content))])
        try:
            load_network(tmp_path / "weights.pt")
        except ValueError:
            refused += 1
    assert refused > 100
