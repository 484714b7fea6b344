"""Keeps what a benchmark measured, with the machine, the versions and the commit it ran on."""

import json
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from studies import RESULTS


def save(name: str, result: dict[str, Any], /, **how: Any) -> None:
    """Write `result` to benchmarks/results/NAME.json; `how` are settings of the benchmark."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    conditions = {
        "machine": processor(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "commit": commit,
    }
    text = json.dumps(result | {"how": how | conditions}, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text)


def processor() -> str:
    """The processor's name where the system tells it."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return str(capabilities.get("cpu_name", platform.processor() or platform.machine()))
