"""Two CPU processes: every image once an epoch, and the metrics of one process."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import Survived

from mnist_lit.data import MNISTDataModule

SCRIPT = """
import sys, torch
from lightning.pytorch import LightningModule, Trainer
from mnist_lit.augment import Augmentation
from mnist_lit.data import MNISTDataModule

class Record(LightningModule):
    # Sums that tell every image apart, of what this process is given.
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {}
    def record(self, stage, batch):
        sums = (batch[0].flatten(1) * 255).round().double() @ torch.arange(784).double() ** 2
        self.seen.setdefault(stage, []).append(sums)
    def training_step(self, batch, _):
        self.record(f"train{self.current_epoch}", batch)
        return self.weight * 0
    def validation_step(self, batch, _):
        self.record(f"val{self.current_epoch}", batch)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0)
    def on_fit_end(self):
        seen = {stage: torch.cat(sums) for stage, sums in self.seen.items()}
        torch.save(seen, f"{sys.argv[2]}/rank{self.global_rank}.pt")

Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, logger=False,
        num_sanity_val_steps=0, enable_checkpointing=False, enable_progress_bar=False).fit(
    Record(), MNISTDataModule(sys.argv[1], batch_size=499, val_size=4999,
                              augmentation=Augmentation(0, 0, 0, 0, 0, 0)))
"""


def sums(images: torch.Tensor) -> torch.Tensor:
    return (images.flatten(1).double() @ torch.arange(784).double() ** 2).sort().values


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet over gloo")
def test_two_processes_see_every_image_once_an_epoch(data_dir: Path, tmp_path: Path) -> None:
    script = tmp_path / "record.py"
    script.write_text(SCRIPT)
    subprocess.run(
        [sys.executable, str(script), str(data_dir), str(tmp_path)],
        check=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    data = MNISTDataModule(str(data_dir), val_size=4999)
    data.setup("fit")
    for epoch in range(2):
        seen = torch.cat([rank[f"train{epoch}"] for rank in ranks]).sort().values
        # 55,001 images on two processes: the sampler repeats one to make them even.
        expected = sums(data.train_set.images)
        assert len(seen) == len(expected) + 1
        assert torch.equal(seen.unique(), expected.unique())
        validated = torch.cat([rank[f"val{epoch}"] for rank in ranks]).sort().values
        assert torch.equal(validated, sums(data.val_set.images))
    assert not torch.equal(ranks[0]["train0"], ranks[0]["train1"])


def ddp(*arguments: object) -> list[str]:
    config = Path(__file__).parent.parent / "configs" / "ddp.yaml"
    limits = [f"--trainer.limit_{part}_batches=20" for part in ("train", "val", "test")]
    verb, *others = map(str, arguments)
    command = [sys.executable, "-m", "mnist_lit.train", verb, "--config", str(config)]
    return [*command, "--trainer.accelerator", "cpu", *limits, *others]


@pytest.mark.slow
def test_two_processes_stop_together_and_write_once(data_dir: Path, tmp_path: Path) -> None:
    flags = ["--data.data_dir", data_dir, "--stop.accuracy", 0.01, "--trainer.log_every_n_steps", 5]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(command: list[str]) -> str:
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            check=True,
            timeout=300,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    printed = run(ddp("fit", *flags))
    assert printed.count("target val/acc 1.00 % reached in epoch 1\n") == 1
    assert len(re.findall("^epoch ", printed, re.MULTILINE)) == 1
    assert len(re.findall("^test ", printed, re.MULTILINE)) == 1
    [version] = (tmp_path / "lightning_logs").iterdir()
    assert len({path.name.split(".")[-2] for path in version.glob("events.*")}) == 1  # process
    [best, last] = sorted(path.name for path in (version / "checkpoints").iterdir())
    assert best.startswith("best-")
    assert last == "last.ckpt"
    callbacks = torch.load(version / "checkpoints" / last, weights_only=True)["callbacks"]
    assert callbacks["Pictures"]["best"]["confusion"].sum() == 2 * 20 * 128  # of both processes

    # The same weights and images give the same numbers in one process.
    flags = ["--ckpt_path", "last", "--data.data_dir", data_dir, "--trainer.limit_val_batches=1.0"]
    two = run(ddp("validate", *flags))
    one = run(ddp("validate", *flags, "--trainer.devices", 1))
    results = [re.findall(r"val/(acc|loss)\D+([\d.]+)", printed) for printed in (one, two)]
    assert len(results[0]) == 2
    for (name, alone), (other, together) in zip(*results, strict=True):
        assert name == other
        assert float(alone) == pytest.approx(float(together), rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet over gloo")
def test_torchrun_starts_the_processes_of_two_nodes(data_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, _, _, *command = ddp("fit", "--data.data_dir", data_dir, "--trainer.max_epochs", 1)
    nodes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
                *("--node_rank", str(rank), "--master_addr", "127.0.0.1"),
                *("--master_port", str(port), "-m", "mnist_lit.train", *command),
                *("--trainer.devices", "1", "--trainer.num_nodes", "2"),
            ],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (node.communicate(timeout=300)[0] for node in nodes)
    assert [node.returncode for node in nodes] == [0, 0]
    assert len(re.findall(r"^device .* x 2 processes", first, re.MULTILINE)) == 1
    assert second == ""
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["version_0"]


@contextmanager
def in_its_second_epoch(data_dir: Path, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The first of two processes that train; its standard output ends when both have ended."""
    with subprocess.Popen(
        ddp("fit", "--data.data_dir", data_dir, "--trainer.max_epochs", 500),
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as first:
        assert first.stdout
        next(line for line in first.stdout if line.startswith("epoch  2/"))
        yield first


@pytest.mark.slow
def test_sigterm_ends_both_processes(data_dir: Path, tmp_path: Path, survived: Survived) -> None:
    with in_its_second_epoch(data_dir, tmp_path) as first:
        first.send_signal(signal.SIGTERM)
        rest, _ = first.communicate()
    assert first.returncode == 128 + signal.SIGTERM
    [saved] = re.findall(r"^interrupted: --ckpt_path (\S+) goes on", rest, re.MULTILINE)
    assert (tmp_path / saved).is_file()
    survived("signal")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the other process in /proc")
@pytest.mark.parametrize("killed", ["first", "second"])
def test_a_killed_process_ends_the_run(
    killed: str, data_dir: Path, tmp_path: Path, survived: Survived
) -> None:
    with in_its_second_epoch(data_dir, tmp_path) as first:
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text()
        [second] = map(int, children.split())
        os.kill(first.pid if killed == "first" else second, signal.SIGKILL)
        first.communicate()
    assert first.returncode != 0
    assert (tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt").is_file()
    survived("lost process")
