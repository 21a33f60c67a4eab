"""Maps of all neurons: UMAP of their concept profiles or of their write directions, with their parameters beside them."""

from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch

from glp_core.checked.shapes import check
from glp_core.checked.tables import read_table
from glp_core.checked.tensors import read_tensors
from glp_core.errors import GlpError
from glp_core.files import Json, read_object, replacing, together, write_json
from glp_core.neuron_index.format import MAP, MAP_FACTS, map_facts
from glp_core.neurons.umap import UmapConfig, run_umap
from glp_core.progress import Progress, quiet

if TYPE_CHECKING:
    from glp_core.prior.glp import GLP

MapKind = Literal["concepts", "writes"]
KINDS: dict[str, str] = {
    "concepts": "standardised class-mean difference on each probing task",
    "writes": "write direction (column of down_proj)",
}


def features(glp: "GLP", kind: str, folder: Path, glp_digest: str = "") -> np.ndarray:
    """Return what a map of this kind compares, (neurons, m); the folder is the index's, where concept profiles are.

    Args:
        glp_digest: of the GLP's weights; profiles that say that they are another's are refused.
    """
    if kind not in KINDS:
        raise GlpError(f"A map of {kind!r} is not known: use {', '.join(KINDS)}.")
    if kind == "writes":
        return torch.cat([block.down_proj.weight.float().T for block in glp.network.layers]).cpu().numpy()
    path = folder / "concepts.safetensors"
    if not path.is_file():
        raise GlpError(f"No concept profiles in {folder}. Make them with `python -m glp_core probe`.")
    tensors, facts = read_tensors(path, {"profile": "number tasks n"}, only=True)
    profile = tensors["profile"].float().numpy().T
    if glp_digest and facts.get("glp_digest", glp_digest) != glp_digest:
        raise GlpError(f"The concept profiles in {folder} are of an earlier GLP: run `python -m glp_core probe` again.")
    if len(profile) != glp.n_layers * glp.d_mlp:
        raise GlpError(
            f"The concept profiles are of {len(profile)} neurons, the GLP has {glp.n_layers * glp.d_mlp}: run probe again."
        )
    return np.nan_to_num(profile)


def compute_map(
    glp: "GLP",
    kind: str,
    folder: Path,
    config: UmapConfig = UmapConfig(),  # noqa: B008 - frozen
    *,
    glp_digest: str = "",
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> pd.DataFrame:
    """Return layer, neuron, x and y of every neuron; the folder is the index's, `glp_digest` as of `features`.

    Raises:
        GlpError: unknown kind, no profiles or another GLP's, cancelled, or the child process failed.
    """
    rows = features(glp, kind, folder, glp_digest)
    layout = run_umap(rows, config, progress=progress, cancelled=cancelled).rows
    layer, neuron = np.divmod(np.arange(len(rows)), glp.d_mlp)
    return pd.DataFrame({"layer": layer, "unit": neuron, "x": layout[:, 0], "y": layout[:, 1]})


def save_maps(folder: Path, maps: dict[str, pd.DataFrame], config: UmapConfig, *, glp_digest: str) -> None:
    """Write maps by kind, with their parameters and the digest of their GLP; stored maps of other kinds of that GLP stay."""
    tables, parameters = _others(folder, maps, glp_digest)
    tables += [table.assign(kind=kind) for kind, table in maps.items()]
    parameters |= {kind: asdict(config) for kind in maps}
    whole = pd.concat(tables, ignore_index=True)[list(MAP)]
    whole = whole.astype({"layer": "int16", "unit": "int32", "x": "float32", "y": "float32"})
    kinds = {kind: words for kind, words in KINDS.items() if kind in parameters}
    facts = {"parameters": parameters, "kinds": kinds, "method": "UMAP (umap-learn)", "glp_digest": glp_digest}
    with together():
        with replacing(folder / "maps.parquet") as scratch:
            whole.to_parquet(scratch, index=False)
        write_json(folder / "maps.json", facts)


def _others(folder: Path, maps: Collection[str], glp_digest: str) -> tuple[list[pd.DataFrame], dict[str, Json]]:
    """Return stored maps of other kinds of the GLP of that digest, and the parameters of each; none where a file is damaged."""
    try:
        facts = check(read_object(folder / "maps.json"), MAP_FACTS, "maps.json")
        points = read_table(folder / "maps.parquet", MAP)
    except GlpError:
        return [], {}
    if not glp_digest or facts.get("glp_digest") != glp_digest:
        return [], {}
    kinds = [kind for kind in KINDS if kind not in maps and (points["kind"] == kind).any()]
    own = {one.name for one in fields(UmapConfig)}
    parameters = {kind: {key: value for key, value in map_facts(facts, kind).items() if key in own} for kind in kinds}
    return [points[points["kind"] == kind] for kind in kinds], parameters
