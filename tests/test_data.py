"""MNISTDataModule: the files and their repair, the split, the loaders, augmentation in training."""

import gzip
import hashlib
import os
import subprocess
import sys
from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Survived
from lightning.pytorch.plugins.precision import DoublePrecision, Precision
from test_own import draw
from torchvision.datasets import MNIST

from mnist_lit.augment import Augmentation
from mnist_lit.data import (
    MD5,
    Digits,
    MNISTDataModule,
    restore_mnist,
    stratified_split,
)
from mnist_lit.hands import drawn_digits
from mnist_lit.own import MixedSampler
from mnist_lit.strokes import Strokes

RAW = Path("MNIST") / "raw"


def sums(data_dir: Path) -> dict[str, str]:
    return {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in (data_dir / RAW).iterdir()}


def test_setup_without_a_stage_is_that_of_a_fit(data_dir: Path) -> None:
    data = MNISTDataModule(str(data_dir))
    data.setup()
    assert (len(data.train_set), len(data.val_set), len(data.test_set)) == (50_000, 10_000, 10_000)


def test_ones_own_digits_have_their_share_of_each_batch() -> None:
    digits: Any = range(1000 + 7)  # the last seven are one's own
    for ranks in (1, 3):
        epochs = []
        for epoch in range(2):
            seen = []
            for rank in range(ranks):
                sampler = MixedSampler(
                    digits, own=7, of_batch=5, batch_size=20, num_replicas=ranks, rank=rank, seed=3
                )
                sampler.set_epoch(epoch)
                indices = list(sampler)
                assert len(indices) == len(sampler)
                assert list(sampler) == indices  # a resumed fit sees the same
                batches = [indices[i : i + 20] for i in range(0, len(indices), 20)]
                own = [sum(index >= 1000 for index in batch) for batch in batches]
                assert own[:-1] == [5] * (len(batches) - 1)
                assert own[-1] == round(len(batches[-1]) / 4)
                seen += indices
            others = [index for index in seen if index < 1000]
            assert set(others) == set(range(1000))
            assert len(others) - 1000 < ranks  # repeated, to make the processes even
            counts = [seen.count(index) for index in range(1000, 1007)]
            assert max(counts) - min(counts) <= 1
            epochs.append(seen)
        assert epochs[0] != epochs[1]


def test_a_fifth_of_ones_own_digits_is_held_out(data_dir: Path, tmp_path: Path) -> None:
    draw(tmp_path / "own", range(100))
    own = str(tmp_path / "own")
    data = MNISTDataModule(str(data_dir), own_dir=own, val_size=100, batch_size=20, own_share=0.5)
    data.prepare_data()
    data.setup("fit")
    assert (data.own_train, len(data.own_val_set)) == (80, 20)
    assert len(data.train_set) == 59_900 + 80
    trained, held_out = data.train_set.images[-80:], data.own_val_set.images
    assert not {bytes(x.numpy()) for x in trained} & {bytes(x.numpy()) for x in held_out}
    of_all = torch.cat([data.train_set.labels[-80:], data.own_val_set.labels]).bincount()
    assert ((data.own_val_set.labels.bincount(minlength=10) - of_all / 5).abs() <= 1).all()
    [mnist, mine] = data.val_dataloader()
    assert (len(mnist.dataset), len(mine.dataset)) == (100, 20)  # type: ignore[arg-type]
    images, _ = next(iter(data.train_dataloader()))
    assert {bytes(x.numpy()) for x in images[:10]} <= {bytes(x.numpy()) for x in trained}
    (tmp_path / "own" / "7").rename(tmp_path / "seven")
    (tmp_path / "seven").rename(tmp_path / "own" / "7")
    again = MNISTDataModule(str(data_dir), own_dir=own)
    again.setup("test")
    assert torch.equal(again.own_val_set.images, held_out)


def test_assets_are_the_original_files() -> None:
    assets = resources.files("mnist_lit") / "assets" / "mnist"
    for resource, md5 in MNIST.resources:
        assert hashlib.md5((assets / resource).read_bytes()).hexdigest() == md5
    for name, md5 in MD5.items():
        content = gzip.decompress((assets / f"{name}.gz").read_bytes())
        assert hashlib.md5(content).hexdigest() == md5


def test_an_absent_folder_is_filled(data_dir: Path) -> None:
    assert sums(data_dir) == MD5
    assert len(MNIST(str(data_dir), train=True)) == 60_000


@pytest.mark.parametrize("fault", ["missing", "truncated", "altered", "swapped", "empty"])
def test_a_truncated_file_is_replaced_and_any_other_is_left(
    fault: str, tmp_path: Path, survived: Survived
) -> None:
    restore_mnist(tmp_path)
    path = tmp_path / RAW / "train-labels-idx1-ubyte"
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {
                "truncated": content[:-1],
                "altered": content[:-1] + bytes([content[-1] ^ 1]),
                "swapped": (tmp_path / RAW / "t10k-labels-idx1-ubyte").read_bytes(),
                "empty": b"",
            }[fault]
        )
    before = path.read_bytes() if path.exists() else None
    if fault in ("altered", "swapped"):
        with pytest.raises(ValueError, match=f"--data.data_dir .*{path.name} is not MNIST's"):
            restore_mnist(tmp_path)
        assert path.read_bytes() == before
    else:
        with nullcontext() if fault == "missing" else pytest.warns(UserWarning, match=path.name):
            restore_mnist(tmp_path)
        assert sums(tmp_path) == MD5
    survived("damaged data")


def test_only_the_checked_files_are_read(tmp_path: Path) -> None:
    """Old versions of torchvision left their own copy beside them, and new ones prefer it."""
    restore_mnist(tmp_path)
    noise = torch.full((60_000, 28, 28), 255, dtype=torch.uint8), torch.zeros(60_000).long()
    (tmp_path / "MNIST" / "processed").mkdir()
    for name in ("training", "test"):
        torch.save(noise, tmp_path / "MNIST" / "processed" / f"{name}.pt")
    assert int(MNIST(str(tmp_path), train=False).data.min()) == 255  # it is no dud
    data = MNISTDataModule(str(tmp_path))
    data.setup("fit")
    for digits in (data.train_set, data.val_set, data.test_set):
        assert torch.bincount(digits.labels, minlength=10).min() > 800
        assert digits.images.float().mean() < 40


def test_a_damaged_asset_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MD5, "t10k-labels-idx1-ubyte", "0" * 32)
    with pytest.raises(OSError, match=r"t10k-labels-idx1-ubyte\.gz"):
        restore_mnist(tmp_path)
    assert "t10k-labels-idx1-ubyte" not in sums(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        restore_mnist(tmp_path / "file" / "data")


def test_the_split_is_stratified_fixed_and_disjoint(data_dir: Path) -> None:
    labels = MNIST(str(data_dir), train=True).targets
    train, val = stratified_split(labels, 5000)
    assert (len(train), len(val)) == (55_000, 5000)
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(60_000))
    share = torch.bincount(labels[val]) - torch.bincount(labels) * 5000 / 60_000
    assert share.abs().max() <= 1
    torch.manual_seed(123)  # the run's own seed has no part in it
    assert torch.equal(stratified_split(labels, 5000)[1], val)
    assert len(stratified_split(labels, 0)[1]) == 0


def test_a_training_epoch_sees_every_image_once_in_a_new_order(data_dir: Path) -> None:
    data = MNISTDataModule(str(data_dir), batch_size=999)
    data.setup("fit")
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        epochs.append(torch.cat([images for images, _ in loader]).flatten(1))
    fingerprints = [(images * torch.arange(784)).sum(1) for images in epochs]
    expected = (data.train_set.images.flatten(1) * torch.arange(784)).sum(1)
    assert torch.equal(fingerprints[0].sort().values, expected.sort().values)
    assert torch.equal(fingerprints[0], fingerprints[1])
    assert not torch.equal(fingerprints[0], fingerprints[2])


def test_a_batch_is_one_indexing_call(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "__getitem__", None)
    images, labels = digits.__getitems__([3, 1])
    assert images.shape == (2, 1, 28, 28)
    assert torch.equal(labels, digits.labels[[3, 1]])
    batches = list(torch.utils.data.DataLoader(digits, 4000, collate_fn=lambda batch: batch))
    assert [len(labels) for _, labels in batches] == [4000, 4000, 2000]


@pytest.mark.parametrize("training", [True, False])
def test_only_training_batches_are_augmented(digits: Digits, training: bool) -> None:
    data = MNISTDataModule()
    data.trainer = SimpleNamespace(training=training, precision_plugin=Precision())  # type: ignore[assignment]
    batch = digits.images[:8], digits.labels[:8]
    images, labels = data.on_after_batch_transfer(batch, 0)
    plain = batch[0].float() / 255
    assert images.dtype == torch.float
    assert torch.equal(images, plain) == (not training)
    assert torch.equal(labels, batch[1])


def test_images_have_the_type_of_the_fit(digits: Digits) -> None:
    data = MNISTDataModule()
    plugin = DoublePrecision()
    data.trainer = SimpleNamespace(training=True, precision_plugin=plugin)  # type: ignore[assignment]
    images, _ = data.on_after_batch_transfer((digits.images[:2], digits.labels[:2]), 0)
    assert images.dtype == torch.double


def test_augmentation_is_a_dictionary_or_is_refused() -> None:
    assert MNISTDataModule(augmentation={"degrees": 15}).augmentation == Augmentation(degrees=15)  # type: ignore[arg-type]
    for wrong in ({"degree": 15}, "strong", None, 7):
        with pytest.raises(ValueError, match=r"--data\.augmentation.*(degree|strong|None|7)"):
            MNISTDataModule(augmentation=wrong)  # type: ignore[arg-type]


def test_val_size_0_validates_on_the_test_set_and_warns(data_dir: Path) -> None:
    data = MNISTDataModule(str(data_dir), val_size=0)
    with pytest.warns(UserWarning, match="--data.val_size 0"):
        data.setup("fit")
    assert len(data.train_set) == 60_000
    assert data.val_set is data.test_set


def test_strokes_come_after_the_augmentation_and_only_if_asked_for(digits: Digits) -> None:
    batch = digits.images[:8], digits.labels[:8]
    plain = batch[0].float() / 255

    def augmented(**settings: Strokes) -> torch.Tensor:
        data = MNISTDataModule(**settings)  # type: ignore[arg-type]
        data.trainer = SimpleNamespace(training=True, precision_plugin=Precision())  # type: ignore[assignment]
        torch.manual_seed(0)
        return data.on_after_batch_transfer(batch, 0)[0]

    torch.manual_seed(0)
    moved = Augmentation()(plain)
    blurred = Strokes(blur=1)(moved)
    assert torch.equal(augmented(), moved)  # bit for bit as without strokes
    assert torch.equal(augmented(strokes=Strokes(blur=1)), blurred)
    assert not torch.equal(blurred, moved)


def test_drawn_digits_join_the_training_images_alone(data_dir: Path) -> None:
    plain, more = MNISTDataModule(str(data_dir)), MNISTDataModule(str(data_dir), drawn=100)
    for data in (plain, more):
        data.setup("fit")
    assert len(more.train_set) == len(plain.train_set) + 100
    assert torch.equal(more.train_set.images[:50_000], plain.train_set.images)
    assert torch.equal(more.train_set.images[50_000:], drawn_digits(100)[0])
    assert torch.equal(more.train_set.labels[50_000:], drawn_digits(100)[1])
    assert torch.equal(more.val_set.images, plain.val_set.images)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("val_size", -1), ("val_size", 50_001), ("num_workers", -1), ("drawn", -1)],
)
def test_bad_settings_name_the_flag(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"--data.{name}"):
        MNISTDataModule(**{name: value})  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_runs_may_fill_one_folder_at_once(tmp_path: Path) -> None:
    code = f"from mnist_lit.data import *; restore_mnist(Path({str(tmp_path)!r}))"
    runs = [subprocess.Popen([sys.executable, "-c", code], env=os.environ) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert sums(tmp_path) == MD5
