"""The layout of released GLP folders, read and written: config.yaml, rep_statistics.pt, and a safetensors file a checkpoint.

Reads a configuration without torch; nothing that a file says is ever run.
"""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from glp_core.checked.tensors import read_torch
from glp_core.errors import GlpError
from glp_core.files import Json, replacing, together, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = r"^(?:(?:module|_orig_mod|denoiser|model|normalizer)\.)*"
"""What training wrappers and the released classes put before the names of parameters and statistics."""
LARGEST_YAML, MOST_BRACKETS = 1_000_000, 200
"""Bytes, and opening brackets of a kind: the reader's time grows with the square of their depth."""
STATISTICS = ("mean", "var", "covariance")


class _PlainLoader(yaml.SafeLoader):
    """Reads a value that is tagged as an object of Python, such as a path, as the plain value under the tag; knows no aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a few lines of them can stand for more than any memory holds
            raise yaml.YAMLError("it has aliases, which are not read")
        return super().compose_node(parent, index)


def _plain(loader: _PlainLoader, _suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def read_released(path: Path) -> Json:
    """Return what a config.yaml says: `denoiser`, the network's shape, and `about`, the LLM and the layers of its activations.

    Raises:
        GlpError: it is damaged, or has no glp_kwargs.denoiser_config.
    """
    try:
        if path.stat().st_size > LARGEST_YAML:
            raise ValueError(f"it is larger than {LARGEST_YAML:,} bytes")
        words = path.read_text(encoding="utf-8")
        if max(words.count("["), words.count("{")) > MOST_BRACKETS:
            raise ValueError(f"it has more than {MOST_BRACKETS} brackets")
        whole = yaml.load(words, Loader=_PlainLoader)
        glp = whole["glp_kwargs"]
        denoiser = {str(name): _followed(value, whole) for name, value in dict(glp["denoiser_config"]).items()}
    except (yaml.YAMLError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise GlpError(f"{path} has no glp_kwargs.denoiser_config: {error}.") from error
    name, told = _followed(whole.get("model_name"), whole), whole.get("about")
    about = ({"llm": name} if isinstance(name, str) and name else {}) | _layers(glp.get("tracedict_config"), whole)
    return {"denoiser": denoiser, "about": about | (told if isinstance(told, dict) else {})}


def _layers(traced: object, whole: Json) -> Json:
    """Return the LLM layers of a tracedict_config: `layer`, or `layers` where it has several; nothing where it names none."""
    named = _followed(traced.get("layers"), whole) if isinstance(traced, dict) else None
    if not isinstance(named, list):
        return {}
    numbers = [re.search(r"(\d{1,6})$", str(_followed(name, whole))) for name in named]
    layers = [int(match[1]) for match in numbers if match]
    if len(layers) != len(named) or not layers:
        return {}
    return {"layer": layers[0]} if len(layers) == 1 else {"layers": layers}


def _followed(value: object, whole: Json) -> Any:
    """Return what a value such as ${a.b} stands for in the same file; nothing else is evaluated."""
    reference = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
    if not reference:
        return value
    target: object = whole
    for part in reference[1].split("."):
        target = target.get(part) if isinstance(target, dict) else None
    return target


def read_rep_statistics(path: Path) -> "dict[str, Tensor]":
    """Return the tensors of a rep_statistics.pt; NumPy arrays are turned into tensors, what wrappers put before names goes.

    Raises:
        GlpError: it holds anything but plain tensors and arrays by name.
    """
    import numpy as np
    import torch

    kinds = {type(np.dtype(name)) for name in ("float16", "float32", "float64")}
    rebuild = cast("Callable[..., Any]", np.zeros(1).__reduce__()[0])
    older = (rebuild, "numpy.core.multiarray._reconstruct")  # as NumPy 1 wrote it
    loaded = read_torch(path, [rebuild, older, np.ndarray, np.dtype, *kinds])
    if not isinstance(loaded, dict):
        raise GlpError(f"{path} holds a {type(loaded).__name__}, wanted tensors mean and var by name.")
    values = {re.sub(WRAPPERS, "", str(name)): value for name, value in loaded.items()}
    numeric = {name: value for name, value in values.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"}
    return values | {name: torch.from_numpy(value.copy()) for name, value in numeric.items()}


def write_released(
    folder: Path,
    facts: Json,
    weights: "dict[str, Tensor]",
    statistics: "dict[str, Tensor]",
    *,
    llm: str,
    layers: Sequence[int],
) -> None:
    """Write a folder of the released layout, with the weights as the checkpoint `final`.

    Args:
        facts: `denoiser`, the network's shape, and `about`, what is known of the training, which is kept beside it.
        weights: by the network's own names.
        statistics: mean and var, (d) or (layers, d).
        llm: the LLM's name, a hub id where it is known.
        layers: of the LLM, whose output the GLP was trained on.
    """
    import torch

    whole = {
        "model_name": llm,
        "rep_statistic": "rep_statistics.pt",
        "glp_kwargs": {
            "normalizer_config": {"rep_statistic": "${rep_statistic}"},
            "denoiser_config": facts["denoiser"],
            "tracedict_config": {"layer_prefix": "model.layers", "layers": list(layers), "retain": "output"},
        },
        "about": facts.get("about", {}),
    }
    stored = io.BytesIO()  # torch reports a full disk as no OSError
    torch.save({name: value.cpu().clone() for name, value in statistics.items()}, stored)
    with together():
        write_tensors(folder / "final.safetensors", {f"model.{name}": value for name, value in weights.items()})
        with replacing(folder / "rep_statistics.pt") as scratch:
            scratch.write_bytes(stored.getvalue())
        with replacing(folder / "config.yaml") as scratch:  # last: with it the folder is one
            scratch.write_text(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))
