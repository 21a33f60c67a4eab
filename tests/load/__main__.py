"""`python -m tests.load`: start a server of its own, let scripted visitors use it, and print how long they wait and what it keeps.

--scenes alone crowd fairness memory beside   those that are wanted (default: all these)
--scenes wander --minutes 120                 eight browsers that do what visitors do, in an order drawn by chance
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glp_core.workspace import DEMO
from tests.load import scenes, wander
from tests.load.wanderer import Diary
from tests.support import serving

USUAL = ("alone", "crowd", "fairness", "memory", "beside")
PATIENCE = 300
"""Seconds until the server answers and has its models."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=[*USUAL, "wander"], default=USUAL)
    parser.add_argument("--visitors", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64, help="of each visitor's three columns (default: 64)")
    parser.add_argument("--runs", type=int, default=30, help="over which memory is looked at (default: 30)")
    parser.add_argument("--loads", type=int, default=60, help="of pages, over which memory is looked at (default: 60)")
    parser.add_argument("--browsers", type=int, default=8, help="that wander (default: 8)")
    parser.add_argument("--minutes", type=float, default=120, help="that browsers wander (default: 120)")
    parser.add_argument("--replays", type=int, default=60, help="of their runs, on a server of its own (default: 60)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="glp-load-"))
    sys.stdout.write(f"{os.getloadavg()[0]:.1f} of {os.cpu_count()} cores busy before, logs in {folder}\n")
    if set(USUAL) & set(args.scenes):
        with started(folder / "server.log") as server:
            show(measured(server, args))
    if "wander" in args.scenes:
        show(wandered(folder, args))
    traces = sum(log.read_text().count("Traceback") for log in folder.glob("*.log"))
    show([scenes.Row("tracebacks in the log", str(traces), "0", not traces)])


@contextmanager
def started(log, **environment):
    """A server of its own while the block runs, with its models loaded."""
    with serving.running(["-m", "dashboard.launch"], "--port", log, environment, patience=PATIENCE) as server:
        serving.wait_until(lambda: serving.load(server)["models"] == "done", server, log, PATIENCE)
        yield server


def show(rows):
    """Print the table's rows as they come."""
    for row in rows:
        verdict = "" if row.holds is None else "holds" if row.holds else "DOES NOT HOLD"
        sys.stdout.write(f"{row.what:<44}{row.measured:<32}{row.wanted and 'wanted ' + row.wanted:<16}{verdict}\n")
        sys.stdout.flush()


def wandered(folder, args) -> Iterator[scenes.Row]:
    """Yield the rows of browsers that wander over a copy of the demo, and of their texts on a server where nobody else is."""
    copy = shutil.copytree(DEMO, folder / "demo")
    own = {"GLP_EXPLORER_WORKSPACE": str(copy), "GLP_EXPLORER_CACHE": str(folder / "cache")}
    with started(folder / "wander.log", **own) as server:
        diary = Diary(folder / "met.txt")
        memory = wander.wander(server, diary, args.browsers, args.minutes, folder / "timeline.txt")
        yield from wander.rows(diary, memory, args.browsers, args.minutes)
    with started(folder / "replay.log", **own) as server:
        yield wander.same_texts(server.address, diary, args.replays)


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
