"""Muon: momentum made orthogonal, for the convolutions; Adam for the gains and biases.

Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024. The update of a
convolution, seen as a matrix of out x (in / groups * height * width), is replaced by the nearest
orthogonal matrix, roughly, so that it moves equally far in every direction. torch.optim.Muon takes
matrices alone, neither convolutions nor vectors.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam


class Muon(torch.optim.Optimizer):
    """Two parameter groups: what has two or more dimensions first, then the vectors.

    Args:
        parameters: Those of a network.
        lr: Step of the first group: how far an update moves in every direction, per step.
        adam_lr: Adam's learning rate for the vectors.
        momentum: Of the first group, as Nesterov has it.
        betas: Adam's, for the vectors.
        eps: Adam's, for the vectors.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        adam_lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        parameters = list(parameters)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim >= 2], "lr": lr, "momentum": momentum},
            {"params": [p for p in parameters if p.ndim < 2], "lr": adam_lr, "betas": betas},
        ]
        super().__init__(groups, {"eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices, vectors = self.param_groups
        self._move_matrices(matrices["params"], matrices["lr"], matrices["momentum"])
        self._move_vectors(vectors["params"], vectors["lr"], vectors["betas"], vectors["eps"])
        return loss

    def _move_matrices(self, parameters: list[Tensor], lr: float, momentum: float) -> None:
        moved, updates = [], []
        for parameter in parameters:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            mean_gradient = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
            moved.append(parameter)
            updates.append(parameter.grad.lerp(mean_gradient, momentum).flatten(1))
        for parameter, direction in zip(moved, orthogonalize(updates), strict=True):
            rows, columns = direction.shape
            step = lr * max(1, rows / columns) ** 0.5
            parameter.sub_(direction.view(parameter.shape), alpha=step)

    def _move_vectors(
        self, parameters: list[Tensor], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adam(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,  # in one call
            amsgrad=False,
            beta1=betas[0],
            beta2=betas[1],
            lr=lr,
            weight_decay=0.0,
            eps=eps,
            maximize=False,
        )


def orthogonalize(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Matrices of any shapes -> about the nearest whose singular values are all 1, in their order.

    Five steps of Jordan's quintic Newton-Schulz iteration, which brings singular values between
    0.7 and 1.2, quickly rather than exactly; those far below the largest stay smaller.
    """
    if not matrices:
        return []
    # In one stack, filled up with zeros, which stay zeros: one by one, small matrices take more
    # time to call than to multiply.
    wide = [matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT for matrix in matrices]
    rows, columns = (max(matrix.shape[side] for matrix in wide) for side in (0, 1))
    x = matrices[0].new_zeros(len(wide), rows, columns)
    for place, matrix in zip(x, wide, strict=True):
        place[: matrix.shape[0], : matrix.shape[1]] = matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    found = [place[: its.shape[0], : its.shape[1]] for place, its in zip(x, wide, strict=True)]
    return [f if f.shape == its.shape else f.mT for f, its in zip(found, matrices, strict=True)]
