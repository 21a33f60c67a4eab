"""The meta-neurons for all pages: the workspace's index, texts read by every neuron, and a neuron's noise axis. Draws nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dashboard.service import follow, resources, workspace_facts
from dashboard.widgets import url
from glp_core.data.task_words import task_words

if TYPE_CHECKING:
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.neuron_index.reading import NoiseAxis
    from glp_core.neurons.over_text import TextNeurons
    from glp_core.prior.glp import GLP

LONGEST_TEXT = 2_000
"""Characters: what still fits into a URL."""
MOST_TOKENS = 400
OPENING = "Opening the index of meta-neurons …"
"""What a page says meanwhile."""
READ_WITH = ("workspace.json", "glp/final.safetensors", "neurons/index.json")
"""What decides a reading, beside the text."""
NOISE_TOKENS = 48
"""Tokens of a text that the noise axis is measured on: its first ones."""

TEXT = url.text(
    "text",
    "Text",
    "The pitcher threw a fastball, and the batter hit it over the left field wall. Meanwhile, the central bank raised its interest "
    "rate by half a percent, because prices in Germany and France had gone up since March 2021.",
    LONGEST_TEXT,
)


def index() -> NeuronIndex:
    """Return the workspace's index, opened again when its files change; raise GlpError when there is none."""
    opened = resources.neuron_index()
    workspace_facts.note_prior("the index of meta-neurons", opened.facts.get("glp"))
    return opened


def prior_of(index: NeuronIndex) -> GLP:
    """Return the workspace's prior; for jobs only.

    Raises:
        GlpError: it has other neurons than the index.
    """
    glp = resources.glp()
    index.check_shape(glp.n_layers, glp.d_mlp)
    return glp


def noise_tokens(reading: TextNeurons) -> list[int]:
    """Return which of a text's tokens the noise axis is measured on: its first ones, massive ones left out."""
    return np.flatnonzero(~reading.massive[:NOISE_TOKENS]).tolist()


def read(text: str) -> TextNeurons:
    """Return every neuron on every token of a text, from the kept results or by the model."""
    text = TEXT.check(text)
    ours = index()

    def work(_cancelled: object, _report: object) -> TextNeurons:
        from glp_core.neurons.over_text import read_text

        return read_text(resources.site(), resources.glp(), text, ours.reading, tail=ours.tail, max_tokens=MOST_TOKENS)

    made_from = ("text", str(workspace_facts.folder()), workspace_facts.times(*READ_WITH), ours.reading, text)
    return follow.computed("reading the text", work, *made_from)


def measure_noise(reading: TextNeurons, layer: int, neuron: int) -> NoiseAxis:
    """Return one neuron on `noise_tokens` at several noise levels and seeds."""
    ids, chosen = reading.ids[:NOISE_TOKENS], noise_tokens(reading)
    workspace, ours = workspace_facts.read(), index()

    def work(_cancelled: object, _report: object) -> NoiseAxis:
        from glp_core.neuron_index.reading import noise_axis

        llm = resources.llm()
        acts = llm.activations([[llm.first_id, *ids]], workspace.layer)[0][1:]
        return noise_axis(prior_of(ours), acts[chosen], layer, neuron)

    made_from = ("noise", str(workspace.folder), workspace_facts.times(*READ_WITH), tuple(ids), layer, neuron)
    return follow.computed("measuring the noise axis", work, *made_from)


def words_of(row: pd.Series) -> str:
    """Return a neuron's description with who made it, where not this program, and a telling task where the description names none."""
    words = f"{row['description'] or 'no description'}" + (
        "" if row["described_by"] in ("", "automatic") else f" ({row['described_by']})"
    )
    told = isinstance(row["best_task"], str) and row["best_tells"] and not math.isnan(row["best_auc"])
    title = task_title(row["best_task"], row["best_sign"]) if told else ""
    if title and title not in words:
        words += f" · {title} AUC {row['best_auc']:.2f}"
    return words


def task_title(task: str, sign: int = 1) -> str:
    """Return a task in a few readable words; with the sign of a neuron that tells it apart, what that neuron is high on."""
    return task_words(task).high_on(sign)
