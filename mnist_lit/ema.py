"""The exponential moving average (EMA) of a network's weights, which is validated and tested."""

import itertools

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

TRAINED = 1_000_000  # updates that weights which a fit starts from count for


class EMA(AveragedModel):
    """torch's AveragedModel, updated in two calls and without waiting for an accelerator.

    Args:
        network: Of which a copy is made.
        decay: Per update: 0.998 averages over about 500; 0 keeps the newest weights.
        trained: Whether the network's weights are worth as much as those to come. If not, the
            window is a tenth of the updates so far until it is the full one: else the random first
            weights would still be in the average after an epoch.
    """

    def __init__(self, network: nn.Module, decay: float, trained: bool) -> None:
        super().__init__(network, use_buffers=True)
        self.requires_grad_(False)
        self.decay, self.trained = decay, trained
        if trained:
            self.n_averaged.fill_(TRAINED)

    def begin(self, network: nn.Module) -> None:
        """Before the first update and after a checkpoint was restored."""
        self.trained = self.n_averaged.item() >= TRAINED
        mine, its = (
            list(itertools.chain(of.parameters(), of.buffers())) for of in (self.module, network)
        )
        pairs = list(zip(mine, its, strict=True))
        self.weights = [pair for pair in pairs if pair[0].is_floating_point()]
        self.counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """By the network as it is after so many steps."""
        decay = self.decay
        if not self.trained:
            decay = min(decay, (1 + step) / (10 + step)) if step > 1 else 0
        torch._foreach_lerp_(*_lists(self.weights), 1 - decay)
        if self.counts:
            torch._foreach_copy_(*_lists(self.counts))
        self.n_averaged.add_(1)


def _lists(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [mine for mine, _ in pairs], [its for _, its in pairs]
