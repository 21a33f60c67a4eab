"""Helpers for page tests: a small real workspace in a folder, with a tiny LLM in the place of the one from the wheel."""

from functools import cache
from pathlib import Path

import torch
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.service import resources, workspace_facts
from glp_core.data.collecting import collect
from glp_core.data.corpus import Document
from glp_core.llm.sources import LlmSource
from glp_core.prior.checkpoint import save_glp
from glp_core.prior.distance import make_reference
from glp_core.steering.directions import Direction
from glp_core.workspace import Workspace
from tests.support import tiny

ENTRY = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
SECONDS = 60

# the test driver reads what every installed package says of itself for each page that it opens, a fifth of a second; it stays the same
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


def open_page(name, **query):
    """Open a page through the app's entry, with these values in its address; return Streamlit's test driver."""
    at = AppTest.from_file(ENTRY, default_timeout=SECONDS)
    at.query_params.update(query)
    if name != "overview":  # switch_page would need a run of the start page first
        at._page_hash = calc_hash(name)
    at.run()
    assert not at.exception, at.exception
    return at


def direction(name, title, seed):
    """Return a random direction of the tiny model."""
    vector = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(seed))
    return Direction(
        name=name, title=title, vector=vector / vector.norm(), layer=2, median_norm=5.0, auroc=0.5 + seed / 10, how=f"drawn, {name}",
        n_train=2, n_test=2, probe_weight=vector, probe_bias=0.0, probe_auroc=0.8,
    )  # fmt: skip


def make_store(home, *, train, held_out, activations):
    """Return a workspace in a folder, its LLM, a store of its activations, and the texts: `train` of them, then the held-out ones."""
    workspace, llm = make_workspace(home / "workspace"), tiny.make_tiny_llm()
    count = train + held_out
    texts = [Document(f"The cat number {i} sat on the mat and looked at rain {i * i}.", "made up") for i in range(count)]
    store = collect(llm, workspace.layer, texts[:train], texts[train:], home / "store", n_activations=activations)
    return workspace, llm, store, texts


def make_home(home, *others):
    """Write a workspace `mine` as a server needs it, and others by their names; return the environment of a server of them."""
    folders = [make_whole_workspace(home / name).folder for name in ("mine", *others)]
    own = {"GLP_EXPLORER_WORKSPACE": str(folders[0]), "GLP_EXPLORER_CACHE": str(home / "cache")}
    return (
        own
        | ({"GLP_EXPLORER_WORKSPACES": str(home)} if others else {})
        | {"GLP_EXPLORER_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    )


def make_whole_workspace(folder):
    """Write what `make_workspace` does, with its LLM in its folder, where another process finds it; return the workspace."""
    workspace = make_workspace(folder)
    tiny.keep_llm(folder / "llm")
    return workspace


def make_workspace(folder):
    """Write a workspace with a tiny GLP, two directions and a reference; return it."""
    source = LlmSource("folder", str(folder / "llm"), title="Tiny <b>LLM</b>")
    workspace = Workspace(folder, "Tiny workspace", source, layer=2, dtype="float32", median_norm=5.0)
    workspace.save()
    glp = tiny.tiny_glp()
    save_glp(glp, folder / "glp", about={"activations_seen": 2_000_000}, covariance=torch.eye(tiny.WIDTH))
    for one in (direction("up", "upwards", 1), direction("positive", "positive sentiment", 2)):
        one.save(folder / "directions")
    acts = torch.randn(64, tiny.WIDTH, generator=torch.Generator().manual_seed(9))
    workspace.save_report("reference", make_reference(glp, acts))
    return workspace


def use_workspace(monkeypatch, folder):
    """Let the dashboard show the workspace in `folder`, with a tiny LLM."""
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, str(folder))
    llm = tiny.make_tiny_llm()
    monkeypatch.setattr(resources, "_llm", lambda _folder: llm)
    return llm
