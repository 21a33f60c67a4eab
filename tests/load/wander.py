"""Browsers that wander: each a Chromium of its own that does what visitors do, in an order drawn by chance, for as long as is asked.

What is looked at: no page shows a traceback, no script of a page fails, every text that a run ended with is the one that the same link
gives on a server where nobody else is, and the server keeps no more memory at the end than when it was warm.
"""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import psutil

from tests.load.scenes import Row
from tests.load.wanderer import PATIENCE, Diary, Wanderer, run
from tests.support import chromium
from tests.support.serving import Server

SAMPLE = 15
"""Seconds between two looks at the server's memory."""
GROWTH = 100
"""Megabytes that the server may keep more in the last quarter than in the second."""


def wander(server: Server, diary: Diary, browsers: int, minutes: float, timeline: Path) -> list[float]:
    """Let browsers wander; return the megabytes that the server kept, every quarter of a minute.

    Args:
        diary: gets what they do and meet.
        timeline: a file that gets a line of seconds, megabytes and acts at each look.
    """
    end, memory = time.monotonic() + 60 * minutes, []

    def one(number: int) -> None:
        with chromium.launched() as browser:
            wanderer = Wanderer(number, server.address, browser, diary)
            while time.monotonic() < end:
                wanderer.act()

    def watch() -> None:
        watched, start = psutil.Process(server.process.pid), time.monotonic()
        with timeline.open("w", buffering=1) as lines:
            while time.monotonic() < end:
                memory.append(watched.memory_info().rss / 1e6)
                told = f"{sum(diary.did.values())} acts, {len(diary.late)} late, {len(diary.wrong)} wrong"
                lines.write(f"{time.monotonic() - start:.0f} s, {memory[-1]:.0f} MB, {watched.num_threads()} threads, {told}\n")
                time.sleep(SAMPLE)

    with ThreadPoolExecutor(browsers + 1) as pool:
        for ended in [pool.submit(watch), *(pool.submit(one, number) for number in range(browsers))]:
            ended.result()
    return memory


def rows(diary: Diary, memory: list[float], browsers: int, minutes: float) -> Iterator[Row]:
    """Yield the table's rows of browsers that wandered."""
    yield Row(f"{browsers} browsers, {minutes:.0f} minutes: acts", f"{sum(diary.did.values()):,}")
    for what, seconds in sorted(diary.seconds.items()):
        yield Row(f"  {what}", f"{len(seconds)}, median {median(seconds):.1f} s, most {max(seconds):.0f} s")
    yield Row("  given up", f"{len(diary.late)}")
    yield Row("  tracebacks and script errors shown", f"{len(diary.wrong)}", "0", not diary.wrong)
    quarter = max(1, len(memory) // 4)
    warm, last = median(memory[quarter : 2 * quarter] or memory), median(memory[-quarter:])
    words = f"{last - warm:+.0f} MB of {last:,.0f}"
    yield Row("  memory, last quarter against second", words, f"{GROWTH} MB", last - warm <= GROWTH)


def same_texts(address: str, diary: Diary, replays: int) -> Row:
    """Run some of the kept links again on a server where nobody else is; return the row of the table, and tell the diary what differs."""
    links, same = random.Random(0).sample(sorted(diary.texts), min(replays, len(diary.texts))), 0
    with chromium.launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        for link in links:
            alone = run(page, address, link)
            if alone == diary.texts[link]:
                same += 1
            else:
                diary.tell(f"other texts: {link}\n  in the crowd {diary.texts[link]}\n  alone {alone}")
    return Row(
        "  texts as a server alone gives them", f"{same} of {len(links)} ({len(diary.texts)} runs)", "all", same == len(links)
    )
