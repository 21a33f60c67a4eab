"""A small made-up index of meta-neurons and a made-up reading of a text, with the shapes of glp_core's; no model, no files."""

import numpy as np
import pandas as pd

from glp_core.errors import GlpError
from glp_core.neuron_index.neuron_data import (
    NOISE_FREE,
    Neighbour,
    Neuron,
    ReadableSide,
    SideEvidence,
    Snippet,
    TokenEffect,
    ValueRange,
)
from glp_core.neuron_index.reading import NoiseAxis
from glp_core.neurons.over_text import TextNeurons

N_LAYERS, D_MLP = 2, 30
N_NEURONS = N_LAYERS * D_MLP
HOSTILE = ["<img src=x onerror=alert(1)>", "</style>", "\u202eabc", "\x00", "👩", "", "\n", " *bold* ", "[x](http://x)", "="]


def snippet(value: float, peak: int = 3, *, pieces: list[str] | None = None) -> Snippet:
    """Return one text whose values fall off around the peak; unread at its very end."""
    pieces = pieces or [f" word{i}" for i in range(60)]
    values = np.array([value / (1 + abs(i - peak)) for i in range(len(pieces))], np.float32)
    values[50:] = np.nan
    return Snippet(peak, "12_news_source", value, peak, pieces, values, 0, min(50, len(pieces)))


class FakeIndex:
    """What the pages use of NeuronIndex."""

    EFFECT_NOTE = "An approximation."
    folder = "fake"
    n_layers, d_mlp, n_neurons, n_tokens = N_LAYERS, D_MLP, N_NEURONS, 100_000
    facts = {"glp": "0" * 64}
    reading = NOISE_FREE
    problems: list[str] = []

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._map = pd.DataFrame({"layer": np.repeat(range(N_LAYERS), D_MLP), "unit": np.tile(range(D_MLP), N_LAYERS)})
        self._map["x"], self._map["y"] = rng.normal(size=(2, N_NEURONS))
        self._table = self._map[["layer", "unit"]].assign(
            description=[f"fires on word{i} <b>" for i in range(N_NEURONS)],
            described_by="automatic",
            readability=np.linspace(0, 0.6, N_NEURONS),
            keys=[[f"word{i % 7}"] for i in range(N_NEURONS)],
            tail=4.0,
            kurtosis=np.linspace(1, 400, N_NEURONS),
            skewness=0.5,
            mean=0.0,
            std=1.0,
            noise_share=0.1,
            low=-4.0,
            high=5.0,
            active_share=[0.9 if i % 10 == 9 else 0.01 for i in range(N_NEURONS)],
            best_task=[f"{i % 4}_task_{i % 4}" for i in range(N_NEURONS)],
            best_auc=0.8,
            best_sign=1,
            best_tells=True,
            top_tokens="a · b",
            bottom_tokens="c · =d",
        )

    def table(self) -> pd.DataFrame:
        return self._table

    @property
    def tail(self) -> np.ndarray:
        return np.full(N_NEURONS, 4.0, np.float32)

    def most_readable(self, n: int = 10) -> list[ReadableSide]:
        side = SideEvidence("“word”", ["word"], 0.5, 0.75, 40, 24)
        return [ReadableSide(*divmod(i, D_MLP), "high", side) for i in range(N_NEURONS - 1, -1, -1)][:n]

    def interesting(self, n: int = 50) -> list[tuple[int, int]]:
        return [divmod(i, D_MLP) for i in range(N_NEURONS - 1, -1, -1)][:n]

    def map(self, _kind: str) -> pd.DataFrame:
        return self._map

    def map_facts(self, _kind: str) -> dict:
        return {"neighbours": 15, "seed": 0}

    def search(self, text: str) -> list[int]:
        return [i for i, words in enumerate(self._table["description"]) if text in words]

    def neuron(self, layer: int, neuron: int) -> Neuron:
        if not (0 <= layer < N_LAYERS and 0 <= neuron < D_MLP):
            raise GlpError(f"There is no neuron {layer}/{neuron}: layers go to {N_LAYERS - 1}, neurons to {D_MLP - 1}.")
        number = layer * D_MLP + neuron
        others = [Neighbour(1, i, 0.9 - i / 5) for i in range(5)]
        effects = [TokenEffect(text, 1 - i / 8) for i, text in enumerate(HOSTILE[:4])]
        hostile = snippet(6.0, 0, pieces=HOSTILE)
        intervals = [ValueRange(i / 5, (i + 1) / 5, i - 2.5, i - 1.5, [snippet(i - 2.0)]) for i in range(5)]
        return Neuron(
            layer, neuron, number, f"fires on word{number} <b>", "automatic",
            mean=0.0, std=1.0, skewness=0.5, kurtosis=41.0, noise_share=0.1,
            tail=4.0, repeated=0.0,
            counts=np.arange(50), edges=np.linspace(-7, 8, 51).astype(np.float32), quantiles=[(0.5, 0.0), (0.999, 4.0)],
            top=[snippet(8.0), hostile], bottom=[snippet(-7.0)], intervals=intervals, scale=8.0,
            promoted=effects, suppressed=effects, nearest_write=others, nearest_activation=others[::-1],
            best_task="1_positive_sentiment", best_auc=0.8, tasks=[("1_positive_sentiment", 0.8)],
        )  # fmt: skip


def read_text(text: str) -> TextNeurons:
    """Return a made-up reading: every word is a token, neuron i fires on token i, odd neurons negatively, the first the strongest."""
    pieces = [word + " " for word in text.split(" ")]
    normalised = np.zeros((len(pieces), N_NEURONS), np.float32)
    for neuron in range(N_NEURONS):
        normalised[neuron % len(pieces), neuron] = (1 - neuron / N_NEURONS) * (-1 if neuron % 2 else 1)
    massive = np.zeros(len(pieces), bool)
    return TextNeurons(list(range(len(pieces))), pieces, massive, normalised * 5, normalised, D_MLP)


def noise_axis(neurons: TextNeurons, layer: int, neuron: int) -> NoiseAxis:
    """Return made-up readings at four noise levels and eight seeds."""
    values = np.random.default_rng(layer + neuron).normal(size=(4, 8, len(neurons.pieces)))
    return NoiseAxis(np.array([0.05, 0.1, 0.3, 0.5]), values.mean(1), values)


def probing_report() -> dict:
    """Return a report of the benchmark with three tasks."""
    rows = []
    for i, title in enumerate(("baseball athlete", "positive sentiment", "python code")):
        rows.append(
            {
                "task": f"{i}_{title.replace(' ', '_')}",
                "title": title,
                "asks": f"Is it about {title}? <b>",
                "n_train": 500,
                "n_validation": 90,
            }
            | {"n_test": 100, "positive_share": 0.5, "examples": {"positive": ["=yes", "<i>"], "negative": ["no", "never"]}}
            | {"glp": {"auc": 0.9 - i / 10, "ci": [0.6, 0.95], "validation_auc": 0.9, "layer": 1, "unit": i, "sign": 1}}
            | {kind: {"auc": 0.7, "validation_auc": 0.7, "index": 3} for kind in ("mlp", "layer", "sae")}
        )
    means = {"glp": 0.8, "mlp": 0.75, "layer": 0.72, "sae": 0.7}
    return {"n_tasks": 3, "mean_auc": means, "ci": {kind: [0.6, 0.9] for kind in means}, "best_baseline": "mlp"} | {
        "paired_difference": 0.05, "paired_difference_ci": [0.01, 0.09], "rows": rows,
    }  # fmt: skip
