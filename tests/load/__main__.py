"""`python -m tests.load`: start a server of its own, let scripted visitors use it, and print how long they wait and what it keeps.

--scenes alone crowd fairness memory beside   those that are wanted (default: all)
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.load import scenes
from tests.support import serving

SCENES = ("alone", "crowd", "fairness", "memory", "beside")
PATIENCE = 300
"""Seconds until the server answers and has its models."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=SCENES)
    parser.add_argument("--visitors", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64, help="of each visitor's three columns (default: 64)")
    parser.add_argument("--runs", type=int, default=30, help="over which memory is looked at (default: 30)")
    parser.add_argument("--loads", type=int, default=60, help="of pages, over which memory is looked at (default: 60)")
    args = parser.parse_args()
    log = Path(tempfile.mkdtemp(prefix="glp-load-")) / "server.log"
    with serving.running(["-m", "dashboard.launch"], "--port", log, {}, patience=PATIENCE) as server:
        serving.wait_until(lambda: serving.load(server)["models"] == "done", server, log, PATIENCE)
        busy = f"{os.getloadavg()[0]:.1f} of {os.cpu_count()} cores busy before"
        sys.stdout.write(f"{server.address}, {busy}, log {log}\n")
        for row in measured(server, args):
            verdict = "" if row.holds is None else "holds" if row.holds else "DOES NOT HOLD"
            sys.stdout.write(f"{row.what:<44}{row.measured:<28}{row.wanted and 'wanted ' + row.wanted:<16}{verdict}\n")
            sys.stdout.flush()
    traces = log.read_text().count("Traceback")
    sys.stdout.write(f"{'tracebacks in the log':<44}{traces:<28}{'wanted 0':<16}{'holds' if not traces else 'DOES NOT HOLD'}\n")


def measured(server, args):
    """Yield the table's rows as they are measured; the run alone comes first, since the others are told relative to it."""
    start = time.monotonic()
    first, solo = scenes.alone(server.address, args.tokens)
    yield scenes.Row(f"alone, {args.tokens} tokens: first token", f"{first:.1f} s")
    yield scenes.Row("  done", f"{solo:.1f} s")
    if "crowd" in args.scenes:
        yield from scenes.crowd(server.address, args.visitors, args.tokens, solo)
    if "fairness" in args.scenes:
        yield from scenes.fairness(server.address, 256, 16)
    if "memory" in args.scenes:
        yield from scenes.memory(server.address, server.process, args.runs, args.loads, 4)
    if "beside" in args.scenes:
        yield from scenes.beside(server.address, args.tokens, solo)
    yield scenes.Row("all of it", f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
