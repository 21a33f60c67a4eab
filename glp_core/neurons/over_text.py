"""Every neuron on every token of a text, and which neurons stand out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.reading import read_in_parts
from glp_core.prior.glp import GLP

MOST_TOKENS = 512
NO_TAIL = 1e-6
"""Tails nearer to 0 than this do not normalise: the neuron is constant."""


@dataclass(frozen=True)
class Firing:
    """One neuron on a text."""

    layer: int
    neuron: int
    token: int
    """Where it is strongest, among the tokens asked for."""
    value: float
    normalised: float


@dataclass(frozen=True)
class TextNeurons:
    """Every neuron on every token of a text."""

    ids: list[int]
    """Tokens (n), the first one left out."""
    pieces: list[str]
    massive: np.ndarray
    """Tokens with massive activations (n,); their values are nan."""
    values: np.ndarray
    """Signed values (n, n_neurons), float32."""
    normalised: np.ndarray
    """Values over the neuron's tail: 1 or -1 is as large as one token in a thousand."""
    d_mlp: int
    whole: int = 0
    """Tokens of the whole text, of which `ids` are the first; 0 where that is not known."""

    def strongest(
        self,
        tokens: Sequence[int] | None = None,
        *,
        k: int = 50,
        layers: Sequence[int] | None = None,
        hidden: np.ndarray | None = None,
    ) -> list[Firing]:
        """Return the neurons that stand out most: by |mean normalised value| over `tokens`, by its largest over all when None.

        Args:
            layers: only these blocks.
            hidden: neurons (n_neurons,) to leave out, for example those that fire everywhere.
        """
        chosen = np.arange(len(self.ids)) if tokens is None else np.array(sorted(set(tokens)), int)
        chosen = chosen[~self.massive[chosen]]
        if not len(chosen):
            return []
        part = self.normalised[chosen]
        strength = np.abs(part).max(0) if tokens is None else np.abs(part.mean(0))
        strength = np.where(self._shown(layers, hidden), strength, -1.0)
        where = chosen[np.abs(part).argmax(0)]
        return [self._firing(int(where[neuron]), int(neuron)) for neuron in _largest(strength, k)]

    def per_token(
        self, k: int = 5, *, layers: Sequence[int] | None = None, hidden: np.ndarray | None = None
    ) -> list[list[Firing]]:
        """Return for every token its k strongest neurons of either sign; none for massive tokens."""
        shown = self._shown(layers, hidden)
        strength = np.where(shown, np.nan_to_num(np.abs(self.normalised), nan=-1.0), -1.0)
        return [[self._firing(token, int(neuron)) for neuron in _largest(strength[token], k)] for token in range(len(self.ids))]

    def _shown(self, layers: Sequence[int] | None, hidden: np.ndarray | None) -> np.ndarray:
        shown = np.ones(self.values.shape[1], bool) if hidden is None else ~hidden
        return shown if layers is None else shown & np.isin(np.arange(len(shown)) // self.d_mlp, list(layers))

    def _firing(self, token: int, neuron: int) -> Firing:
        return Firing(
            *divmod(neuron, self.d_mlp), token, float(self.values[token, neuron]), float(self.normalised[token, neuron])
        )


def _largest(strength: np.ndarray, k: int) -> np.ndarray:
    """Return the places of the k largest strengths that are not negative, largest first."""
    k = min(k, len(strength))
    best = np.argpartition(-strength, k - 1)[:k]
    best = best[np.argsort(-strength[best], kind="stable")]
    return best[strength[best] >= 0]


def read_text(
    site: Site,
    glp: GLP,
    text: str | Sequence[int],
    reading: Reading,
    *,
    tail: np.ndarray | None = None,
    max_tokens: int = MOST_TOKENS,
) -> TextNeurons:
    """Read all neurons on all tokens of a text (or of token ids that begin with the first token).

    Args:
        tail: (n_neurons,), `NeuronIndex.tail`; the text's own largest values when None.
    Raises:
        GlpError: the text has no tokens, or the tails are of another number of neurons: another prior's index.
    """
    if tail is not None and len(tail) != (neurons := glp.n_layers * glp.d_mlp):
        raise GlpError(
            f"The index is of {len(tail):,} neurons, the prior has {neurons:,}: it was made with another one. Make it again with "
            "`python -m glp_core index`."
        )
    whole = site.llm.encode(text) if isinstance(text, str) else list(text)
    ids = whole[: max_tokens + 1]
    if len(ids) < 2:
        raise GlpError("The text has no tokens: type some words.")
    acts = site.activations([ids])[0][1:]
    massive = site.is_massive(acts).cpu().numpy()
    values = read_in_parts(glp, acts, reading).numpy()
    values[massive] = np.nan
    if tail is None:
        tail = np.abs(np.nan_to_num(values)).max(0)
    normalised = values / np.where(tail > NO_TAIL, tail, np.inf).astype(np.float32)
    return TextNeurons(ids[1:], site.llm.pieces(ids)[1:], massive, values, normalised, glp.d_mlp, len(whole) - 1)
