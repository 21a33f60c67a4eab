"""Every neuron on every token of a text, and which neurons stand out; and a neuron as a direction to steer along."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.neuron_index.reading import Reading, read_neurons
from glp_core.neuron_index.write_directions import write_direction
from glp_core.prior.glp import GLP

if TYPE_CHECKING:
    from glp_core.workspace import Workspace

__all__ = ["Firing", "TextNeurons", "read_text", "save_neuron_direction", "write_direction"]

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
    """Values over the neuron's tail of their sign: 1 or -1 is as extreme as one token in 10,000."""
    d_mlp: int

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
    tails: np.ndarray | None = None,
    max_tokens: int = MOST_TOKENS,
) -> TextNeurons:
    """Read all neurons on all tokens of a text (or of token ids that begin with the first token).

    Args:
        tails: (n_neurons, 2) from NeuronIndex.tails(); the text's own extremes when None.
    Raises:
        GlpError: the text has no tokens.
    """
    ids = site.llm.encode(text, max_tokens=max_tokens + 1) if isinstance(text, str) else list(text)[: max_tokens + 1]
    if len(ids) < 2:
        raise GlpError("The text has no tokens: type some words.")
    acts = site.activations([ids])[0][1:]
    massive = site.is_massive(acts).cpu().numpy()
    values = read_neurons(glp, acts, reading).cpu().numpy()
    values[massive] = np.nan
    if tails is None:
        seen = np.nan_to_num(values)
        tails = np.stack([np.minimum(seen.min(0), 0), np.maximum(seen.max(0), 0)], axis=1)
    low, high = (np.where(np.abs(side) > NO_TAIL, np.abs(side), np.inf).astype(np.float32) for side in tails.T)
    normalised = np.where(values > 0, values / high, values / low)
    return TextNeurons(ids[1:], site.llm.pieces(ids)[1:], massive, values, normalised, glp.d_mlp)


def save_neuron_direction(workspace: "Workspace", layer: int, neuron: int) -> str:
    """Store a neuron's write direction as a direction of the workspace; return its name."""
    from glp_core.steering.directions import Direction

    vector = torch.from_numpy(write_direction(workspace.load_glp(), layer, neuron))
    direction = Direction(
        name=f"unit-{layer}-{neuron}",
        title=f"Meta-neuron {layer}/{neuron}",
        vector=vector,
        layer=workspace.layer,
        median_norm=workspace.median_norm,
        auroc=float("nan"),
        how="The neuron's write direction: its push on the denoised activation, carried linearly through the GLP's output",
        n_train=0,
        n_test=0,
        probe_weight=torch.zeros_like(vector),
        probe_bias=0.0,
    )
    direction.save(workspace.folder / "directions")
    return direction.name
