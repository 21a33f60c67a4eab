"""Damaged files and commands that are ended midway: runs the nightly tests of them and counts what they tried."""

import subprocess
import sys
from collections import Counter
from xml.etree import ElementTree

from tests.load.scenes import Row
from tests.support.serving import ROOT

TESTS = ("tests/test_damaged_files.py", "tests/cli/test_interrupted.py")
COUNTED = {
    "inputs": "damaged files read",
    "killed": "commands killed midway, then gone on with",
    "stopped": "commands that got TERM, then gone on with",
    "full": "commands that found the disk full, then gone on with",
}
"""What the tests say of themselves (`record_property`), in words."""


def damage(folder, arguments=()):
    """Yield the rows of damage; what the tests print goes into a file of the folder.

    Args:
        arguments: more of them for pytest.
    """
    log, results = folder / "damage.txt", folder / "damage.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "nightly", f"--junitxml={results}", *TESTS, *arguments]
    with log.open("w") as output:
        status = subprocess.run(command, cwd=ROOT, check=False, stdout=output, stderr=subprocess.STDOUT).returncode
    if not results.is_file():
        yield Row("damage", f"no results, see {log}", "results", False)
        return
    root = ElementTree.parse(results).getroot()
    counts = Counter()
    for one in root.iter("property"):
        counts[one.get("name")] += int(one.get("value"))
    for name, words in COUNTED.items():
        yield Row(words, f"{counts[name]:,}", "some", counts[name] > 0)
    bad = sum(len(list(root.iter(kind))) for kind in ("failure", "error"))
    yield Row("  failures", f"{bad}" + (f", see {log}" if status else ""), "0", status == 0)
