"""What is said and chosen of the machine."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mnist_lit.device import default_precision, describe_device


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
