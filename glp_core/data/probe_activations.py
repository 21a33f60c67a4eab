"""Rows of the probing tasks and their last-token activations: layer output and raw MLP neurons, kept in a cache folder.

Texts that several tasks share are run once. Knows the LLM; knows nothing of GLPs, probes or scores.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from glp_core.checked.tensors import check_tensors, read_tensors
from glp_core.data.corpus import Split, Task, task_rows
from glp_core.errors import GlpError
from glp_core.files import write_tensors
from glp_core.llm.batching import by_length, texts_kept_together, tokens_per_forward
from glp_core.llm.hooks import layer_at, record
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet

TEXTS_PER_PART = {"cpu": 256, "accelerator": 2048}
"""Texts of a file; a large model on the CPU takes fewer."""
PART = {"layer": "float n d", "mlp": "float n m", "keys": "whole n"}
AGAIN = "Remove it, and run the same command again."


@dataclass(frozen=True)
class Caps:
    """How much of each task is used."""

    train: int = 512
    """Rows at most, half of them of each class where there are enough."""
    validation: int = 256
    """Rows at most."""
    test: int = 512
    """Rows at most."""
    max_tokens: int = 128
    """A text's activation is that of its last token, or of this one in a longer text."""
    seed: int = 0
    """Of the choice of rows."""


def digest(text: str, seed: int = 0) -> int:
    """Return 63 bits that identify a text."""
    raw = hashlib.sha1(f"{seed}:{text}".encode("utf-8", "replace")).digest()
    return int.from_bytes(raw[:8], "big") >> 1


def sampled_rows(task: Task, caps: Caps) -> pd.DataFrame:
    """Return the rows used of a task: text, label, split, key and rank; each class gets up to half of a split's cap.

    Rows are taken in the order of their digest, so tasks over the same texts share most of their rows; `rank` counts them.
    """
    rows = task_rows(task)
    rows["key"] = [digest(text) for text in rows["text"]]
    rows["order"] = [digest(text, caps.seed + 1) for text in rows["text"]]
    rows = rows.sort_values("order", kind="stable")
    rows["rank"] = rows.groupby(["split", "label"]).cumcount()
    half: dict[Split, int] = {"train": caps.train // 2, "validation": caps.validation // 2, "test": caps.test // 2}
    return rows[rows["rank"] < rows["split"].map(half)].drop(columns="order").reset_index(drop=True)


class ProbeActivations:
    """Last-token activations of texts: `layer` (n, d) and `mlp` (n, hidden units of the layer's MLP), by text key.

    Raises:
        GlpError: the folder's activations were `made_by` something else than asked for.
    """

    def __init__(self, folder: Path, made_by: str = "") -> None:
        self.folder = folder
        paths = sorted(folder.glob("part-*.safetensors"))
        for path in paths:
            got = check_tensors(path, PART, again=AGAIN).metadata.get("made_by", made_by)
            if made_by and got != made_by:
                raise GlpError(f"{path} holds activations of {got}, wanted {made_by}. Choose another folder.")
        parts = [read_tensors(path, PART, again=AGAIN).tensors for path in paths]
        self.next_part = 1 + max((int(path.stem.removeprefix("part-")) for path in paths), default=-1)
        """Number of the first part that is not there, nor any after it."""
        self.layer = torch.cat([part["layer"] for part in parts]) if parts else torch.empty(0, 0)
        self.mlp = torch.cat([part["mlp"] for part in parts]) if parts else torch.empty(0, 0)
        keys = torch.cat([part["keys"] for part in parts]).tolist() if parts else []
        self.row = {key: i for i, key in enumerate(keys)}

    def rows(self, keys: Sequence[int]) -> np.ndarray:
        """Return the row of each key."""
        return np.array([self.row[key] for key in keys])


def collect_probe_activations(
    site: Site, rows: pd.DataFrame, folder: Path, *, max_tokens: int, progress: Progress = quiet
) -> ProbeActivations:
    """Run the texts of `rows` (text, key, rank) that the folder lacks, part by part; an interrupted call goes on where it was.

    Low ranks come first, so what an interrupted call leaves is all that smaller caps need.
    """
    have = ProbeActivations(folder, _made_by(site))
    texts = _distinct(rows)
    todo = texts[~texts["key"].isin(have.row)]
    total = len(texts)
    size = _per_part(site)
    for start in range(0, len(todo), size):
        part = todo.iloc[start : start + size]
        _write_part(site, part, folder, have.next_part + start // size, max_tokens)
        progress(total - len(todo) + start + len(part), total, "texts")
    return ProbeActivations(folder) if len(todo) else have


def collect_probe_share(
    site: Site, rows: pd.DataFrame, folder: Path, share: int, n_shares: int, *, max_tokens: int, progress: Progress = quiet
) -> None:
    """Run every `n_shares`-th part of the texts from the `share`-th on, counted from 1; all shares give the files of one call.

    Raises:
        GlpError: the folder holds parts of other texts.
    """
    texts = _distinct(rows)
    size = _per_part(site)
    numbers = range(share - 1, -(-len(texts) // size), n_shares)
    for done, number in enumerate(numbers, start=1):
        part = texts.iloc[number * size : (number + 1) * size]
        path = _part_path(folder, number)
        if not path.is_file():
            _write_part(site, part, folder, number, max_tokens)
        elif read_tensors(path, PART, again=AGAIN).tensors["keys"].tolist() != part["key"].tolist():
            raise GlpError(f"{path} holds other texts. Choose another --activations folder for these counts of rows.")
        progress(done, len(numbers), "parts of the texts")


def _per_part(site: Site) -> int:
    device = site.llm.device
    n = TEXTS_PER_PART["cpu" if device.type == "cpu" else "accelerator"]
    return texts_kept_together(n, device, site.llm.model.num_parameters())


def _distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each text once, those that the smallest caps need first."""
    return rows.sort_values("rank", kind="stable").drop_duplicates("key")


def _made_by(site: Site) -> str:
    return f"{site.llm.title}, layer {site.layer}"


def _part_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.safetensors"


def _write_part(site: Site, part: pd.DataFrame, folder: Path, number: int, max_tokens: int) -> None:
    tensors = last_token_activations(site, part["text"].tolist(), max_tokens=max_tokens)
    tensors["keys"] = torch.tensor(part["key"].tolist())
    write_tensors(_part_path(folder, number), tensors, {"made_by": _made_by(site)})


@torch.inference_mode()
def last_token_activations(site: Site, texts: Sequence[str], *, max_tokens: int) -> dict[str, Tensor]:
    """Return `layer` (n, d) and `mlp` (n, m): the layer's output and its MLP's hidden neurons at each text's last token.

    Of a layer without one MLP for all tokens, with experts alone or with a state space, m is 0.
    """
    llm, layer = site.llm, site.layer
    ids = [llm.encode(text, max_tokens=max_tokens) for text in texts]
    order, outputs, neurons = [], [], []
    for batch in by_length([len(row) for row in ids], tokens_per_forward(llm.device, llm.d_model)):
        order += batch
        tokens, mask = llm.pad([ids[i] for i in batch])
        at = torch.arange(len(batch)), mask.sum(1).cpu() - 1
        with mlp_neurons(llm.model, layer) as mlp, record(llm.model, [layer], stop=True) as acts:
            llm.model(input_ids=tokens, attention_mask=mask, use_cache=False, logits_to_keep=1)
        outputs.append(acts[layer][at].cpu())
        neurons.append(mlp[0].reshape(*tokens.shape, -1)[at].cpu() if mlp else torch.zeros(len(batch), 0))
    back = torch.tensor(order).argsort()
    return {"layer": torch.cat(outputs)[back], "mlp": torch.cat(neurons)[back]}


DOWN_PROJECTIONS = (
    *("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "mlp.fc_out"),
    *("fc2", "ffn.down_proj", "feed_forward.down_proj", "feed_forward.w2", "mlp.output_linear"),
    *(
        "shared_mlp.output_linear",
        "mlp.shared_expert.down_proj",
        "mlp.shared_experts.down_proj",
        "feed_forward.shared_expert.down_proj",
    ),
)
"""Where blocks of known families keep the second half of their MLP, or of the expert that all tokens share, which reads its neurons."""


@contextmanager
def mlp_neurons(model: nn.Module, layer: int) -> Iterator[list[Tensor]]:
    """Collect the inputs (batch, tokens, m) of the layer's MLP down projection, (batch * tokens, m) in OPT; for one thread at a time.

    Nothing is collected where the layer has none.
    """
    block = layer_at(model, layer)
    projection = next((m for name, m in block.named_modules() if name in DOWN_PROJECTIONS), None)
    seen: list[Tensor] = []
    if projection is None:
        yield seen
        return
    handle = projection.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
