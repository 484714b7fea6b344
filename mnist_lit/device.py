"""What the machine offers: its precision, its threads, its memory. Only torch is needed here."""

import ctypes
import sys
from collections.abc import Mapping
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


def keep_freed_memory() -> None:
    """Stops glibc from handing large tensors back to the system after every step.

    The pages would be fetched again, and zeroed, in the next one: a fifth of a step's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # musl has none
        m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_mmap_threshold, 2**30)
