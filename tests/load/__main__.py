"""`python -m tests.load`: start a server of its own, let scripted visitors use it, and print how long they wait and what it keeps.

Scenes, all but the last by default:
  alone crowd fairness beside   one visitor, twelve, a short text beside a long one, another torch process on the machine
  live                          from a change of the strength to the last token, in Live mode
  slices leaving                a text while others use the other pages; a visitor who leaves the page
  memory                        of the server, over runs and page loads
  quiet                         what threads that give way cost on a quiet machine
  damage                        damaged files, commands that are ended midway (the nightly tests of them: half an hour or more)
  wander                        eight browsers that do what visitors do, in an order drawn by chance

--scenes crowd slices           these alone
--without damage                all but this one, as `make nightly` does, which has run those tests before
--scenes wander --minutes 120   browsers for two hours

The exit status is 1 when a row does not hold.
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
from tests.load import scenes, streams, wander
from tests.load.damage import damage
from tests.load.quiet import WANTED, quiet
from tests.load.visitor import GaveUp
from tests.load.wanderer import Diary
from tests.support import serving

SERVED = ("alone", "live", "crowd", "fairness", "slices", "leaving", "memory", "beside")
"""Scenes that share a server."""
USUAL = (*SERVED, "quiet", "damage")
PATIENCE = 300
"""Seconds until the server answers and has its models."""


def main(words=None):
    """Play the scenes that are asked for; return 1 when a row does not hold, else 0."""
    args = arguments(words)
    folder = Path(tempfile.mkdtemp(prefix="glp-load-"))
    sys.stdout.write(f"{os.getloadavg()[0]:.1f} of {os.cpu_count()} cores busy before, logs in {folder}\n")
    failed = [row.what.strip() for row in show(played(folder, args)) if row.holds is False]
    if failed:
        sys.stdout.write(f"{len(failed)} do not hold: {'; '.join(failed)}\n")
    return int(bool(failed))


def arguments(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=[*USUAL, "wander"], default=USUAL)
    parser.add_argument("--without", nargs="+", choices=USUAL, default=(), help="scenes that are left out")
    parser.add_argument("--visitors", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64, help="of each visitor's three columns (default: 64)")
    parser.add_argument("--runs", type=int, default=30, help="over which memory is looked at (default: 30)")
    parser.add_argument("--loads", type=int, default=60, help="of pages, over which memory is looked at (default: 60)")
    parser.add_argument("--browsers", type=int, default=8, help="that wander (default: 8)")
    parser.add_argument("--minutes", type=float, default=120, help="that browsers wander (default: 120)")
    parser.add_argument("--replays", type=int, default=60, help="of their runs, on a server of its own (default: 60)")
    args = parser.parse_args(words)
    args.scenes = [scene for scene in args.scenes if scene not in args.without]
    return args


def played(folder, args) -> Iterator[scenes.Row]:
    """Yield the rows of all scenes that are asked for; logs go into the folder."""
    if set(SERVED) & set(args.scenes):
        with started(folder / "server.log") as server:
            yield from measured(server, args)
    if "quiet" in args.scenes:
        ratio = quiet(times=8, tokens=args.tokens)
        yield scenes.Row("threads that give way, nobody beside", f"{ratio:.2f} x without", f"{WANTED:.2f} x", ratio <= WANTED)
    if "wander" in args.scenes:
        yield from wandered(folder, args)
    traces = sum(log.read_text().count("Traceback") for log in folder.glob("*.log"))
    yield scenes.Row("tracebacks in the log", str(traces), "0", not traces)
    if "damage" in args.scenes:
        yield from damage(folder)


@contextmanager
def started(log, **environment):
    """A server of its own while the block runs, with its models loaded."""
    with serving.running(["-m", "dashboard.launch"], "--port", log, environment, patience=PATIENCE) as server:
        serving.wait_until(lambda: serving.load(server)["models"] == "done", server, log, PATIENCE)
        yield server


def show(rows):
    """Print the table's rows as they come, and pass them on."""
    for row in rows:
        verdict = "" if row.holds is None else "holds" if row.holds else "DOES NOT HOLD"
        sys.stdout.write(f"{row.what:<46}{row.measured:<34}{row.wanted and 'wanted ' + row.wanted:<16}{verdict}\n")
        sys.stdout.flush()
        yield row


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
    address = server.address
    acts = {
        "live": lambda: scenes.live(address),
        "crowd": lambda: scenes.crowd(address, args.visitors, args.tokens, solo),
        "fairness": lambda: scenes.fairness(address, 256, 16),
        "slices": lambda: streams.slices(address, 128),
        "leaving": lambda: streams.leaving(server, 256),
        "memory": lambda: scenes.memory(address, server.process, args.runs, args.loads, 4),
        "beside": lambda: scenes.beside(address, args.tokens, solo),
    }
    for name, act in acts.items():
        if name in args.scenes:
            try:
                yield from act()
            except (GaveUp, TimeoutError, OSError) as error:
                yield scenes.Row(name, f"{type(error).__name__} {error}", "an end", False)
    yield scenes.Row("all of it", f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
