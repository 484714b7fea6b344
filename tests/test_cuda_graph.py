"""CudaGraph: what is replayed and what is not, what it leaves behind, and whom it refuses."""

import re
from pathlib import Path

import pytest
import torch
from conftest import Run
from torch import Tensor, nn

from mnist_lit import cuda_graph
from mnist_lit.network import DigitNet

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@needs_gpu
def test_full_batches_of_training_alone_are_replayed() -> None:
    network, images = DigitNet(margin=3).cuda(), torch.rand(8, 1, 28, 28).cuda()
    cuda_graph.replayed(network, images)
    launched: list[int] = []  # the sizes of batches that go through Python's modules
    network.input.register_forward_pre_hook(lambda _, inputs: launched.append(len(inputs[0])))
    network(images)
    assert launched == []
    network(images[:5])  # the last of an epoch
    network.eval()(images)
    assert launched == [5, 8]
    cuda_graph.as_ever(network)
    network.train()(images)
    assert launched == [5, 8, 8]
    cuda_graph.as_ever(network)  # nothing to undo: a fit that failed before it began


@needs_gpu
def test_capturing_leaves_weights_and_statistics_as_they_were() -> None:
    network = DigitNet(margin=3).cuda()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cuda_graph.replayed(network, torch.rand(8, 1, 28, 28).cuda())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@needs_gpu
def test_a_graph_computes_the_same() -> None:
    torch.manual_seed(0)
    network = DigitNet(margin=3, dropout=0.0).cuda()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = torch.rand(96, 1, 28, 28).cuda(), torch.randint(10, (96,)).cuda()

    def gradients() -> list[Tensor]:
        network.load_state_dict(state)
        network.zero_grad()
        for _ in range(3):  # the last is of weights that did not change, statistics that did
            network.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
        statistics = [value.clone() for value in network.buffers()]
        return [*(p.grad.clone() for p in network.parameters() if p.grad is not None), *statistics]

    launched = gradients()
    cuda_graph.replayed(network, images)
    torch.testing.assert_close(gradients(), launched, rtol=1e-3, atol=1e-5)


@needs_gpu
@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_a_fit_learns_by_a_graph(precision: str, run: Run, data_dir: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *short(data_dir), "--trainer.precision", precision, "--model.tta", True)
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"train loss .* acc ([\d.]+) %", done.stdout)
    assert float(accuracy) > 80


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--trainer.accelerator", "cpu"], "needs an NVIDIA GPU, and this fit runs on cpu"),
        pytest.param(
            ["--trainer.accumulate_grad_batches", 2], "accumulate_grad_batches", marks=needs_gpu
        ),
    ],
)
def test_a_fit_that_cannot_is_refused_in_a_line(
    flags: list[object], named: str, run: Run, data_dir: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, *short(data_dir), *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --trainer.callbacks CudaGraph")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


def short(data_dir: Path) -> list[object]:
    """An epoch of 312 full batches and one of 96."""
    sizes = ["--data.val_size", 0, "--data.batch_size", 192, "--trainer.limit_val_batches", 0]
    graph = ["--trainer.callbacks+=mnist_lit.cuda_graph.CudaGraph", "--data.data_dir", data_dir]
    return ["--model.optimizer", "muon", *sizes, *graph, "--trainer.max_epochs", 1]
