"""Counts the faults that the tests inject and the project survives.

    python benchmarks/reliability.py [--report report.xml]

Runs the tests that count what they did with `survived`, and ends with an error if one of them
fails; ten minutes on two cores. Or it takes the report of a run of all tests, as written by
`pytest --junitxml=report.xml -o junit_family=xunit1`. The result is
benchmarks/results/reliability.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from record import save

ROOT = Path(__file__).parent.parent
FILES = sorted(p for p in (ROOT / "tests").glob("test_*.py") if "survived(" in p.read_text())


def run_tests(report: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", *map(str, FILES)]
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1"]  # the one with properties
    subprocess.run(command, check=True, cwd=ROOT)


def count(report: Path) -> tuple[dict[str, int], dict[str, float]]:
    """Fault -> how many of it were injected; what was bounded -> the most of it that was met.

    All tests of these files must have passed.
    """
    survived, most = Counter[str](), dict[str, float]()
    names = {f"tests.{path.stem}" for path in FILES}
    for case in ElementTree.parse(report).iter("testcase"):
        if case.attrib["classname"] not in names:
            continue
        if any(case.find(ending) is not None for ending in ("failure", "error")):
            raise SystemExit(f"{case.attrib['name']} failed")
        for entry in case.iter("property"):
            kind, _, name = entry.attrib["name"].partition(": ")
            if kind == "survived":
                survived[name] += int(entry.attrib["value"])
            elif kind == "most":
                most[name] = max(most.get(name, 0), round(float(entry.attrib["value"]), 1))
    return dict(survived), most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--report", type=Path, help="of tests that have run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = args.report
        if report is None:
            report = Path(folder) / "report.xml"
            run_tests(report)
        survived, most = count(report)
    save("reliability", {"survived": survived, "most": most}, python=sys.version.split()[0])
    print(json.dumps({"survived": survived, "most": most}, indent=2))


if __name__ == "__main__":
    main()
