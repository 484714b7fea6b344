"""What is said and chosen of the machine."""

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mnist_lit import device
from mnist_lit.device import default_precision, describe_device, spare_busy_cores


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx2": True, "avx512_bf16": False}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_bf16_where_the_processor_multiplies_it(
    capabilities: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert default_precision("cpu") == precision


@pytest.mark.parametrize(("processes", "said"), [(1, ""), (2, " x 2 processes")])
def test_the_device_is_described_in_a_line(processes: int, said: str) -> None:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(strategy=strategy, world_size=processes, precision="32-true")
    threads = torch.get_num_threads()
    plural = "s" if threads > 1 else ""
    assert describe_device(trainer) == f"cpu with {threads} thread{plural}{said}, 32-true"


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That this process may use, with four threads, as torch would have by itself."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


def look(monkeypatch: pytest.MonkeyPatch, *idle: int, ticks: int = 20) -> str | None:
    """With cores that were idle for so many ticks of those that passed."""
    before = dict.fromkeys(range(len(idle)), (100, 500))
    after = {core: (100 + number, 500 + ticks) for core, number in enumerate(idle)}
    looks = iter([before, after])
    monkeypatch.setattr(device, "_core_ticks", lambda: next(looks))
    return spare_busy_cores(seconds=0)


@pytest.mark.parametrize(
    ("idle", "threads"),
    [
        ((20, 19, 20, 18), 4),
        ((20, 14, 20, 18), 4),  # a little of a core does not matter
        ((20, 0, 20, 20), 3),
        ((0, 10, 0, 20, 20), 2),  # the fifth core is not for this process
        ((0, 0, 0, 0), 1),
    ],
)
@pytest.mark.usefixtures("four_cores")
def test_busy_cores_are_left_to_others(
    idle: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = look(monkeypatch, *idle)
    assert torch.get_num_threads() == threads
    if threads == 4:
        assert told is None
    else:
        assert told
        assert "OMP_NUM_THREADS" in told
        free = sum(idle[:4]) / 20
        assert f"{4 - round(free)} of 4 cores busy" in told


@pytest.mark.usefixtures("four_cores")
def test_a_number_of_threads_that_was_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert look(monkeypatch, 0, 0, 0, 0) is None
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("cores", "ticks"), [(4, 0), (2, 20), (0, 20)])
def test_a_system_that_does_not_tell_changes_nothing(
    cores: int, ticks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look(monkeypatch, *[0] * cores, ticks=ticks) is None
    assert torch.get_num_threads() == 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/stat")
def test_a_busy_program_is_seen() -> None:
    """One that keeps a core busy, pinned there with the one that looks."""
    core = min(device.os.sched_getaffinity(0))
    busy = (
        f"import os; os.sched_setaffinity(0, {{{core}}}); print(flush=True)\nwhile True:\n    pass"
    )
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        before = device._core_ticks()
        device.time.sleep(0.5)
        after = device._core_ticks()
        process.kill()
    if core not in after or after[core][1] == before[core][1]:
        pytest.skip("no ticks here")
    idle, passed = (after[core][i] - before[core][i] for i in (0, 1))
    assert idle < 0.2 * passed
