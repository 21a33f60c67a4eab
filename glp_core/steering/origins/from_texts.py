"""Directions from texts of two classes: read by the model, fitted, measured on texts that were held out."""

from collections.abc import Sequence

import numpy as np

from glp_core.data.text_activations import POOLED, Pooling, TextReading
from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet
from glp_core.steering.direction_facts import METHODS, Method
from glp_core.steering.origins.evidence import Made, Origin, made_from
from glp_core.steering.origins.fitting import FOLDS, Classes

EXAMPLES, LONGEST_EXAMPLE = 3, 160
"""Texts of each class that a direction keeps, and characters of one."""


def read_classes(
    site: Site,
    positive: Sequence[str],
    negative: Sequence[str],
    *,
    pooling: Pooling = "last",
    progress: Progress = quiet,
) -> Classes:
    """Return the activations of two classes of texts.

    Args:
        pooling: which activation of a text a direction is fitted to: its last token's, or the mean over its tokens.
    Raises:
        GlpError: fewer than four texts in a class, or a text without tokens.
    """
    check_enough(positive, negative)
    reading = TextReading.of(site, [*positive, *negative], progress=progress)
    return Classes.of(reading.pooled(pooling), reading.mean, np.repeat([1, 0], [len(positive), len(negative)]))


def check_enough(positive: Sequence[str], negative: Sequence[str]) -> None:
    """Raise GlpError when a class has too few texts for its folds."""
    if min(len(positive), len(negative)) < FOLDS:
        raise GlpError(
            f"Wanted at least {FOLDS} texts of each class, got {len(positive)} positive and {len(negative)} negative."
        )


def direction_of_texts(
    site: Site,
    positive: Sequence[str],
    negative: Sequence[str],
    *,
    name: str = "direction",
    title: str = "",
    method: Method = "diffmean",
    pooling: Pooling = "last",
    seed: int = 0,
    labels: tuple[str, str] = ("positive", "negative"),
    progress: Progress = quiet,
) -> Made:
    """Make a direction from texts that show a concept and texts that do not, with the evidence for it.

    Args:
        seed: of the choice of texts that are held out together.
        labels: what the two classes are called where they come from.
    Raises:
        GlpError: fewer than four texts in a class, a text without tokens, or classes that are the same.
    """
    classes = read_classes(site, positive, negative, pooling=pooling, progress=progress)
    how = f"{METHODS[method]} of {POOLED[pooling]} of {len(classes.labels)} texts"
    about = {"source": "texts", "pooling": pooling, "classes": about_classes((positive, negative), labels)}
    made = made_from(classes, site, Origin(name, title, how, about), method=method, seed=seed)
    return made._replace(texts=(positive, negative))


def about_classes(texts: tuple[Sequence[str], Sequence[str]], labels: tuple[str, str]) -> list[dict[str, object]]:
    """Return what is kept of two classes, the positive one first: label, number of texts and some of them."""
    return [
        {"label": label, "n": len(side), "examples": [text[:LONGEST_EXAMPLE] for text in side[:EXAMPLES]]}
        for side, label in zip(texts, labels, strict=True)
    ]
