"""A browser that does what visitors do, in an order drawn by chance, and a diary of what it meets."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Error, Page, TimeoutError

PATIENCE = 240_000
"""Milliseconds that a wanderer waits for a page or a run: eight of them share two cores."""
PROMPTS = (
    "The weather was",
    "I went to see the film and",
    "My neighbour says that the council",
    "Once upon a time",
    "Dear Sir,",
)
TEXTS = (
    "Two red apples fell down.",
    "The parliament passed the bill on Tuesday after a long night.",
    "I loved every minute of this film!",
    "def add(a, b):\n    return a + b",
    "The patient was given 20 mg of the drug twice a day.",
    "Colourless green ideas sleep furiously 👩\u200d🚀 <b>x</b> \u202e",
)
HOSTILE = (
    "steering?steering_steps=inf&steering_seed=1e999",
    "steering?steering_direction=unit:9999/999999&steering_strength=nan",
    "steering?steering_prompt=" + "x" * 6000,
    "concepts?concepts_part=nan&task=nothing",
    "neurons?view=junk&layer=99&unit=999999",
    "manifold?manifold_plane=x&manifold_steps=3&manifold_prompts=" + "9" * 400,
    "scaling?scaling_x=%00&scaling_fit=<script>alert(1)</script>",
    "lab?lab_view=x&lab_run=../../etc/passwd",
    "overview?workspace=../../etc",
)
LEFT_ALONE = re.compile(
    r"^(run|start|make|find|keep|remove|delete|draw|measure|go on|sweep|compare|use|save|upload)", re.IGNORECASE
)
"""Buttons that begin minutes of work: a wanderer begins work on purpose only."""
DONE = "[data-run=done]"


class Diary:
    """What all wanderers did and met.

    Args:
        log: the file that gets what must not be, as it is met.
    """

    def __init__(self, log: Path) -> None:
        self._lock, self._log = threading.Lock(), log.open("w")
        self.did: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {}
        self.wrong: list[str] = []
        self.late: list[str] = []
        self.texts: dict[str, dict[str, str]] = {}

    def note(self, what: str, seconds: float) -> None:
        """Count an act that came to its end."""
        with self._lock:
            self.did[what] += 1
            self.seconds.setdefault(what, []).append(seconds)

    def tell(self, what: str, *, late: bool = False) -> None:
        """Keep what must not be."""
        with self._lock:
            (self.late if late else self.wrong).append(what)
            self._log.write(f"{time.strftime('%H:%M:%S')} {'late' if late else 'wrong'}: {what}\n")
            self._log.flush()

    def keep(self, link: str, texts: dict[str, str]) -> None:
        """Keep a run's texts by the link that gives them again."""
        with self._lock:
            self.texts[link] = texts


class Wanderer:
    """One browser that acts by chance.

    Args:
        number: its own; with it the order of its acts is the same again.
        address: of the server.
    """

    def __init__(self, number: int, address: str, browser: Browser, diary: Diary) -> None:
        self._random, self._address, self._diary, self._number = random.Random(number), address, diary, number
        width, height = self._random.choice(((1280, 900), (768, 1000), (1600, 1000)))
        scheme = self._random.choice(("light", "dark"))
        self._page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
        self._page.set_default_timeout(PATIENCE)
        self._page.on("pageerror", lambda error: diary.tell(f"script error: {str(error)[:300]} at {self._page.url[:200]}"))

    def act(self) -> None:
        """Do one thing and look at the page after it."""
        acts: dict[Callable[[], None], int] = {
            self.steer: 6,
            self.stop_or_leave: 2,
            self.read_a_text: 3,
            self.open_a_neuron: 3,
            self.look_at_neurons: 2,
            self.look_at_concepts: 3,
            self.look_at_the_manifold: 4,
            self.look_at_the_rest: 3,
            self.follow_a_hostile_link: 2,
            self.go_back: 2,
            self.press_something: 6,
        }
        what = self._random.choices(list(acts), list(acts.values()))[0]
        name, start = what.__name__.replace("_", " "), time.monotonic()
        try:
            what()
            self._settle()
            self._diary.note(name, time.monotonic() - start)
        except Error as error:  # a minutes' wait, or a control that was drawn anew under the pointer
            self._diary.tell(f"{name}: {' '.join(str(error).split())[:300]} at {self._page.url[:200]}", late=True)
        self._look(name)

    def steer(self) -> None:
        """Run a steering of its own and keep the texts with their link."""
        link = self._steering_link(self._random.randint(6, 24))
        self._diary.keep(link, run(self._page, self._address, link))

    def stop_or_leave(self) -> None:
        """Begin a long run; load the page again, go to another one and come back, or stay; then stop it."""
        self._open(self._steering_link(200))
        press_run(self._page)
        self._page.wait_for_timeout(self._random.randint(100, 6000))
        way = self._random.choice(("stay", "reload", "leave"))
        if way == "reload":
            self._page.reload()
        elif way == "leave":
            self._open("scaling")
            self._page.go_back()
        with suppress(TimeoutError):  # what goes on after a reload would take minutes
            self._page.locator(".st-key-steering_stop button:enabled").click(timeout=10_000)

    def read_a_text(self) -> None:
        """Read a text's neurons, of one token."""
        self._open("neurons?" + urlencode({"view": "text", "text": self._random.choice(TEXTS)}))
        self._page.locator("button[data-neuron]").first.wait_for()
        self._page.locator(f"button[data-position='{self._random.randint(1, 4)}']").click()

    def open_a_neuron(self) -> None:
        """Open a neuron by its name."""
        self._open(f"neurons?view=unit&layer={self._random.randint(0, 5)}&unit={self._random.randint(0, 1000)}")

    def look_at_neurons(self) -> None:
        """Open the map or the lists."""
        self._open(f"neurons?view={self._random.choice(('map', 'lists'))}")

    def look_at_concepts(self) -> None:
        """Search the tasks, or find the neurons of a concept of one's own."""
        if self._random.random() < 0.3:
            self._open("concepts?concepts_part=Your+own+concept")
            self._page.get_by_role("button", name="Find neurons").click()
            return
        self._open("concepts")
        search = self._page.get_by_label("Search the tasks")
        search.fill(self._random.choice(("sport", "click", "python", "zzzz", "news", "truth")))
        search.press("Enter")

    def look_at_the_manifold(self) -> None:
        """Measure a text, draw the map, read the evidence, or begin a sweep and stop it."""
        view = self._random.choice(("Text", "Text", "Map", "Evidence", "Strength"))
        values = {"manifold_view": view, "manifold_text": self._random.choice(TEXTS), "manifold_prompts": 4}
        self._open("manifold?" + urlencode(values))
        if view == "Strength":
            with suppress(TimeoutError):  # what was measured before cannot be run again
                self._page.locator(".st-key-manifold_run button:enabled").first.click(timeout=10_000)
                self._page.wait_for_timeout(self._random.randint(500, 8000))
                self._page.locator(".st-key-manifold_stop button:enabled").first.click(timeout=10_000)

    def look_at_the_rest(self) -> None:
        """Open the Overview, Scaling or a view of the Lab."""
        x, y = self._random.choice(("compute", "loss", "parameters")), self._random.choice(("loss", "x"))
        self._open(
            self._random.choice(("", f"scaling?scaling_x={x}&scaling_y={y}", "lab", "lab?lab_view=Sweep", "lab?lab_view=Runs"))
        )

    def follow_a_hostile_link(self) -> None:
        """Open a link that somebody made in order to break the page."""
        self._open(self._random.choice(HOSTILE))

    def go_back(self) -> None:
        """Go back, or load the page again."""
        if self._random.random() < 0.5:
            self._page.go_back()
        else:
            self._page.reload()

    def press_something(self) -> None:
        """Use up to three of the page's controls, whichever they are."""
        for _ in range(self._random.randint(1, 3)):
            kinds = "button:enabled, [role=slider], [role=radio], label:has(input[type=checkbox]), input[type=number]:enabled, summary"
            found = [one for one in self._page.locator("[data-testid=stMain]").locator(kinds).all() if one.is_visible()]
            if not found:
                return
            one = self._random.choice(found)
            with suppress(TimeoutError):  # it may be gone, or lie under something: a person would try another
                if LEFT_ALONE.match(one.inner_text(timeout=2000).strip()):
                    continue
                if one.get_attribute("role", timeout=2000) == "slider":
                    one.press(self._random.choice(("ArrowLeft", "ArrowRight", "Home", "End")), timeout=5000)
                elif one.get_attribute("type", timeout=2000) == "number":
                    one.fill(self._random.choice(("1", "7", "-5", "99999", "")), timeout=5000)
                    one.press("Enter", timeout=5000)
                else:
                    one.click(timeout=5000)
            self._settle()

    def _steering_link(self, tokens: int) -> str:
        values = {
            "prompt": f"{self._random.choice(PROMPTS)} {self._random.randint(0, 99)}",
            "strength": round(self._random.uniform(-2, 2), 2),
            "tokens": tokens,
            "seed": self._random.randint(0, 10_000),
            "temperature": self._random.choice((0, 0.7, 1.0)),
            "projection": self._random.choice(("walk", "walk", "glp")),
        }
        return "steering?" + urlencode({f"steering_{name}": value for name, value in values.items()})

    def _open(self, path: str) -> None:
        self._page.goto(f"{self._address}/{path}")
        self._page.wait_for_selector("h1")
        self._settle()

    def _settle(self) -> None:
        self._page.wait_for_selector("[data-test-script-state=notRunning]")

    def _look(self, after: str) -> None:
        with suppress(Error):
            for one in self._page.locator("[data-testid=stException]").all():
                self._diary.tell(f"{after}: {one.inner_text()[:600]} at {self._page.url[:200]}")
            if "Traceback (most recent call last)" in self._page.locator("body").inner_text():
                self._diary.tell(f"{after}: a traceback at {self._page.url[:200]}")


def press_run(page: Page) -> None:
    """Press Run, again when the page was drawn anew under the press."""
    page.wait_for_selector("[data-test-script-state=notRunning]")
    page.locator(".st-key-steering_start button:enabled").click()


def run(page: Page, address: str, link: str) -> dict[str, str]:
    """Run a link of the Steering page to its end; return the columns' texts by arm."""
    page.goto(f"{address}/{link}")
    page.wait_for_selector("h1")
    press_run(page)
    page.wait_for_selector(DONE)
    columns = page.locator(f"{DONE} .glp-card[data-arm]").all()
    return {str(column.get_attribute("data-arm")): column.locator(".glp-strip").inner_text() for column in columns}
