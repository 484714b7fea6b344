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

from record import save

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
    save("reliability", {"survived": dict(survived)}, python=sys.version.split()[0])
    print(json.dumps(survived, indent=2))


if __name__ == "__main__":
    main()
