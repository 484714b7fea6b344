"""Whole runs that are killed, that fill the disk, or that lose a process: nothing is lost."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Survived
from forked import Forks
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.datasets import MNIST

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


def small(data_dir: Path) -> list[object]:
    """Three epochs of half a second."""
    limits = {"train": 20, "val": 5, "test": 5}
    return [
        *("--data.data_dir", data_dir, "--data.batch_size", 16, "--trainer.max_epochs", 3),
        *(f"--trainer.limit_{part}_batches={number}" for part, number in limits.items()),
        *("--trainer.log_every_n_steps", 5, "--trainer.accelerator", "cpu"),
    ]


def outcome(folder: Path) -> dict[str, Any]:
    """All that a fit leaves which a resumed one must leave too, bit for bit."""
    [path] = folder.glob("lightning_logs/version_*/checkpoints/last.ckpt")
    last = torch.load(path, weights_only=True)
    events = EventAccumulator(str(path.parent.parent)).Reload()
    curves = {
        f"{tag} in step {event.step}": event.value
        for tag in ("val/acc", "val/loss", "train/acc", "train/loss", "test/acc", "test/loss", "lr")
        if tag in events.Tags()["scalars"]  # nothing of val without a validation
        for event in events.Scalars(tag)
    }
    printed = (folder / "out").read_text()
    return {
        **{
            part: values(last[part])
            for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks")
        },
        "curves": curves,
        "files": sorted(path.name for path in path.parent.glob("[!.]*")),
        "summary": re.findall(r"^(?:best val|test|target) .*", printed, re.MULTILINE)[-3:],
    }


def values(state: Any) -> Any:
    """Tensors as lists and no numbers of runs in paths, so that two states compare by value."""
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {values(key): values(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [values(value) for value in state]
    if isinstance(state, float):
        return repr(state)  # nan is equal to nan
    return re.sub(r"version_\d+", "version", state) if isinstance(state, str) else state


def write_own(folder: Path, data_dir: Path) -> None:
    """Forty of the test digits as a folder of one's own."""
    mnist = MNIST(str(data_dir), train=False)
    for number in range(40):
        path = folder / str(int(mnist.targets[number])) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - mnist.data[number].numpy()).save(path)


@pytest.fixture(scope="module")
def unbroken(
    forks: Forks, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], float]:
    """What a fit that nothing happens to leaves, and its seconds."""
    folder = tmp_path_factory.mktemp("unbroken")
    status, seconds = forks.run(folder, *small(data_dir))
    assert status == 0, (folder / "out").read_text()
    expected = outcome(folder)
    assert len(expected["summary"]) == 3
    return expected, seconds


def killed_and_resumed(
    forks: Forks,
    data_dir: Path,
    folder: Path,
    expected: dict[str, Any],
    recipe: Sequence[str] = (),
    **fault: Any,
) -> bool:
    """Whether it was killed; resumed, it must equal the unbroken fit in any case."""
    folder.mkdir(exist_ok=True)
    flags = [*small(data_dir), *recipe]
    status, _ = forks.run(folder, *flags, **fault)
    # A machine that has become faster may be done before it is to be killed.
    assert status == -9 or (status == 0 and "kill_after" in fault), fault
    begun = (folder / "lightning_logs/version_0/config.yaml").exists()
    # Lightning's callbacks are not taken from the config.yaml of a fit: they are given again.
    again = [flag for flag in recipe if flag.startswith("--trainer.callbacks")]
    resumed_status, _ = forks.run(folder, *(["--ckpt_path", "last", *again] if begun else flags))
    assert resumed_status == 0, (folder / "out").read_text()
    resumed = outcome(folder)
    # Lightning draws an epoch's train metrics only after its checkpoint is saved.
    missing = expected["curves"].keys() - resumed["curves"].keys()
    assert len(missing) <= 2, fault
    assert all(point.startswith("train/") for point in missing), fault
    resumed["curves"] |= {point: expected["curves"][point] for point in missing}
    if again:  # SWA makes no schedule in a fit that resumes in its last epoch, which has no steps
        parts = ("state_dict", "curves", "files", "summary")
        resumed, expected = ({part: each[part] for part in parts} for each in (resumed, expected))
    assert resumed == expected, fault
    return status == -9


# In each epoch, each of the two checkpoints written but not yet in place, and in place but what
# follows not done; config.yaml; a former best checkpoint.
CALLS = [
    *(("replace", n) for n in (1, 4, 5)),  # config.yaml; both of the second epoch
    *(("fsync", n) for n in (3, 4)),
    ("remove", 1),
]
MORE_CALLS = [
    *(("replace", n) for n in (2, 3, 6, 7)),
    *(("fsync", n) for n in (1, 2, 5, 6)),
    ("remove", 2),
]


@pytest.mark.parametrize(
    "call", [*CALLS, *(pytest.param(call, marks=pytest.mark.slow) for call in MORE_CALLS)]
)
def test_a_fit_killed_while_it_writes_and_resumed_equals_an_unbroken_one(
    call: tuple[str, int],
    unbroken: tuple[dict[str, Any], float],
    forks: Forks,
    data_dir: Path,
    tmp_path: Path,
    survived: Survived,
) -> None:
    assert killed_and_resumed(forks, data_dir, tmp_path, unbroken[0], kill_in=call)
    survived("killed")


MOMENTS, SHARES = 24, 6  # from the start of a fit to its test, in so many tests


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_a_fit_killed_at_any_moment_and_resumed_equals_an_unbroken_one(
    share: int,
    unbroken: tuple[dict[str, Any], float],
    forks: Forks,
    data_dir: Path,
    tmp_path: Path,
    survived: Survived,
) -> None:
    expected, seconds = unbroken
    killed = sum(
        killed_and_resumed(
            forks,
            data_dir,
            tmp_path / str(moment),
            expected,
            kill_after=seconds * (moment + 0.5) / MOMENTS,
        )
        for moment in range(share, MOMENTS, SHARES)
    )
    assert killed >= 2
    survived("killed", killed)


CALLBACK = "--trainer.callbacks"
RECIPES = {
    "max_steps": ["--trainer.max_steps=50", "--trainer.max_epochs=20"],
    "own digits": ["--data.own_dir=OWN"],
    "accumulation": ["--trainer.accumulate_grad_batches=3"],
    "every quarter epoch": ["--trainer.val_check_interval=0.25"],
    "SWA": [
        f"{CALLBACK}+=lightning.pytorch.callbacks.StochasticWeightAveraging",
        *(f"{CALLBACK}.swa_lrs=0.01", f"{CALLBACK}.swa_epoch_start=1", "--trainer.max_epochs=4"),
    ],
    "muon": ["--model.optimizer=muon", "--model.label_smoothing=0.05"],
    "TinyNet": ["--model.network=TinyNet", "--model.tta=true", "--model.margin=3"],
    "no validation": ["--trainer.limit_val_batches=0", "--data.val_size=0"],
    "every half epoch": ["--trainer.val_check_interval=0.5", "--trainer.max_epochs=4"],
    "every second epoch": ["--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=4"],
}


def test_a_fit_with_max_steps_killed_after_an_epoch_equals_an_unbroken_one(
    forks: Forks, data_dir: Path, tmp_path: Path, survived: Survived
) -> None:
    flags = RECIPES["max_steps"]
    (tmp_path / "unbroken").mkdir()
    assert forks.run(tmp_path / "unbroken", *small(data_dir), *flags)[0] == 0
    expected = outcome(tmp_path / "unbroken")
    fault = {"kill_in": ("replace", 3)}  # last.ckpt of the first epoch
    assert killed_and_resumed(forks, data_dir, tmp_path / "killed", expected, flags, **fault)
    assert forks.run(tmp_path / "unbroken", "--ckpt_path", "last")[0] == 0
    printed = (tmp_path / "unbroken/out").read_text()
    assert "nothing is left to train after 3 epochs, 50 steps, with --trainer.max" in printed
    assert outcome(tmp_path / "unbroken")["summary"] == expected["summary"]
    survived("killed")


def test_a_fit_whose_folder_was_moved_keeps_its_best_checkpoint(
    unbroken: tuple[dict[str, Any], float],
    forks: Forks,
    data_dir: Path,
    tmp_path: Path,
    survived: Survived,
) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    first.mkdir()
    assert forks.run(first, *small(data_dir), kill_in=("replace", 3))[0] == -9
    first.rename(moved)
    out = str(moved / "out")
    resume = ("--ckpt_path", "last", "--trainer.default_root_dir", "moved")
    assert forks.run(tmp_path, *resume, out=out)[0] == 0
    for part in ("state_dict", "files", "summary"):
        assert outcome(moved)[part] == unbroken[0][part]
    assert "dirpath has changed" not in (moved / "out").read_text()
    assert forks.run(tmp_path, *resume, "--trainer.max_epochs", 2, out=out)[0] == 0
    assert outcome(moved)["summary"] == unbroken[0]["summary"]
    said = "nothing is left to train after 3 epochs, 60 steps, with --trainer.max_epochs 2\n"
    assert said in (moved / "out").read_text()
    assert forks.run(tmp_path, *resume, "--trainer.max_epochs", 1, out=out)[0] == 2
    assert "you have set Trainer(max_epochs=1)" in (moved / "out").read_text().splitlines()[-1]
    survived("killed")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_fit_of_any_recipe_killed_and_resumed_equals_an_unbroken_one(
    recipe: str, forks: Forks, data_dir: Path, tmp_path: Path, survived: Survived
) -> None:
    own = tmp_path / "own"
    write_own(own, data_dir)
    flags = [flag.replace("OWN", str(own)) for flag in RECIPES[recipe]]
    (tmp_path / "unbroken").mkdir()
    status, seconds = forks.run(tmp_path / "unbroken", *small(data_dir), *flags)
    assert status == 0, (tmp_path / "unbroken" / "out").read_text()
    expected = outcome(tmp_path / "unbroken")
    faults: list[dict[str, Any]] = [{"kill_in": ("fsync", 2)}, {"kill_in": ("replace", 4)}]
    faults += [{"kill_after": seconds * (0.35 + share / 15)} for share in range(8)]
    killed = sum(
        killed_and_resumed(forks, data_dir, tmp_path / str(number), expected, flags, **fault)
        for number, fault in enumerate(faults)
    )
    assert killed >= 5
    survived("killed", killed)


@pytest.mark.parametrize(
    ("fault", "named", "left"),
    [
        ({"larger": 1000}, "version_0/config.yaml", set()),
        ({"larger": 5000}, "version_0", {"config.yaml"}),
        ({"larger": 100_000}, r"checkpoints/best-0[.]\d{4}.ckpt", {"config.yaml"}),
        ({"full_in": ("fsync", 2)}, "last.ckpt", {"config.yaml", "best-0.____.ckpt"}),
    ],
    ids=["config", "curves", "best", "last"],
)
def test_a_full_disk_is_named_and_no_half_file_left(
    fault: dict[str, Any],
    named: str,
    left: set[str],
    forks: Forks,
    data_dir: Path,
    tmp_path: Path,
    survived: Survived,
) -> None:
    status, _ = forks.run(tmp_path, *small(data_dir), **fault)
    *_, error = (tmp_path / "out").read_text().splitlines()
    assert status == 1
    assert re.fullmatch(rf"error: \[Errno \d+\] [\w ]+: '\S*{named}\S*'", error)
    assert "Traceback" not in (tmp_path / "out").read_text()
    found = {path.name for path in (tmp_path / "lightning_logs").rglob("*") if path.is_file()}
    found = {re.sub(r"best-0[.]\d{4}", "best-0.____", name) for name in found}  # its accuracy
    assert {name for name in found if not name.startswith(("events.", "hparams"))} == left
    survived("full disk")


def test_a_disk_too_full_for_the_data_is_named(
    forks: Forks, tmp_path: Path, survived: Survived
) -> None:
    status, _ = forks.run(tmp_path, "--data.data_dir", "data", larger=10_000_000)
    assert status == 1
    error = (tmp_path / "out").read_text().splitlines()[-1]
    assert re.fullmatch(r"error: .*: 'data/MNIST/raw/train-images-idx3-ubyte'", error)
    assert list((tmp_path / "data/MNIST/raw").iterdir()) == []
    survived("full disk")


def test_after_a_full_disk_a_fit_goes_on(
    unbroken: tuple[dict[str, Any], float],
    forks: Forks,
    data_dir: Path,
    tmp_path: Path,
    survived: Survived,
) -> None:
    assert forks.run(tmp_path, *small(data_dir), full_in=("fsync", 3))[0] == 1
    said = (tmp_path / "out").read_text()
    [saved] = re.findall("^interrupted: --ckpt_path (\\S+) goes on", said, re.MULTILINE)
    assert forks.run(tmp_path, "--ckpt_path", saved)[0] == 0
    assert outcome(tmp_path) == unbroken[0]
    survived("full disk")
