"""A bank of real held-out activations with their texts: what new activations are compared with. Small enough to ship.

Two files in a folder: `bank.safetensors` (acts (n, d), float16 where they fit, documents, and where each falls on the map, when that
was laid out) and `bank.json` (each token in its context, and how the bank was made). No GLP was trained on any of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glp_core.checked.shapes import Many, check
from glp_core.checked.tensors import read_tensors
from glp_core.data.corpus import Document
from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json, read_object, together, write_json, write_tensors
from glp_core.llm.model import Llm
from glp_core.prior.glp import GLP

COMMAND = "python -m glp_core bank"
SHAPE = {"contexts": Many((str, str, str)), "made_from?": {}}
AROUND = 8
"""Tokens of context on each side."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Real activations, each with its text."""

    acts: Tensor
    """(n, d), float32."""
    documents: Tensor
    """(n,), number of the held-out document."""
    contexts: list[tuple[str, str, str]]
    """Text before the token, the token, text after it."""
    facts: Json
    """LLM, layer, number of documents."""
    plane: Tensor | None = None
    """(n, 2), where each falls on the map."""

    def __len__(self) -> int:
        return len(self.acts)

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the places of every other document's activations and of the others', so that samples of each share no document."""
        _, documents = self.documents.unique(return_inverse=True)
        return (documents % 2 == 0).nonzero()[:, 0], (documents % 2 == 1).nonzero()[:, 0]

    @staticmethod
    def load(folder: Path) -> "Bank":
        """Read a bank; raise GlpError when there is none or it is damaged."""
        path = folder / "bank.safetensors"
        if not path.is_file():
            raise GlpError(f"No bank of real activations in {folder}. Make it with `{COMMAND}`.")
        again = f"Make it again with `{COMMAND}`."
        tensors, _ = read_tensors(path, {"acts": "float n d", "documents": "whole n", "plane?": "float n 2"}, again=again)
        about = check(read_object(folder / "bank.json"), SHAPE, f"{folder / 'bank.json'} is damaged")
        contexts: list[tuple[str, str, str]] = [tuple(row) for row in about["contexts"]]
        if len(contexts) != len(tensors["acts"]):
            raise GlpError(f"{folder}: bank.safetensors and bank.json do not belong together. {again}")
        return Bank(tensors["acts"].float(), tensors["documents"], contexts, about.get("made_from", {}), tensors.get("plane"))

    def save(self, folder: Path) -> None:
        """Write both files."""
        halves = self.acts.half()
        acts = halves if halves.isfinite().all() else self.acts.float()  # beyond 65,504, as some models' outlier dimensions are
        tensors = {"acts": acts, "documents": self.documents}
        with together():
            write_tensors(folder / "bank.safetensors", tensors | ({} if self.plane is None else {"plane": self.plane}))
            write_json(folder / "bank.json", {"made_from": self.facts, "contexts": self.contexts})


def spread(places: Tensor, n: int) -> Tensor:
    """Return n of the places, evenly spread; all where there are fewer."""
    return places[torch.linspace(0, len(places) - 1, min(n, len(places))).long()]


def make_bank(store: ActivationStore, llm: Llm, texts: Sequence[Document], n: int) -> Bank:
    """Take n held-out activations, spread evenly over the held-out documents `texts`, with the text around each token."""
    rows = store.validation_rows(n)
    ids: dict[int, list[int]] = {}
    contexts = []
    for number, position in zip(rows["documents"].tolist(), rows["positions"].tolist(), strict=True):
        row = ids.setdefault(number, llm.encode(texts[number].text, max_tokens=512))
        pieces = llm.pieces(row[max(1, position - AROUND) : position + AROUND + 1])
        at = position - max(1, position - AROUND)
        contexts.append(("".join(pieces[:at]), pieces[at], "".join(pieces[at + 1 :])))
    facts = {
        "llm": store.manifest["llm"],
        "layer": store.manifest["layer"],
        "documents": len(ids),
        "activations": len(contexts),
    }
    return Bank(rows["acts"].float(), rows["documents"], contexts, facts)


def nearest(glp: GLP, bank: Bank, acts: Tensor, *, own: Tensor | None = None) -> Tensor:
    """Return each activation's (n, d) distance to its nearest bank activation, in latent space, per square root of dimension (n,).

    Args:
        own: each activation's document (n,), when it is from the bank: neighbours from the same document do not count.
    """
    points = glp.normalize(bank.acts).cpu()
    smallest = []
    for start in range(0, len(acts), 512):
        distances = torch.cdist(glp.normalize(acts[start : start + 512]).cpu(), points)
        if own is not None:
            distances[own[start : start + 512, None] == bank.documents] = torch.inf
        smallest.append(distances.min(1).values)
    return torch.cat(smallest) / acts.shape[-1] ** 0.5 if smallest else torch.zeros(0)
