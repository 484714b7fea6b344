"""Counts the faults that the tests inject and the project survives.

    python benchmarks/reliability.py

Runs the tests that count what they did with `survived`, and ends with an error if one of them
fails. About five minutes on two cores. The result is benchmarks/results/reliability.json.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import torch

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"


def main() -> None:
    files = sorted(path for path in TESTS.glob("test_*.py") if "survived(" in path.read_text())
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *map(str, files)]
        subprocess.run(command, check=True, cwd=HERE.parent)
        properties = list(ElementTree.parse(report).iter("property"))
    survived = Counter[str]()
    for entry in properties:
        survived[entry.attrib["name"].removeprefix("survived: ")] += int(entry.attrib["value"])
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    how = {"torch": torch.__version__, "python": sys.version.split()[0], "commit": commit}
    result = {"survived": dict(survived), "how": how}
    (HERE / "results" / "reliability.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
