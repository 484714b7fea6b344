"""What the machine offers: its precision, its threads, its memory. Only torch is needed here."""

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def default_precision(accelerator: str) -> str:
    """bf16-mixed where the processor multiplies bfloat16 itself, else 32-true."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return "32-true"
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bf16-mixed" if fast else "32-true"


def describe_device(trainer: "Trainer") -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    if device.type == "cpu":
        threads = torch.get_num_threads()
        name += f" with {threads} thread{'s' * (threads != 1)}"
    processes = f" x {trainer.world_size} processes" if trainer.world_size > 1 else ""
    return f"{name}{processes}, {trainer.precision}"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def spare_busy_cores(seconds: float = 0.2) -> str | None:
    """Uses as many threads as there are idle cores; OMP_NUM_THREADS wins.

    OpenMP's threads wait for the last of them after each operation, so that one which another
    program delays delays all.

    Args:
        seconds: How long to look; on Linux alone.

    Returns:
        What to tell about it, if there are now fewer threads.
    """
    if "OMP_NUM_THREADS" in os.environ or sys.platform != "linux":
        return None
    cores = os.sched_getaffinity(0)
    before = _core_ticks()
    time.sleep(seconds)  # this process uses none meanwhile
    passed = {n: (t[0] - before[n][0], t[1] - before[n][1]) for n, t in _core_ticks().items()}
    if not all(n in passed and passed[n][1] > 0 for n in cores):
        return None  # a container that does not tell
    idle = round(sum(passed[n][0] / passed[n][1] for n in cores))
    if idle >= torch.get_num_threads():
        return None
    torch.set_num_threads(max(idle, 1))
    return (
        f"other programs keep {len(cores) - idle} of {len(cores)} cores busy, so fewer threads are"
        " used: set OMP_NUM_THREADS for another number"
    )


def _core_ticks() -> dict[int, tuple[int, int]]:
    """How long each core was idle, and how long there was, in hundredths of a second or so."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    ticks = {}
    for line in lines:
        name, *fields = line.split() or [""]
        if name[:3] == "cpu" and name[3:].isdigit():
            numbers = [int(field) for field in fields[:8]]  # the last two are in others, too
            ticks[int(name[3:])] = (sum(numbers[3:5]), sum(numbers))  # idle, and for a disk
    return ticks


def keep_freed_memory() -> None:
    """Stops glibc from handing large tensors back to the system after every step.

    The pages would be fetched again, and zeroed, in the next one: a fifth of a step's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # musl has none
        m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_mmap_threshold, 2**30)
