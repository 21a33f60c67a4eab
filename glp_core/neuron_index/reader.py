"""Read the index of meta-neurons: one neuron's page without loading the rest, the table of all neurons, neighbours, maps.

Arrays stay on disk and are read by slices. Knows files and numbers; needs neither the LLM nor the GLP.
"""

from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from glp_core.checked.shapes import check
from glp_core.checked.tables import read_table
from glp_core.data.task_words import task_words
from glp_core.errors import GlpError
from glp_core.files import Json, read_object
from glp_core.neuron_index.annotations import Descriptions, NeuronTasks
from glp_core.neuron_index.format import (
    ACTIVE,
    AGAIN,
    EFFECT_NOTE,
    HEAD,
    HISTOGRAM_BINS,
    INTERVAL_REACH,
    MAP,
    MAP_FACTS,
    QUANTILES,
    REACH,
    TAILS,
    check_neurons,
    histogram_edges,
    map_facts,
    shares_beyond,
)
from glp_core.neuron_index.neuron_data import (
    HeldOutFiring,
    HeldOutTokens,
    Neighbour,
    Neuron,
    ReadableSide,
    Reading,
    StoredDocument,
    TokenEffect,
    ValueRange,
)
from glp_core.neuron_index.texts import NeuronTexts, StoredTexts

LEAST_SPREAD = 0.02
"""Neurons whose tails are nearer to 0 than this are never called interesting."""
LEAST_FIRING, LEAST_LETTERS = 15, 4
"""Held-out tokens above the tail, and letters of one of its words, of a side that is shown as readable."""
TOP_TOKENS = 5
Part = TypeVar("Part")


class NeuronIndex:
    """An index folder, opened."""

    EFFECT_NOTE = EFFECT_NOTE

    def __init__(self, folder: Path, head: Json) -> None:
        self.folder = folder
        self.facts: Json = head["facts"]
        check_neurons(folder / "units.safetensors", self.facts)
        self._neurons = safe_open(folder / "units.safetensors", "np")
        self._texts = StoredTexts(folder / "texts.safetensors", head["pieces"], head["sources"])
        self._top = NeuronTexts("top", self._neurons, self._texts, self.facts.get("reach", REACH), self.format)
        self._between = NeuronTexts("interval", self._neurons, self._texts, INTERVAL_REACH, self.format)
        self._check_places(len(head["pieces"]))
        self.problems: list[str] = []
        """What is wrong with files that were left out."""
        self._tasks = self._unless_damaged(partial(NeuronTasks, glp=self.facts.get("glp", "")))
        self._descriptions = self._unless_damaged(Descriptions)

    @staticmethod
    def open(folder: Path) -> "NeuronIndex":
        """Open an index folder.

        Raises:
            GlpError: there is none, or a file is missing or damaged.
        """
        folder = Path(folder)
        if not (folder / "index.json").is_file():
            raise GlpError(f"No index of meta-neurons in {folder}. Make it with `python -m glp_core index`.")
        try:
            return NeuronIndex(folder, _head(folder / "index.json"))
        except (OSError, SafetensorError, KeyError, TypeError, IndexError) as error:
            raise GlpError(
                f"The index in {folder} is damaged ({error}). Make it again with `python -m glp_core index`."
            ) from error

    def _unless_damaged(self, kind: Callable[[Path | None, int], Part]) -> Part:
        """Return what was added beside the index; where its file is damaged, what there is without it."""
        try:
            return kind(self.folder, self.n_neurons)
        except GlpError as error:
            self.problems.append(str(error))
            return kind(None, self.n_neurons)

    def _check_places(self, n_pieces: int) -> None:
        """Raise GlpError where a neuron names a text, a neuron or a piece that is not there."""
        limits = {"effect_pieces": (0, n_pieces), "near_write": (0, self.n_neurons), "near_activation": (0, self.n_neurons)}
        for name, (low, high) in limits.items():
            values = self._all(name)
            if values.size and not low <= values.min() <= values.max() < high:
                raise GlpError(f"units.safetensors of the index is damaged: {name} goes beyond {high - 1}. {AGAIN}")

    @property
    def format(self) -> int:
        """Of the files, see `format`."""
        return self.facts.get("format", 1)

    @property
    def reading(self) -> Reading:
        return Reading.from_json(self.facts["reading"])

    @property
    def n_layers(self) -> int:
        return self.facts["n_layers"]

    @property
    def d_mlp(self) -> int:
        return self.facts["d_mlp"]

    @property
    def n_neurons(self) -> int:
        return self.n_layers * self.d_mlp

    @property
    def n_tokens(self) -> int:
        return self.facts["tokens"]

    def neuron(self, layer: int, neuron: int) -> Neuron:
        """Return one neuron's page; raise GlpError when there is no such neuron."""
        if not (0 <= layer < self.n_layers and 0 <= neuron < self.d_mlp):
            raise GlpError(
                f"There is no neuron {layer}/{neuron}: layers go to {self.n_layers - 1}, neurons to {self.d_mlp - 1}."
            )
        index = layer * self.d_mlp + neuron
        mean, std, skewness, kurtosis = map(float, self._one("moments", index))
        scale = float(self._one("scale", index))
        ends = self._one("range", index)
        description, described_by = self._descriptions.words(index)
        high, low = self._descriptions.sides(index)
        best_task, best_auc = self._tasks.best(index)
        return Neuron(
            layer, neuron, index, description, described_by, mean, std, skewness, kurtosis,
            noise_share=float(self._one("noise_share", index)),
            counts=self._one("counts", index).astype(np.int64),
            edges=self._edges(ends[:1], ends[1:], self.tail[index : index + 1])[0].astype(np.float32),
            tail=float(self.tail[index]),
            repeated=float(self._one("repeated", index)) if self.format > 1 else 0.0,
            quantiles=[(q, float(v)) for q, v in zip(QUANTILES, self._one("quantiles", index), strict=True)],
            top=self._top.snippets(index, 0, scale),
            bottom=self._top.snippets(index, 1, scale),
            intervals=self._intervals(index, scale),
            promoted=self._effects(index, 0),
            suppressed=self._effects(index, 1),
            nearest_write=self._neighbours("near_write", index),
            nearest_activation=self._neighbours("near_activation", index),
            scale=scale,
            best_task=best_task,
            best_auc=best_auc,
            tasks=self._tasks.most_extreme(index),
            high=high,
            low=low,
            best_sign=self._tasks.best_sign(index),
            best_tells=self._tasks.telling(index),
        )  # fmt: skip

    def check_shape(self, n_layers: int, d_mlp: int) -> None:
        """Raise GlpError unless a prior has these blocks of so many neurons."""
        if (self.n_layers, self.d_mlp) != (n_layers, d_mlp):
            raise GlpError(
                f"The index is of {self.n_layers} x {self.d_mlp:,} neurons, the prior has {n_layers} x {d_mlp:,}: it was made with "
                f"another one. {AGAIN}"
            )

    def table(self) -> pd.DataFrame:
        """Return one row for every neuron, in flat order; treat it as read-only, it is kept."""
        return self._table

    @cached_property
    def tail(self) -> np.ndarray:
        """The absolute value that one token in a thousand reaches (n_neurons,), float32: what a neuron's values are measured by."""
        if self.format > 1:
            return self._all("tail")
        # format 1 kept quantiles of both signs only, clamped at 255: the nearest that it tells
        low, high = (self._all("quantiles")[:, QUANTILES.index(q)] for q in (1e-3, 0.999))
        return np.maximum(-low, high)

    def _edges(self, low: np.ndarray, high: np.ndarray, tail: np.ndarray) -> np.ndarray:
        """Return the histograms' edges (neurons, HISTOGRAM_BINS + 1) of neurons with these ends and tails (neurons,)."""
        if self.format == 1:
            return np.linspace(low, high, HISTOGRAM_BINS + 1, axis=1)
        return histogram_edges(low, high, tail)

    def _active_shares(self) -> np.ndarray:
        ends, tail = self._all("range"), self.tail
        return shares_beyond(self._all("counts"), self._edges(ends[:, 0], ends[:, 1], tail), ACTIVE * np.maximum(tail, 1e-30))

    def interesting(self, n: int = 50) -> list[tuple[int, int]]:
        """Return the most readable neurons, by how true their descriptions are on held-out tokens; then those of highest kurtosis."""
        table = self._table
        spread = table[table["tail"] > LEAST_SPREAD]
        best = spread.nlargest(n, ["readability", "kurtosis"])
        return list(zip(best["layer"].tolist(), best["unit"].tolist(), strict=True))

    def most_readable(self, n: int = 10) -> list[ReadableSide]:
        """Return the sides whose descriptions are truest on held-out tokens, each naming something that those before it do not.

        Empty for an index without evidence, of format 1.
        """
        sides: list[ReadableSide] = []
        seen: set[str] = set()
        for layer, neuron in self.interesting(self.n_neurons):
            if len(sides) == n:
                break
            high, low = self._descriptions.sides(layer * self.d_mlp + neuron)
            side = max((one for one in (high, low) if one), key=lambda one: one.readability, default=None)
            if side is None or not side.readability:
                break
            telling = side.firing >= LEAST_FIRING and any(len(key) >= LEAST_LETTERS and key.isalpha() for key in side.keys)
            if telling and not seen & set(side.keys):
                sides.append(ReadableSide(layer, neuron, "high" if side is high else "low", side))
                seen |= set(side.keys)
        return sides

    def document(self, number: int) -> StoredDocument:
        """Return a document by its number in the corpus; raise GlpError when the index does not hold it."""
        return self._texts.document(number)

    def held_out(self) -> HeldOutTokens:
        """Return the tokens of the pass's sampled documents, which descriptions are tested on; raise GlpError for format 1."""
        if self.format == 1:
            raise GlpError(
                "The index is of format 1, which keeps no held-out tokens. Rebuild it with `python -m glp_core index`."
            )
        return self._texts.held_out()

    def firing(self, index: int) -> HeldOutFiring:
        """Return which held-out tokens are above the tail of the neuron of that flat number."""
        first, last = self._neurons.get_slice("firing_starts")[index : index + 2].tolist()
        if not 0 <= first <= last <= self._neurons.get_slice("firing_tokens").get_shape()[0]:
            raise GlpError(f"units.safetensors of the index is damaged: its firings overlap. {AGAIN}")
        # safetensors refuses an empty slice at the end
        entries = self._neurons.get_slice("firing_tokens")[first:last] if first < last else np.zeros(0, np.int32)
        return HeldOutFiring(np.abs(entries) - 1, np.sign(entries))

    def map(self, kind: str) -> pd.DataFrame | None:
        """Return the stored map (layer, neuron, x, y) of kind "concepts" or "writes", or None when it was not made."""
        path = self.folder / "maps.parquet"
        if not path.is_file():
            return None
        points = read_table(path, MAP)
        points = points[points["kind"] == kind].drop(columns="kind").reset_index(drop=True)
        if not (points["layer"].between(0, self.n_layers - 1) & points["unit"].between(0, self.d_mlp - 1)).all():
            raise GlpError(
                f"{path} is damaged: it holds neurons that the index does not. Make it again with `python -m glp_core map`."
            )
        return points if len(points) else None

    def map_facts(self, kind: str) -> Json:
        """Return the parameters and seed of the stored map of a kind, and the digest of its GLP."""
        path = self.folder / "maps.json"
        return map_facts(check(read_object(path), MAP_FACTS, f"{path} is damaged"), kind) if path.is_file() else {}

    def search(self, text: str) -> list[int]:
        """Return the flat numbers of neurons whose description, tokens or best task contain all words of `text`."""
        words = text.casefold().split()
        return [i for i, line in enumerate(self._haystack) if all(word in line for word in words)] if words else []

    def _all(self, name: str) -> np.ndarray:
        return self._neurons.get_tensor(name)

    def _one(self, name: str, index: int) -> np.ndarray:
        return self._neurons.get_slice(name)[index]

    def _intervals(self, index: int, scale: float) -> list[ValueRange]:
        edges, shares = self._one("edges", index).tolist(), self.facts["interval_edges"]
        return [
            ValueRange(shares[i], shares[i + 1], edges[i], edges[i + 1], self._between.snippets(index, i, scale))
            for i in range(len(edges) - 1)
        ]

    def _effects(self, index: int, row: int) -> list[TokenEffect]:
        pieces, scores = self._one("effect_pieces", index)[row], self._one("effect_scores", index)[row]
        return [TokenEffect(self._texts.pieces[p], float(s)) for p, s in zip(pieces, scores, strict=True)]

    def _neighbours(self, name: str, index: int) -> list[Neighbour]:
        found, similarity = self._one(name, index), self._one(f"{name}_similarity", index)
        return [Neighbour(*divmod(int(i), self.d_mlp), float(s)) for i, s in zip(found, similarity, strict=True)]

    @cached_property
    def _table(self) -> pd.DataFrame:
        layer, neuron = np.divmod(np.arange(self.n_neurons), self.d_mlp)
        moments = self._all("moments")
        low, high = (self._all("quantiles")[:, QUANTILES.index(share)] for share in TAILS)
        table = pd.DataFrame(
            {
                "layer": layer,
                "unit": neuron,
                **self._descriptions.columns(),
                "kurtosis": moments[:, 3],
                "skewness": moments[:, 2],
                "mean": moments[:, 0],
                "std": moments[:, 1],
                "noise_share": self._all("noise_share"),
                "tail": self.tail,
                "low": np.minimum(low, 0),
                "high": np.maximum(high, 0),
                "active_share": self._active_shares(),
            }
        )
        table = table.assign(**self._tasks.columns())
        table["top_tokens"], table["bottom_tokens"] = self.peak_tokens()
        return table

    def peak_tokens(self, k: int = TOP_TOKENS) -> tuple[list[str], list[str]]:
        """Return for every neuron its up to `k` most frequent peak tokens of the top and of the bottom texts, " · " between."""
        tokens = self._texts.tokens_at(self._all("top_documents"), self._all("top_peaks").astype(np.int64) - 1)
        return [self._frequent(row[0], k) for row in tokens], [self._frequent(row[1], k) for row in tokens]

    def _frequent(self, tokens: np.ndarray, k: int) -> str:
        words = (self._texts.pieces[token].strip() for token in tokens.tolist() if token >= 0)
        return " · ".join(word for word, _ in Counter(filter(None, words)).most_common(k))

    @cached_property
    def _haystack(self) -> list[str]:
        columns = self._table[["description", "top_tokens", "bottom_tokens", "best_task"]].fillna("")
        named = [task_words(name) if name else None for name in columns["best_task"]]
        columns["title"] = [f"{words.title} {words.negative}" if words else "" for words in named]
        return [" ".join(row).casefold().replace("_", " ") for row in columns.itertuples(index=False)]


def _head(path: Path) -> Json:
    """Return what index.json holds; GlpError with the command that makes it where it is damaged."""
    try:
        return check(read_object(path), HEAD, f"{path} is damaged")
    except GlpError as error:
        raise GlpError(f"{error} {AGAIN}") from error
