"""The EMA of a network's weights."""

import pytest
import torch
from torch import nn

from mnist_lit.ema import EMA


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def moved(network: nn.Module, steps: int, ema: EMA) -> list[dict[str, torch.Tensor]]:
    """The network's states after each of so many steps, of which the EMA is taken."""
    states = []
    ema.begin(network)
    for step in range(1, steps + 1):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(3, 1, 8, 8))  # moves the running statistics
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        ema.update(step)
    return states


@pytest.mark.parametrize("trained", [False, True])
def test_is_the_decaying_mean_of_weights_and_statistics(trained: bool) -> None:
    of = network()
    first = {name: value.clone() for name, value in of.state_dict().items()}
    ema = EMA(of, decay=0.4, trained=trained)
    states = moved(of, 20, ema)
    for name in ("0.weight", "1.bias", "1.running_mean", "1.running_var"):
        mean = first[name] if trained else states[0][name]
        for step, state in list(enumerate(states, start=1))[not trained :]:
            decay = 0.4 if trained else min(0.4, (1 + step) / (10 + step))
            mean = decay * mean + (1 - decay) * state[name]
        torch.testing.assert_close(ema.module.state_dict()[name], mean)
    assert ema.module.state_dict()["1.num_batches_tracked"] == 20
    assert not any(parameter.requires_grad for parameter in ema.parameters())


def test_what_was_restored_tells_whether_it_began_with_trained_weights() -> None:
    of = network()
    begun = EMA(of, decay=0.9, trained=True)
    moved(of, 3, begun)
    restored = EMA(network(), decay=0.9, trained=False)
    restored.load_state_dict(begun.state_dict())
    restored.begin(of)
    assert restored.trained
    assert restored.n_averaged == begun.n_averaged
