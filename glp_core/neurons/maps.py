"""Maps of all neurons: UMAP of their concept profiles or of their write directions, always in a process of its own.

Two UMAPs in one process's threads can abort it (numba's workqueue layer), and a process can be stopped at once.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch

from glp_core.errors import GlpError
from glp_core.files import replacing, write_json
from glp_core.progress import Progress, quiet

if TYPE_CHECKING:
    from glp_core.workspace import Workspace

Kind = Literal["concepts", "writes"]
KINDS: dict[str, str] = {
    "concepts": "standardised class-mean difference on each probing task",
    "writes": "write direction (column of down_proj)",
}
FEWEST = 10


@dataclass(frozen=True)
class MapConfig:
    """UMAP's parameters."""

    neighbours: int = 15
    min_dist: float = 0.1
    metric: str = "cosine"
    seed: int = 0
    epochs: int = 300

    def __post_init__(self) -> None:
        if self.neighbours < 2 or not 0 <= self.min_dist <= 1:
            raise GlpError(f"neighbours {self.neighbours}, min_dist {self.min_dist}: wanted at least 2, and 0 to 1.")


def features(workspace: "Workspace", kind: str) -> tuple[np.ndarray, int]:
    """Return what a map of this kind compares (neurons, m), and the neurons a layer."""
    if kind not in KINDS:
        raise GlpError(f"A map of {kind!r} is not known: use {', '.join(KINDS)}.")
    glp = workspace.load_glp()
    if kind == "writes":
        rows = torch.cat([block.down_proj.weight.float().T for block in glp.network.layers]).numpy()
        return rows, glp.d_mlp
    path = workspace.neurons / "concepts.safetensors"
    if not path.is_file():
        raise GlpError(f"No concept profiles in {workspace.neurons}. Make them with `python -m glp_core probe`.")
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        profile = file.get_tensor("profile").astype(np.float32).T
    if len(profile) != glp.n_layers * glp.d_mlp:
        raise GlpError(
            f"The concept profiles are of {len(profile)} neurons, the GLP has {glp.n_layers * glp.d_mlp}: run probe again."
        )
    return np.nan_to_num(profile), glp.d_mlp


def compute_map(
    workspace: "Workspace",
    kind: str,
    *,
    neighbours: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> pd.DataFrame:
    """Return layer, neuron, x and y of every neuron.

    Raises:
        GlpError: unknown kind, no profiles, cancelled, or the child process failed.
    """
    rows, d_mlp = features(workspace, kind)
    config = MapConfig(neighbours, min_dist, seed=seed)
    layout = run_umap(rows, config, progress=progress, cancelled=cancelled)
    layer, neuron = np.divmod(np.arange(len(rows)), d_mlp)
    return pd.DataFrame({"layer": layer, "unit": neuron, "x": layout[:, 0], "y": layout[:, 1]})


def run_umap(
    rows: np.ndarray, config: MapConfig, *, progress: Progress = quiet, cancelled: Callable[[], bool] = lambda: False
) -> np.ndarray:
    """Return the layout (n, 2) of rows (n, m), computed in a child process that is killed when cancelled."""
    if len(rows) < max(FEWEST, config.neighbours + 1):
        raise GlpError(f"Got {len(rows)} points for {config.neighbours} neighbours: wanted more points, or fewer neighbours.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "rows.npy", rows.astype(np.float32))
        (folder / "config.json").write_text(json.dumps(asdict(config)))
        command = [sys.executable, "-m", "glp_core.neurons.umap_process", str(folder)]
        root = Path(__file__).resolve().parents[2]
        # errors go to a file: a pipe that nobody empties would stop a talkative child
        with (folder / "errors").open("w") as errors:
            child = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            _follow(child, config.epochs, progress, cancelled)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
        if child.returncode or not (folder / "layout.npy").is_file():
            last = (folder / "errors").read_text().strip().splitlines()[-1:] or ["no message"]
            raise GlpError(f"UMAP failed: {last[0]}.")
        return np.load(folder / "layout.npy", allow_pickle=False)


def _follow(child: subprocess.Popen[str], epochs: int, progress: Progress, cancelled: Callable[[], bool]) -> None:
    """Pass on the child's progress lines until it ends; look for cancellation at each, of which there are several a second."""
    for line in child.stdout or ():
        if cancelled():
            raise GlpError("Stopped.")
        done, _, words = line.strip().partition(" ")
        if done.isdigit():
            progress(min(int(done), epochs), epochs, words)


def save_maps(folder: Path, maps: dict[str, pd.DataFrame], config: MapConfig, *, glp_digest: str) -> None:
    """Write maps by kind, with their parameters and the digest of their GLP."""
    whole = pd.concat([table.assign(kind=kind) for kind, table in maps.items()], ignore_index=True)
    whole = whole.astype({"layer": "int16", "unit": "int32", "x": "float32", "y": "float32"})
    with replacing(folder / "maps.parquet") as scratch:
        whole.to_parquet(scratch, index=False)
    facts = {"kinds": {kind: KINDS[kind] for kind in maps}, "method": "UMAP (umap-learn)", "glp_digest": glp_digest}
    write_json(folder / "maps.json", asdict(config) | facts)
