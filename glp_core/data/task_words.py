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
    negative: str = ""
    """A title for the negative class, where it is more than all that is not positive."""

    def high_on(self, sign: int) -> str:
        """Return what a neuron is high on that is higher (sign 1) or lower (-1) on positive texts."""
        return self.title if sign > 0 else self.negative or f"low on “{self.title}”"


@lru_cache(maxsize=1)
def _every() -> dict[str, TaskWords]:
    tasks = json.loads(WORDS.read_text(encoding="utf-8"))
    return {one["name"]: TaskWords(one["title"], one["positive"], one.get("negative", "")) for one in tasks}


def task_words(name: str) -> TaskWords:
    """Return the words for a task's name, for example 92_glue_sst2; for a name that is not known, the name made readable."""
    return _every().get(name) or TaskWords(name.split("_", 1)[-1].replace("_", " ").replace("-", " "), "")
