"""The kind of script this project started as: plain PyTorch, one PIL image at a time.

    python benchmarks/plain.py [--threads 2] [--workers N]

The recipe is that of configs/original.yaml. It prints a JSON line for every epoch with its seconds
so far and its test accuracy, and stops at the first that reaches 99.4 %. Without --workers it first
times some batches with each number of worker processes and takes the fastest.
benchmarks/time_to_accuracy.py runs it beside this project's own training.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from mnist_lit.data import restore_mnist

DATA = Path(__file__).parent / "runs" / "data"
EPOCHS, BATCH = 20, 32
NORMALIZE = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
AUGMENT = [
    transforms.RandomAffine(7, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5),
    transforms.ColorJitter(brightness=0.2, contrast=0.2),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
            padding = dilation * (kernel // 2)
            layers = [
                nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
            return nn.Sequential(*layers, *([nn.Dropout(0.008)] if kernel == 3 else []))

        self.input = block(1, 18, 3)
        self.first = nn.Sequential(block(18, 32, 3), block(32, 18, 1))
        self.rest = nn.Sequential(
            nn.MaxPool2d(2),
            block(18, 32, 3, dilation=2),
            block(32, 18, 1),
            nn.MaxPool2d(2),
            block(18, 32, 3),
            block(32, 10, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.input(images)
        logits: Tensor = self.rest(self.first(x) + x)
        return logits


def loaders(workers: int) -> tuple[DataLoader[tuple[Tensor, Tensor]], ...]:
    train = MNIST(str(DATA), train=True, transform=transforms.Compose([*AUGMENT, *NORMALIZE]))
    test = MNIST(str(DATA), train=False, transform=transforms.Compose(NORMALIZE))
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    return (
        DataLoader(train, BATCH, shuffle=True, **options),  # type: ignore[arg-type]
        DataLoader(test, 1000, **options),  # type: ignore[arg-type]
    )


def train_step(
    network: Net, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    optimizer.zero_grad()
    F.cross_entropy(network(images), labels).backward()
    optimizer.step()


def fastest_workers(network: Net, optimizer: torch.optim.Optimizer) -> int:
    """Of 0 to 3 worker processes, those with which 200 steps take the least time."""
    seconds = {}
    for workers in range(4):
        batches = iter(loaders(workers)[0])
        for step in range(250):
            if step == 50:  # the workers have started
                start = time.perf_counter()
            train_step(network, optimizer, *next(batches))
        seconds[workers] = time.perf_counter() - start
        del batches
    return min(seconds, key=lambda workers: seconds[workers])


def accuracy(network: Net, test: DataLoader[tuple[Tensor, Tensor]]) -> float:
    network.eval()
    with torch.no_grad():
        right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in test)
    network.train()
    return right / 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="stop after so many of the 20")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(42)
    restore_mnist(DATA)
    network = Net()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-4)
    workers = args.workers
    if workers is None:
        workers = fastest_workers(network, optimizer)
        torch.manual_seed(42)
        network = Net()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-4)
    train, test = loaders(workers)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.01,
        total_steps=EPOCHS * len(train),
        pct_start=0.2,
        div_factor=10,
        final_div_factor=100,
    )
    start = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        for images, labels in train:
            train_step(network, optimizer, images, labels)
            schedule.step()
        trained = time.perf_counter() - start
        reached = accuracy(network, test)
        line = {"epoch": epoch, "seconds": trained, "test_acc": reached, "workers": workers}
        print(json.dumps(line), flush=True)
        if reached >= 0.994:
            break


if __name__ == "__main__":
    main()
