"""Scenes of many visitors, or of one beside others: alone, a crowd, a long text beside a short one, memory, another job on the machine."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import numpy as np
import psutil

from dashboard.steering.controls import LIVE_TOKENS
from glp_core.files import read_json
from glp_core.workspace import DEMO
from tests.load.visitor import GaveUp, Visitor

WITHIN = 2.0
"""Seconds in which all of a crowd press Run."""
ANOTHER = """
import torch
a = torch.randn(512, 512)
while True:
    for _ in range(50):
        a = torch.tanh(a @ a / 23)
"""
"""Another job on the machine: torch with as many threads as it takes by itself."""
TASKS = [row["task"] for row in read_json(DEMO / "reports" / "probing.json")["rows"]]


class Row(NamedTuple):
    """One line of the table."""

    what: str
    measured: str
    wanted: str = ""
    holds: bool | None = None


def visitor(address, number, tokens, **values):
    """Return a visitor of the Steering page with a prompt and a seed of its own."""
    prompt = (
        f"{('The weather', 'My neighbour', 'The new restaurant', 'This film')[number % 4]} that we saw at number {number} was"
    )
    asked = {"prompt": prompt, "tokens": tokens, "seed": number, "strength": 0.6} | values
    return Visitor(address, "steering", **{f"steering_{name}": value for name, value in asked.items()})


def press(address, waits, tokens, first=0):
    """Let as many visitors open the page; when all have, each presses Run after its wait; return the runs, None for one that failed.

    Args:
        first: number of the first visitor.
    """
    ready = threading.Barrier(len(waits))

    def one(number):
        try:
            with visitor(address, first + number, tokens[number]) as someone:
                someone.open()
                ready.wait(120)
                time.sleep(waits[number])
                return someone.press_run()
        except (GaveUp, TimeoutError, OSError) as error:
            ready.abort()
            sys.stderr.write(f"visitor {number}: {type(error).__name__} {error}\n")
            return None

    with ThreadPoolExecutor(len(waits)) as pool:
        return list(pool.map(one, range(len(waits))))


def alone(address, tokens, times=3):
    """Return the median first token and end of a run that is alone."""
    runs = [run for _ in range(times) for run in press(address, [0.0], [tokens]) if run]
    if not runs:
        raise GaveUp("not one run came to its end")
    return median(run.first for run in runs), median(run.done for run in runs)


def crowd(address, visitors, tokens, solo):
    """Return the rows of many visitors who press Run within two seconds."""
    runs = press(address, [WITHIN * i / visitors for i in range(visitors)], [tokens] * visitors)
    ended = [run for run in runs if run]
    if not ended:
        return [Row(f"{visitors} visitors", "none came to an end", "all", False)]
    first, done = [np.array([getattr(run, name) for run in ended]) for name in ("first", "done")]
    p95, last = float(np.quantile(first, 0.95)), float(done.max())
    return [
        Row(f"{visitors} visitors, {tokens} tokens: ended", f"{len(ended)} of {visitors}", "all", len(ended) == visitors),
        Row("  first token, median", f"{median(first):.1f} s"),
        Row("  first token, 95% below", f"{p95:.1f} s", "3 s", p95 <= 3),
        Row("  done, median", f"{median(done):.1f} s = {median(done) / solo:.1f} x alone"),
        Row("  done, last", f"{last:.1f} s = {last / solo:.1f} x alone", "3 x", last <= 3 * solo),
    ]


def live(address, times=5):
    """Return the row of a live comparison: from a change of the strength to the last token."""
    with visitor(address, 0, LIVE_TOKENS, live="true") as someone:
        someone.open()
        someone.settle(5)
        runs = [someone.move("steering_strength", 0.7 + 0.1 * i) for i in range(times)]
    first, done = (median(getattr(run, name) for run in runs) for name in ("first", "done"))
    return [
        Row(f"live, {LIVE_TOKENS} tokens: from a change to the last", f"{done:.1f} s", "2 s", done <= 2),
        Row("  first token", f"{first:.1f} s"),
    ]


def fairness(address, long, short):
    """Return the rows of a short text that is begun a second after a long one."""
    _, by_itself = alone(address, short)
    runs = press(address, [0.0, 1.0], [long, short])
    if None in runs:
        return [Row(f"{short} tokens beside {long}", "one did not come to its end", "both", False)]
    ratio = runs[1].done / by_itself
    return [
        Row(f"{short} tokens beside {long}: done", f"{runs[1].done:.1f} s = {ratio:.1f} x alone", "2 x", ratio <= 2),
        Row(f"  the {long}", f"{runs[0].done:.1f} s"),
    ]


def page(address, number):
    """Return a visitor whose link asks for what none of another number asks for, where the page can be asked for so much."""
    text = f"At number {number} lives somebody who has {number + 2} cats."
    links = (
        ("steering", {"steering_prompt": text}),
        ("neurons", {"view": "text", "text": text}),
        ("neurons", {"view": "unit", "layer": number % 6, "unit": number}),
        ("concepts", {"task": TASKS[number % len(TASKS)]}),
        ("manifold", {"manifold_view": "Text", "manifold_text": text}),
        ("manifold", {"manifold_view": "Map", "manifold_strength": number % 300 / 100, "manifold_steps": 4}),
        ("scaling", {}),
        ("lab", {"lab_positive": text}),
        ("", {}),
    )
    name, values = links[number % len(links)]
    return Visitor(address, name, **values)


def memory(address, process, runs, loads, tokens):
    """Return the rows of the server's memory over runs and page loads, each of something new.

    A quarter as many before them fill what keeps the last results. One look is 50 MB off either way, so medians are compared: those
    of the first and of the last third.
    """
    watched = psutil.Process(process.pid)

    def grown(times, act):
        warm, third, looks = times // 4 + 1, -(-times // 3), []
        for number in range(warm + times):
            act(number)
            looks.append(watched.memory_info().rss / 1e6)
        return median(looks[-third:]) - median(looks[warm : warm + third])

    def load(number):
        with page(address, number) as someone:
            someone.open()

    rows = []
    for words, times, act in (
        (f"{tokens}-token runs", runs, lambda number: press(address, [0.0], [tokens], number)),
        ("page loads", loads, load),
    ):
        if times:
            more = grown(times, act)
            now = watched.memory_info().rss / 1e6
            rows.append(
                Row(
                    f"memory over {times} {words}",
                    f"{more:+.0f} MB of {now:,.0f}",
                    "50 MB",
                    more <= 50,
                )
            )
    return rows


def beside(address, tokens, solo):
    """Return the row of a run beside another torch process."""
    with another():
        _, done = alone(address, tokens, times=2)
    return [Row("beside another torch process: done", f"{done:.1f} s = {done / solo:.1f} x quiet", "2.5 x", done <= 2.5 * solo)]


@contextmanager
def another():
    """Run another torch process while the block runs."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_", "KMP_"))}
    process = subprocess.Popen([sys.executable, "-c", ANOTHER], env=free)
    try:
        time.sleep(5)  # until it has loaded torch
        yield
    finally:
        process.kill()
        process.wait()
