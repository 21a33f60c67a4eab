"""How the shipped directions are made: which texts are for and against each, and contrasting system prompts for personas.

Pools are rows of the probing tasks (corpus.py); train rows make a direction, test rows measure it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glp_core.data.corpus import Split, task, task_rows
from glp_core.data.text_activations import POOLED, Pooling, TextReading
from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet
from glp_core.steering.directions import Direction
from glp_core.steering.origins.fitting import direction_from

N_TRAIN, N_TEST = 200, 80
"""Texts of each class, where a recipe says nothing else."""


@dataclass(frozen=True)
class Pool:
    """Texts of a probing task: those of one label, or all."""

    task: str
    label: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A direction made from texts of two classes."""

    name: str
    title: str
    positive: tuple[Pool, ...]
    negative: tuple[Pool, ...]
    about: str
    """What sets the classes apart, in words."""
    instruction: str = ""
    """What a user would ask for in its place; empty: to write about its title."""
    pooling: Pooling = "mean"
    """Which activation of a text its class mean is taken of: that of its last token, or the mean over its tokens."""
    n_train: int = N_TRAIN
    """Texts of each class that it is made from, at most."""
    n_test: int = N_TEST
    """Texts of each class that its AUROC is measured on, at most."""


@dataclass(frozen=True)
class Persona:
    """A direction made from answers under two contrasting system prompts."""

    name: str
    title: str
    system: str
    """What plus means."""
    opposite: str
    """What minus means."""
    instruction: str
    """What a user would ask for in its place."""


# In the wheel, task 140 (called Technology) holds business news and 141 (called Entertainment) technology news.
WORLD, SPORTS, BUSINESS = (Pool(f"{161 + i}_agnews_{i}", 1) for i in range(3))
TECHNOLOGY = Pool("141_news_class_Entertainment", 1)
NEWS = (WORLD, SPORTS, BUSINESS, TECHNOLOGY)

RECIPES = (
    Recipe(
        "positive-sentiment",
        "Positive sentiment",
        (Pool("92_glue_sst2", 1),),
        (Pool("92_glue_sst2", 0),),
        "praising against damning film reviews (SST-2)",
        "Write something very positive.",
        n_train=1200,
        n_test=300,
    ),
    Recipe("sports", "Sports", (SPORTS,), (WORLD, BUSINESS, TECHNOLOGY), "sports against other news"),
    Recipe("world-politics", "World politics", (WORLD,), (SPORTS, BUSINESS, TECHNOLOGY), "world against other news"),
    Recipe(
        "medicine",
        "Medicine",
        (Pool("145_disease_class_digestive system diseases"), Pool("147_disease_class_nervous system diseases")),
        NEWS,
        "abstracts of medical papers against news",
    ),
    Recipe(
        "code",
        "Program code",
        (Pool("158_code_C", 1), Pool("159_code_Python", 1)),
        (*NEWS, Pool("92_glue_sst2")),
        "C and Python sources against news and reviews",
        "Write program code.",
    ),
    Recipe(
        "law",
        "Law",
        (Pool("76_trial-court"),),
        (*NEWS, Pool("92_glue_sst2")),
        "passages of court opinions against news and reviews",
    ),
    Recipe(
        "film-reviews",
        "Film reviews",
        (Pool("92_glue_sst2"), Pool("113_movie_sent")),
        (*NEWS, Pool("48_cm_correct", 0)),
        "film reviews against news and plain sentences",
        "Write a film review.",
    ),
    Recipe(
        "chatty",
        "Chatty",
        (Pool("149_twt_emotion_happiness"), Pool("150_twt_emotion_sadness")),
        (*NEWS, Pool("87_glue_cola", 1)),
        "tweets about one's feelings against news and plain sentences",
        "Write a casual message about your own feelings.",
    ),
    Recipe(
        "click-bait",
        "Click-bait",
        (Pool("105_click_bait", 0),),
        (Pool("105_click_bait", 1),),
        "click-bait against sober headlines",
        "Write click-bait.",
    ),
)

PERSONAS = (
    Persona(
        "pirate",
        "Pirate",
        "You are a pirate captain. Always talk like a pirate: say Arr, Ahoy, matey, and speak of ships, treasure and the sea.",
        "You are an office clerk. Always talk in plain, neutral modern English.",
        "Write like a pirate.",
    ),
    Persona(
        "formal",
        "Formal",
        "You are a diplomat. Always answer in very formal, courteous and elaborate language, with long and careful sentences.",
        "You are a teenager. Always answer in short, sloppy, casual slang, like in a text message to a friend.",
        "Write very formally.",
    ),
    Persona(
        "storyteller",
        "Storyteller",
        "You are a teller of fairy tales. Always answer with a fairy tale that begins with Once upon a time, with kings, forests "
        "and magic.",
        "You are a technical writer. Always answer with a plain list of facts and instructions.",
        "Write a fairy tale.",
    ),
)


def instruction(direction: Direction) -> str:
    """Return what a user would ask the model for instead of steering along a direction."""
    named = {one.name: one.instruction for one in (*RECIPES, *PERSONAS)}
    return named.get(direction.name) or f"Write about {direction.title.lower()}."


class PoolReader:
    """Reads pools of texts with the model, each only once."""

    def __init__(self, site: Site, *, progress: Progress = quiet) -> None:
        self.site, self.progress = site, progress
        self._read: dict[tuple[Pool, Split], TextReading] = {}

    def of(self, pools: Sequence[Pool], split: Split, n: int) -> TextReading:
        """Return about `n` texts of the pools in equal parts, chosen by a fixed random order."""
        share = -(-n // len(pools))
        return TextReading.joined([self._first(pool, split, share) for pool in pools])

    def _first(self, pool: Pool, split: Split, n: int) -> TextReading:
        texts = self._texts(pool, split)[:n]
        parts = [self._read[pool, split]] if (pool, split) in self._read else []
        done = sum(len(part.mean) for part in parts)
        if done < len(texts):
            parts.append(TextReading.of(self.site, texts[done:], progress=self.progress))
            self._read[pool, split] = TextReading.joined(parts)
        return self._read[pool, split].first(len(texts))

    def _texts(self, pool: Pool, split: Split) -> list[str]:
        rows = task_rows(task(pool.task), split)
        chosen = rows["text"] if pool.label is None else rows["text"][rows["label"] == pool.label]
        texts = [text for text in chosen if text.strip()]
        if not texts:
            raise GlpError(f"Task {pool.task} has no texts of label {pool.label} for {split}.")
        return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]


def make(recipe: Recipe, reader: PoolReader) -> Direction:
    """Make a direction from its recipe."""
    sizes: dict[Split, int] = {"train": recipe.n_train, "test": recipe.n_test}
    parts = [reader.of(pools, split, n) for split, n in sizes.items() for pools in (recipe.positive, recipe.negative)]
    counts = [len(part.mean) for part in parts]
    reading = TextReading.joined(parts)
    return direction_from(
        reading.pooled(recipe.pooling),
        reading.mean,
        np.repeat([1, 0, 1, 0], counts),
        n_train=counts[0] + counts[1],
        name=recipe.name,
        title=recipe.title,
        layer=reader.site.layer,
        median_norm=reader.site.median_norm,
        how=f"DiffMean of {POOLED[recipe.pooling]}: {recipe.about}; {', '.join(dict.fromkeys(p.task for p in recipe.positive))}",
    )
