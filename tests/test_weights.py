"""Which files hold a network, and that no other does harm."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from conftest import Survived

from mnist_lit.network import DigitNet, Network, TinyNet
from mnist_lit.weights import load_checkpoint, load_network


@pytest.mark.parametrize("saved", [DigitNet(narrow=5, wide=7), TinyNet(narrow=3, wide=9)])
def test_load_network_takes_kind_and_sizes_from_the_weights(saved: Network, tmp_path: Path) -> None:
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    loaded = load_network(tmp_path / "weights.pt")
    assert type(loaded) is type(saved)
    assert loaded.settings == saved.settings
    assert not loaded.training
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(loaded(images), saved.eval()(images))


@pytest.mark.parametrize("saved", [DigitNet(5, 7, margin=3), TinyNet(3, 8, margin=10, tta=True)])
def test_load_network_takes_margin_and_tta_from_the_settings(
    saved: Network, tmp_path: Path
) -> None:
    content = {"state_dict": saved.state_dict(), "hyper_parameters": saved.settings}
    torch.save(content, tmp_path / "net.pt")
    assert load_network(tmp_path / "net.pt").settings == saved.settings


@pytest.mark.parametrize(
    "settings",
    [{"margin": margin} for margin in (-1, 11, 2.0, "2", True, torch.tensor(2))]
    + [{"tta": tta} for tta in (0, 5, 10**9, 1.0, "5", None, torch.tensor(1))]
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


def test_load_network_takes_the_ema_from_a_checkpoint(tmp_path: Path) -> None:
    raw, ema = DigitNet(), DigitNet()
    state = {f"network.{name}": tensor for name, tensor in raw.state_dict().items()}
    state |= {f"ema.module.{name}": tensor for name, tensor in ema.state_dict().items()}
    torch.save({"state_dict": state | {"ema.n_averaged": torch.tensor(9)}}, tmp_path / "c")
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(load_network(tmp_path / "c")(images), ema.eval()(images))


@pytest.mark.parametrize(("crops", "tta"), [(1, False), (5, True)])
def test_a_checkpoint_of_an_older_version_has_todays_names(
    crops: int, tta: bool, tmp_path: Path
) -> None:
    ema, step = DigitNet(4, 6), torch.tensor(1.0)
    old = {
        "state_dict": {f"averaged.module.{name}": w for name, w in ema.state_dict().items()},
        "hyper_parameters": {"average": 0.9, "crops": crops, "narrow": 4},
        "optimizer_states": [
            {"state": {0: {"average": step}, 1: {"step": step, "average": step, "square": step}}}
        ],
        "callbacks": {"Pictures": {"best": {"acc": 0.5, "misread": []}}},
    }
    torch.save(old, tmp_path / "old.ckpt")
    content = load_checkpoint(tmp_path / "old.ckpt")
    assert content["state_dict"].keys() == {f"ema.module.{name}" for name in ema.state_dict()}
    assert content["hyper_parameters"] == {"ema_decay": 0.9, "tta": tta, "narrow": 4}
    matrix, vector = content["optimizer_states"][0]["state"].values()
    assert matrix.keys() == {"momentum_buffer"}
    assert vector.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert content["callbacks"] == {"Pictures": {"best": {"acc": 0.5, "errors": []}}}
    network = load_network(tmp_path / "old.ckpt")
    assert network.tta is tta
    ema.tta = tta
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(network(images), ema.eval()(images))


@pytest.mark.parametrize(
    "damage",
    [
        lambda weights: weights.pop("output.norm.bias"),
        lambda weights: weights.update({"extra": torch.zeros(1)}),
        lambda weights: weights.update({"conv3.conv.weight": torch.zeros(32, 18, 5, 5)}),
        lambda weights: weights.update({"input.conv.weight": "a word"}),
        lambda weights: weights.update({"input.conv.weight": torch.tensor(1.0)}),
        lambda weights: weights.update({"input.conv.weight": torch.zeros(0, 1, 3, 3)}),
        lambda weights: weights.update({"output.norm.bias": torch.zeros(10, dtype=torch.uint8)}),
        lambda weights: weights["input.norm.weight"].fill_(1e30),
        lambda weights: weights.update(DigitNet(narrow=257, wide=1).state_dict()),
        lambda weights: weights.update(DigitNet(narrow=1, wide=400).state_dict()),
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
