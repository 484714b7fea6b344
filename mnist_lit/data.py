"""MNIST, and one's own digits, as a LightningDataModule: files, split, loaders, augmentation.

The original files travel with the package, so nothing is downloaded. Images stay uint8 in memory
until a batch reaches its device; there they become floats and, in training, are augmented.
"""

import gzip
import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler
from torchvision.datasets import MNIST

from mnist_lit.assets import FILES
from mnist_lit.augment import Augmentation
from mnist_lit.errors import SettingError
from mnist_lit.files import written_whole
from mnist_lit.hands import drawn_digits
from mnist_lit.own import MixedSampler, OwnDigits, own_digits
from mnist_lit.strokes import Strokes

Batch = tuple[Tensor, Tensor]  # images (B, 1, 28, 28), labels (B,) int64

# MD5 of the decompressed files; those of the .gz are torchvision's own, see assets/mnist/SOURCE.md.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
SPLIT_SEED = 0  # the same images are held out whatever the seed of a run


class MNISTDataModule(LightningDataModule):
    """MNIST: 60,000 images to train and choose with, 10,000 to test once.

    Args:
        data_dir: Folder for the data files; made and filled from the package's own copy.
        batch_size: Images per optimizer step, in each process.
        val_size: Training images held out for validation, the same share of each digit. 0 trains on
            all 60,000 and validates on the test set, as the original script did; with
            --trainer.limit_val_batches 0 on nothing.
        num_workers: Processes that load batches. 0 loads in the main process, which is fastest:
            a batch is one indexing call.
        augmentation: Strength of the random changes of an image in training; in Python also a
            dictionary, or any function of a batch of images (B, 1, 28, 28) in [0, 1].
        strokes: Strength of what other pens, hands and scans do to a digit, in training.
        drawn: Digits that a program draws (hands.py), trained with beside MNIST's.
        own_dir: Folder of one's own digits: image files in subfolders 0 to 9. A fifth of them is
            held out, and measured as own/acc.
        own_share: The fraction of each training batch that is one's own digits.
    """

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 256,
        val_size: int = 10_000,
        num_workers: int = 0,
        augmentation: Augmentation = Augmentation(),
        strokes: Strokes = Strokes(),
        drawn: int = 0,
        own_dir: str | None = None,
        own_share: float = 0.25,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise SettingError(f"--data.batch_size must be at least 1, not {batch_size}")
        if not 0 <= val_size <= 50_000:
            raise SettingError(f"--data.val_size must be from 0 to 50000, not {val_size}")
        if num_workers < 0:
            raise SettingError(f"--data.num_workers must be at least 0, not {num_workers}")
        if drawn < 0:
            raise SettingError(f"--data.drawn must be at least 0, not {drawn}")
        if own_dir is not None and not 0 < round(own_share * batch_size) < batch_size:
            raise SettingError(
                "--data.own_share must leave room for one's own digits and for others in a batch of"
                f" {batch_size}: {own_share} does not"
            )
        self.data_dir = Path(data_dir).expanduser()
        self.own_dir = None if own_dir is None else Path(own_dir).expanduser()
        self.own_share = own_share
        self.batch_size = batch_size
        self.val_size = val_size
        self.num_workers = num_workers
        if isinstance(augmentation, Mapping):
            try:
                augmentation = Augmentation(**augmentation)
            except TypeError as error:  # which names the key
                raise SettingError(f"--data.augmentation: {error}") from error
        if not callable(augmentation):
            raise SettingError(f"--data.augmentation has settings, not {augmentation!r}")
        self.augmentation = augmentation
        self.strokes = strokes
        self.drawn = drawn

    def prepare_data(self) -> None:
        restore_mnist(self.data_dir)
        for note in self._own_digits()[1]:
            warnings.warn(note, stacklevel=2)

    def _own_digits(self) -> tuple[OwnDigits | None, list[str]]:
        if self.own_dir is None:
            return None, []
        return own_digits(self.own_dir, self.data_dir / "own.npz")

    def setup(self, stage: str = "fit") -> None:
        self.test_set = Digits(RawMNIST(str(self.data_dir), train=False))
        own, _ = self._own_digits()
        if own:
            own_train, own_val = stratified_split(own.targets, len(own.targets) // 5)
            self.own_val_set = Digits(own, own_val)
            if self.trainer and len(own_val) < self.trainer.world_size:
                raise SettingError(
                    f"--data.own_dir {self.own_dir}: too few digits for {self.trainer.world_size}"
                    " processes"
                )
        if stage in ("test", "predict"):
            return  # a fit that ends with its test has split the training images already
        trained = RawMNIST(str(self.data_dir), train=True)
        train, val = stratified_split(trained.targets, self.val_size)
        self.train_set = Digits(trained, train)
        if self.drawn and stage == "fit":
            self.train_set.append(*drawn_digits(self.drawn))
        if own and stage == "fit":
            self.own_train = len(own_train)
            self.train_set.append(own.data[own_train].unsqueeze(1), own.targets[own_train])
        if self.val_size:
            self.val_set = Digits(trained, val)
        else:
            self.val_set = self.test_set
            if stage == "fit" and not (self.trainer and self.trainer.limit_val_batches == 0):
                warnings.warn(
                    "--data.val_size 0: validation uses the test set, so a test accuracy from this"
                    " run was also looked at while training.",
                    stacklevel=2,
                )

    def train_dataloader(self) -> DataLoader[Batch]:
        # These samplers shuffle by (seed, epoch) alone, so a resumed run sees the same order.
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        if self.own_dir is None:
            return self._loader(self.train_set, DistributedSampler, shuffle=True, seed=seed)
        return self._loader(
            self.train_set,
            MixedSampler,
            shuffle=True,
            seed=seed,
            own=self.own_train,
            of_batch=round(self.own_share * self.batch_size),
            batch_size=self.batch_size,
        )

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        return self._with_own(self.val_set)

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        return self._with_own(self.test_set)

    def _with_own(self, digits: "Digits") -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """One's own digits, as far as they are held out, are the second of two."""
        loader = self._loader(digits, UnrepeatedDistributedSampler, shuffle=False)
        if self.own_dir is None:
            return loader
        return [loader, self._loader(self.own_val_set, UnrepeatedDistributedSampler, shuffle=False)]

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.test_set, UnrepeatedDistributedSampler, shuffle=False)

    def _loader(
        self, dataset: "Digits", sampler: Callable[..., Sampler[int]], **options: bool | int
    ) -> DataLoader[Batch]:
        world_size, rank = (
            (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler(dataset, num_replicas=world_size, rank=rank, **options),
            collate_fn=as_is,  # type: ignore[arg-type]
            num_workers=self.num_workers,
            generator=torch.Generator(),  # else each epoch draws from the one that augments
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """A Batch of uint8 -> of floats in [0, 1], in training augmented, on its own device."""
        if isinstance(batch, Tensor):  # the model's example, for its summary, graph or export
            return self.trainer.precision_plugin.convert_input(batch) if self.trainer else batch
        images, labels = batch
        images = images.float() / 255
        if self.trainer and self.trainer.training:
            images = self.strokes(self.augmentation(images))
        if self.trainer:  # the loader's integers were none of its business
            images = self.trainer.precision_plugin.convert_input(images)
        return images, labels


class RawMNIST(MNIST):
    """torchvision's MNIST of the files that were checked.

    It would rather read `MNIST/processed/*.pt`, which its old versions left and nobody checks.
    """

    processed_folder = ""

    @property
    def raw_folder(self) -> str:
        return str(Path(self.root) / "MNIST" / "raw")


class Digits(Dataset[Batch]):
    """Images and labels as two tensors; a list of indices gets a whole batch at once."""

    def __init__(self, mnist: MNIST | OwnDigits, indices: Tensor | None = None) -> None:
        images, labels = mnist.data.unsqueeze(1), mnist.targets
        self.images = images if indices is None else images[indices]  # (N, 1, 28, 28) uint8
        self.labels = labels if indices is None else labels[indices]  # (N,) int64

    def append(self, images: Tensor, labels: Tensor) -> None:
        """(N, 1, 28, 28) uint8 and (N,) int64, after those that are there."""
        self.images, self.labels = (
            torch.cat([self.images, images]),
            torch.cat([self.labels, labels]),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.images[indices], self.labels[indices]


def as_is(batch: Batch) -> Batch:
    """Stands in for the loader's collation: `Digits` already returns whole batches."""
    return batch


def stratified_split(labels: Tensor, val_size: int) -> tuple[Tensor, Tensor]:
    """(N,) labels -> sorted indices of train (N - val_size) and val (val_size).

    Each class keeps its share to within one image. The split depends on SPLIT_SEED alone.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    # Evenly spaced picks from a list sorted by class hit each class in proportion.
    held_out[by_class[torch.arange(val_size) * len(labels) // max(val_size, 1)]] = True
    return (~held_out).nonzero().squeeze(1), held_out.nonzero().squeeze(1)


def restore_mnist(data_dir: Path) -> None:
    """Make `data_dir/MNIST/raw` hold the four files of MNIST, each checked by its MD5 sum.

    A missing or truncated file is replaced from the package's assets; any other is left as it is.
    Files appear under their names only when complete, so two runs may fill one folder at the same
    time.

    Raises:
        OSError: `data_dir` cannot be read or written, or an asset of the package is damaged.
        SettingError: There is another data set's file, or an altered one, under one of the names.
    """
    raw = data_dir / "MNIST" / "raw"
    assets = FILES / "mnist"
    if not assets.is_dir():
        try:
            MNIST(str(data_dir), download=True)  # a package stripped of its assets
        except RuntimeError as error:
            raise OSError(
                f"--data.data_dir {data_dir}: MNIST is not in this package, and: {error}"
            ) from error
        return
    for name, md5 in MD5.items():
        path = raw / name
        found = None
        if path.is_file():
            with path.open("rb") as file:
                found = file.read(50_000_000)  # ours end before
        if found is not None and hashlib.md5(found).hexdigest() == md5:
            continue
        content = gzip.decompress((assets / f"{name}.gz").read_bytes())
        if hashlib.md5(content).hexdigest() != md5:
            raise OSError(f"the package is damaged: {assets / name}.gz is not MNIST's")
        if found is not None:
            if not content.startswith(found):
                raise SettingError(
                    f"--data.data_dir {data_dir}: {path} is not MNIST's, and is left as it is: name"
                    " another folder, or remove the file"
                )
            warnings.warn(f"{path} was cut short: replaced by the package's copy", stacklevel=2)
        raw.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_bytes(content)
