"""Everything that all sessions share: the workspace, its models, the one job queue of the device.

The device is $GLP_EXPLORER_DEVICE's, an accelerator that is there when it is not set. Heavy imports (torch, transformers) happen in
the queue's worker thread, so that the first page is there before them; `warm_up` starts it. Call `llm`, `glp`, `meter` and
`direction` inside jobs only: one thread runs all inference, and a job's workspace keeps its models while it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Hashable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st
from streamlit.runtime import exists, get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard.service import layers, priors, workspace_facts
from dashboard.service.directions import neuron_directions
from dashboard.service.model_store import ModelStore
from dashboard.service.visitors import limits
from dashboard.service.workspace_facts import written
from glp_core import memory
from glp_core.errors import GlpError
from glp_core.jobs.job import Cancelled, Job, Work
from glp_core.jobs.runner import GRACE, JobRunner
from glp_core.prior.facts import bytes_needed
from glp_core.speed.cores import Cores

if TYPE_CHECKING:
    from glp_core.llm.model import Llm
    from glp_core.llm.site import Site
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.prior.distance import ManifoldMeter
    from glp_core.prior.glp import GLP
    from glp_core.steering.directions import Direction
    from glp_core.steering.shared_batch import SharedBatch
    from glp_core.workspace import Workspace

Loaded = TypeVar("Loaded")

LIBRARIES = "scipy.stats", "sklearn.decomposition", "sklearn.linear_model", "sklearn.model_selection", "sklearn.neighbors"
"""Modules that jobs need later and that take half a second or more to import."""
WARMED = ("workspace.json", "glp/final.safetensors", "reports/reference.json")
"""Files of what is loaded before it is asked for."""
AGAIN_AFTER = 300.0
"""Seconds after which loading that failed is tried again, when somebody looks at the page."""
WHEREABOUTS = "whereabouts"
"""Session key of the page that the session is on."""
MOST_CHECKPOINTS, MOST_RUNS, MOST_LAYERS = 2, 3, 4
"""Priors that a workspace keeps loaded: versions of its own, those of its runs, and layers of one that serves several."""


def workspace() -> Workspace:
    """Return the workspace; GlpError when the folder is none."""
    return _workspace(workspace_facts.folder())


def llm() -> Llm:
    """Return the language model."""
    return _llm(workspace_facts.folder())


def neuron_index() -> NeuronIndex:
    """Return the workspace's index of meta-neurons, opened again when its files change; raise GlpError when there is none."""
    return _neuron_index(workspace_facts.folder())


def site(layer: int | None = None) -> Site:
    """Return the language model and the layer that is looked at: the workspace's own, or another that its prior serves."""
    here, measured = workspace(), layers.of(layer)
    if layer is not None and measured is not None:
        here = replace(here, layer=layer, median_norm=measured.median_norm)
    return here.site(llm())


def glp(checkpoint: str = "final") -> GLP:
    """Return the prior, or another checkpoint of it."""
    return _glp(workspace_facts.folder(), checkpoint)


def prior(name: str, layer: int | None = None) -> GLP:
    """Return the GLP of that name (see `priors`), the workspace's own for an empty one, at the workspace's layer or another.

    Raises:
        GlpError: there is none of that name, or it does not serve the layer.
    """
    listed = priors.listed()
    chosen = next((one for one in listed if one.name == name), None)
    if not name or name == listed[0].name:
        return _glp(workspace_facts.folder(), layer=layer)
    if chosen is None:
        raise GlpError(f"There is no prior {name!r}: wanted one of {', '.join(one.name for one in listed)}.")
    if layers.of(layer) is not None:
        raise GlpError(f"The prior {name} serves layer {workspace().layer} only: choose that layer, or the first prior.")
    return _run_glp(chosen.folder)


def meter(layer: int | None = None) -> ManifoldMeter | None:
    """Return the distance meter of the workspace's layer or another, or None before `python -m glp_core evaluate`.

    It is always the same one, so that it measures the rows of all who share a step at once.
    """
    measured = layers.of(layer)
    if measured is None:
        return _meter(workspace_facts.folder())
    from glp_core.prior.distance import ManifoldMeter

    folder = workspace_facts.folder()
    glp, reference = _glp(folder, layer=layer), measured.reference
    key = layer, *(written(folder / made) for made in ("reports/layers.json", "glp/final.safetensors"))
    return models().get(folder, "meter of a layer", key, lambda: ManifoldMeter(glp, reference), most=MOST_LAYERS)


def direction(name: str) -> Direction:
    """Return a direction by name; GlpError when there is none."""
    return _direction(workspace_facts.folder(), name)


class _Whereabouts:
    """The page that a session is on."""

    page = ""
    jobs: tuple[Job, ...] = ()
    """That were asked for there, and end with a look at another."""


def on_page(name: str) -> None:
    """Say that the session's browser shows this page now: what another was asked for and does not stay is given up."""
    where = st.session_state.setdefault(WHEREABOUTS, _Whereabouts())
    if where.page != name:
        for job in where.jobs:
            job.give_up()
        where.page, where.jobs = name, ()


def submit(work: Work, *, title: str, rows: int = 0, stays: bool = False, tokens: int = 0) -> Job:
    """Queue a job for this session, which runs on the session's workspace; it is given up when the session has no connection.

    Args:
        rows: of the shared decode batch that it writes; 0: it runs by itself.
        stays: go on when the person goes to another page, and for as long as a lost connection may come back; else it is given up then.
        tokens: that it may write, which count against what the visitor may ask for; 0: it reads, and counts as no run.
    Raises:
        GlpError: the queue is full, the session has a job waiting, or the visitor has asked for all that the server lets one.
    """
    session, folder = session_id(), workspace_facts.folder()
    where = st.session_state.setdefault(WHEREABOUTS, _Whereabouts())

    def there(cancelled: Cancelled) -> Generator[Any]:
        with workspace_facts.in_job(folder), models().holding(folder):
            yield from work(cancelled)

    with limits.limits().taking(limits.visitor() or session, tokens) if tokens else nullcontext():
        grace = away() if stays else GRACE
        job = runner().submit(session, there, title=title, grace=grace, alive=lambda: connected(session), rows=rows)
    if not stays:
        where.jobs = (*(one for one in where.jobs if one.live), job)
    return job


def session_id() -> str:
    """Return a name for the session whose page is being drawn."""
    context = get_script_run_ctx()
    return context.session_id if context else "no session"


def away() -> float:
    """Return the seconds for which a session waits for a connection that was lost."""
    return float(st.get_option("server.disconnectedSessionTTL"))


def connected(session: str) -> bool:
    """Say whether a session's browser tab is there."""
    return exists() and get_instance().is_active_session(session)


def batch() -> SharedBatch:
    """Return the decode batch that the workspace's visitors share; for jobs only."""
    from glp_core.steering.shared_batch import SharedBatch

    return keep("batch", "shared", SharedBatch)


def warm_up() -> Job:
    """Start loading the workspace's models and index, once for these files; return the job that does it.

    Where that failed, as for want of memory, it is tried again after a while.
    """
    made_from = workspace_facts.folder(), workspace_facts.times(*WARMED)
    job = _warm_up(*made_from)
    if job.error is None or job.unseen < AGAIN_AFTER:
        return job
    _warm_up.clear(*made_from)
    return _warm_up(*made_from)


@st.cache_resource(show_spinner=False)
def runner() -> JobRunner:
    """Return the device's job queue."""
    return JobRunner(context=_inference, before=Cores().settle, told=memory.told)


def _inference() -> AbstractContextManager[object]:
    import torch

    return torch.inference_mode()


@st.cache_resource(show_spinner=False)
def models() -> ModelStore:
    """Return the store of loaded models: those of the workspace used least recently go when memory is short."""
    return ModelStore(_free_memory, memory.hand_back)


def _free_memory() -> int | None:
    from glp_core.devices import choose_device

    return memory.free_memory(choose_device())


def keep(kind: str, key: Hashable, load: Callable[[], Loaded]) -> Loaded:
    """Return something that holds models of the workspace, made when it is first used, and let go with them; for jobs only."""
    return models().get(workspace_facts.folder(), kind, key, load)


@st.cache_resource(show_spinner=False, max_entries=16)
def _warm_up(folder: Path, files_written: tuple[float, ...]) -> Job:
    def work(_cancelled: Cancelled) -> Generator[tuple[str, str]]:
        with models().holding(folder):
            words = ""
            with suppress(GlpError):  # an LLM that cannot be read: loading it says why
                words = _workspace(folder).memory()
            yield "loading the LLM", words
            _llm(folder)
            yield "loading the GLP", words
            _glp(folder)
            libraries = threading.Thread(target=import_libraries, daemon=True)
            libraries.start()
            with suppress(GlpError):  # a damaged reference: pages that measure say so
                _meter(folder)
            with suppress(GlpError):  # no index: the neurons' page names the command
                _neuron_index(folder)
            libraries.join()
            memory.set_apart()

    return runner().submit("", work, title="loading the models", grace=None)


def import_libraries() -> None:
    """Import LIBRARIES while nobody writes: a job that did it would let everybody's texts wait."""
    for name in LIBRARIES:
        import_module(name)


def _workspace(folder: Path) -> Workspace:
    return _opened(folder, written(folder / "workspace.json"))


@st.cache_resource(show_spinner=False, max_entries=16)
def _opened(folder: Path, file_written: float) -> Workspace:
    from glp_core.devices import choose_device
    from glp_core.workspace import Workspace

    return Workspace.open(folder, str(choose_device()))


def _neuron_index(folder: Path) -> NeuronIndex:
    from glp_core.workspace import Workspace

    where = Workspace.open(folder).neurons
    return _opened_index(where, max(map(written, where.glob("*")), default=0.0))


@st.cache_resource(max_entries=2, show_spinner=False)
def _opened_index(where: Path, files_written: float) -> NeuronIndex:
    from glp_core.neuron_index.reader import NeuronIndex

    return NeuronIndex.open(where)


def _llm(folder: Path) -> Llm:
    its = _workspace(folder)
    key = its.llm, its.dtype
    needs = its.llm_bytes + its.prior_bytes  # what loading it asks for
    return models().get(folder, "llm", key, _ordinary(its.load_llm), needs=needs, size=lambda one: one.n_bytes)


def _glp(folder: Path, checkpoint: str = "final", layer: int | None = None) -> GLP:
    its, stamp = _workspace(folder), written(folder / "glp" / f"{checkpoint}.safetensors")
    load = _ordinary(lambda: its.load_glp(checkpoint, whole=True))
    key, needs = (checkpoint, stamp), its.prior_bytes
    whole = models().get(folder, "glp", key, load, needs=needs, size=lambda _: needs, most=MOST_CHECKPOINTS)
    chosen = its.layer if layer is None else layer
    if not whole.layers:
        return whole
    of_layer = *key, chosen  # kept, since equal projectors have the same GLP; its weights are those of the whole
    return models().get(folder, "layer of a glp", of_layer, lambda: whole.at(chosen), most=MOST_LAYERS)


def _run_glp(run: Path) -> GLP:
    """Return a run's final GLP; weights that were written anew are loaded anew."""
    folder = workspace_facts.folder()
    its = _workspace(folder)

    def load() -> GLP:
        from glp_core.prior.checkpoint import load_glp

        return load_glp(run, device=its.device, dtype=its.torch_dtype)

    weights = run / "final.safetensors"
    key, needs = (run, written(weights)), bytes_needed(weights, its.torch_dtype.itemsize, on_cpu=its.device == "cpu")
    return models().get(folder, "run", key, _ordinary(load), needs=needs, size=lambda _: needs, most=MOST_RUNS)


def _meter(folder: Path) -> ManifoldMeter | None:
    def load() -> ManifoldMeter | None:
        from glp_core.prior.distance import ManifoldMeter

        reference = _workspace(folder).report("reference")
        return ManifoldMeter(_glp(folder), reference) if reference else None

    files = folder / "glp" / "final.safetensors", folder / "reports" / "reference.json"
    return models().get(folder, "meter", tuple(map(written, files)), load)


def _direction(folder: Path, name: str) -> Direction:
    return _opened_direction(folder, name, written(neuron_directions.made_from(folder, name)))


@st.cache_resource(show_spinner=False, max_entries=64)
def _opened_direction(folder: Path, name: str, file_written: float) -> Direction:
    its = _workspace(folder)
    return neuron_directions.make(its, _glp(folder), name) if neuron_directions.is_neuron(name) else its.direction(name)


def _ordinary(load: Callable[[], Loaded]) -> Callable[[], Loaded]:
    """Let tensors be loaded as ordinary ones, which is what models are made of; the queue's thread is in inference mode."""

    def loaded() -> Loaded:
        import torch

        with torch.inference_mode(False):
            return load()

    return loaded
