"""The probing tasks in plain words: a readable title, and a sentence that says what the positive class is and what the negatives are.

Knows names and words; needs neither the tasks' texts nor a model.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

WORDS = Path(__file__).with_name("tasks.json")


@dataclass(frozen=True)
class TaskWords:
    """One task for a reader."""

    title: str
    positive: str
    """What positive texts have and negative ones have not; empty for a task that is not among the 113."""


@lru_cache(maxsize=1)
def _every() -> dict[str, TaskWords]:
    return {one["name"]: TaskWords(one["title"], one["positive"]) for one in json.loads(WORDS.read_text(encoding="utf-8"))}


def task_words(name: str) -> TaskWords:
    """Return the words for a task's name, for example 92_glue_sst2; for a name that is not known, the name made readable."""
    return _every().get(name) or TaskWords(name.split("_", 1)[-1].replace("_", " ").replace("-", " "), "")
