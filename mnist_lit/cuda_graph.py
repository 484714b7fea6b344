"""Forward and backward pass of a training step as a CUDA graph.

This network's kernels take an NVIDIA GPU less time than the CPU takes to launch them one by one. A
graph is launched as a whole.
"""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from mnist_lit.errors import SettingError


class CudaGraph(Callback):
    """Replays the forward and backward pass of a step: `--trainer.callbacks+=CudaGraph`.

    Of full batches alone: the last of an epoch, if it is smaller, and evaluation run as ever.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.device.type != "cuda":
            raise SettingError(
                "--trainer.callbacks CudaGraph needs an NVIDIA GPU, and this fit runs on"
                f" {pl_module.device.type}"
            )
        if trainer.world_size > 1 or trainer.accumulate_grad_batches > 1:
            raise SettingError(
                "--trainer.callbacks CudaGraph works in one process and without"
                " --trainer.accumulate_grad_batches"
            )
        batch_size = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        images = torch.rand(batch_size, 1, 28, 28, device=pl_module.device)
        precision = trainer.precision_plugin
        with precision.forward_context():
            replayed(pl_module.get_submodule("network"), precision.convert_input(images))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        as_ever(pl_module.get_submodule("network"))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        as_ever(pl_module.get_submodule("network"))


def replayed(network: nn.Module, images: Tensor) -> None:
    """Have the network answer batches of this size in training by a graph captured here.

    Args:
        network: Its weights and statistics are afterwards what they were.
        images: A batch (B, 1, 28, 28) of the kind to come, on the GPU.
    """
    state = {name: value.clone() for name, value in network.state_dict().items()}
    # In a module of its own, since the forward of what is captured is replaced for good.
    shell = _Shell(network)
    torch.cuda.make_graphed_callables(shell, (images,))
    network.load_state_dict(state)  # capturing takes a few steps of BatchNorm
    launched = network.forward

    def forward(batch: Tensor) -> Tensor:
        if network.training and batch.shape == images.shape:
            answer: Tensor = shell(batch)
            return answer
        return launched(batch)

    network.forward = forward


def as_ever(network: nn.Module) -> None:
    """Undo `replayed`, if there was any."""
    network.__dict__.pop("forward", None)


class _Shell(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.network(images)
        return answer
