"""Muon's direction, its two groups, and that it learns."""

import pytest
import torch
import torch.nn.functional as F

from mnist_lit.muon import Muon, orthogonalize
from mnist_lit.network import DigitNet


@pytest.mark.parametrize("shape", [(18, 162), (32, 162), (18, 32), (32, 18), (5, 5)])
def test_singular_values_come_close_to_1(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalize([matrix])[0])
    assert values.max() < 1.3
    assert values.quantile(0.1) > 0.6
    # It points where the matrix does, however long that is.
    nearest = torch.linalg.svd(matrix, full_matrices=False)
    cosine = F.cosine_similarity(
        orthogonalize([1000 * matrix])[0].flatten(), (nearest.U @ nearest.Vh).flatten(), dim=0
    )
    assert cosine > 0.97


def test_matrices_of_all_shapes_and_lengths_are_orthogonalized_one_by_one() -> None:
    torch.manual_seed(0)
    shapes = ((18, 9), (32, 162), (18, 32), (5, 5), (32, 18), (18, 32))
    matrices = [torch.randn(shape) * 10.0 ** (i - 3) for i, shape in enumerate(shapes)]
    for together, matrix in zip(orthogonalize(matrices), matrices, strict=True):
        assert together.shape == matrix.shape
        torch.testing.assert_close(together, orthogonalize([matrix])[0])
    assert orthogonalize([]) == []


def test_matrices_do_not_mix() -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(n, 3, 3, 3) for n in (4, 4, 40)]

    def moved(together: bool) -> list[torch.Tensor]:
        weights: list[torch.Tensor] = [torch.zeros_like(gradient) for gradient in gradients]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        for group in [weights] if together else [[weight] for weight in weights]:
            Muon(group, lr=0.1, adam_lr=0.1).step()
        return weights

    torch.testing.assert_close(moved(together=True), moved(together=False))


def test_no_gradient_no_move() -> None:
    network = DigitNet()
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer = Muon(network.parameters(), lr=0.1, adam_lr=0.1)
    optimizer.step()
    assert all(map(torch.equal, before, network.parameters()))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert all(map(torch.equal, before, network.parameters()))


def test_vectors_move_as_adam_moves_them() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Parameter(torch.ones(7)), torch.nn.Parameter(torch.ones(7))
    muon, adam = Muon([ours], lr=1, adam_lr=0.01), torch.optim.Adam([theirs], lr=0.01)
    for _ in range(10):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_matrices_move_by_their_rate_alone() -> None:
    torch.manual_seed(0)
    steps = []
    for scale in (1e-3, 1e3):
        weight = torch.nn.Parameter(torch.zeros(8, 3, 3, 3))
        torch.manual_seed(1)
        weight.grad = scale * torch.randn_like(weight)
        Muon([weight], lr=0.1, adam_lr=0.1).step()
        steps.append(weight.detach().clone())
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-3, atol=1e-4)
    values = torch.linalg.svdvals(steps[0].flatten(1))
    assert 0.06 < values.min() <= values.max() < 0.13


def test_state_goes_on_from_where_it_was() -> None:
    def stepped(restart: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = DigitNet(4, 4)
        optimizer = Muon(network.parameters(), lr=0.1, adam_lr=0.1)
        for step in range(4):
            if restart and step == 2:
                state = optimizer.state_dict()
                optimizer = Muon(network.parameters(), lr=9, adam_lr=9)
                optimizer.load_state_dict(state)
            for parameter in network.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        return list(network.parameters())

    assert all(map(torch.equal, stepped(restart=False), stepped(restart=True)))
