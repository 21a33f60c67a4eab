"""Everything that all sessions share: the workspace, its models, the one job queue of the device.

The device is $GLP_EXPLORER_DEVICE's, an accelerator that is there when it is not set. Heavy imports (torch, transformers) happen in
the queue's worker thread, so that the first page is there before them; `warm_up` starts it. Call `llm`, `glp`, `meter` and
`direction` inside jobs only: one thread runs all inference.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.runtime import exists, get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard.service import neuron_directions, priors, workspace_facts
from dashboard.service.jobs import Cancelled, Job, JobRunner, Work
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.llm.model import Llm
    from glp_core.llm.site import Site
    from glp_core.prior.distance import ManifoldMeter
    from glp_core.prior.glp import GLP
    from glp_core.steering.directions import Direction
    from glp_core.workspace import Workspace


def workspace() -> Workspace:
    """Return the workspace; GlpError when the folder is none."""
    return _workspace(workspace_facts.folder())


def llm() -> Llm:
    """Return the language model."""
    return _llm(workspace_facts.folder())


def site() -> Site:
    """Return the language model and the layer that is looked at."""
    return workspace().site(llm())


def glp(checkpoint: str = "final") -> GLP:
    """Return the prior, or another checkpoint of it."""
    return _glp(workspace_facts.folder(), checkpoint)


def prior(name: str) -> GLP:
    """Return the GLP of that name (see `priors`), the workspace's own for an empty one; GlpError when there is none."""
    found = priors.listed()
    chosen = next((one for one in found if one.name == name), None)
    if not name or name == found[0].name:
        return glp()
    if chosen is None:
        raise GlpError(f"There is no prior {name!r}: wanted one of {', '.join(one.name for one in found)}.")
    return _run_glp(chosen.folder, (chosen.folder / "final.safetensors").stat().st_mtime)


def meter() -> ManifoldMeter | None:
    """Return the distance meter, or None while `python -m glp_core evaluate` has not been run."""
    return _meter(workspace_facts.folder())


def direction(name: str) -> Direction:
    """Return a direction by name; GlpError when there is none."""
    return _direction(workspace_facts.folder(), name)


def submit(work: Work, *, title: str) -> Job:
    """Queue a job for this session, which runs on the session's workspace; it is given up when the session's tab is closed.

    Raises:
        GlpError: the queue is full, or this session has a job waiting.
    """
    session, folder = session_id(), workspace_facts.folder()

    def there(cancelled: Cancelled) -> Generator[Any]:
        with workspace_facts.in_job(folder):
            yield from work(cancelled)

    return runner().submit(session, there, title=title, alive=lambda: connected(session))


def session_id() -> str:
    """Return a name for the session whose page is being drawn."""
    context = get_script_run_ctx()
    return context.session_id if context else "no session"


def connected(session: str) -> bool:
    """Say whether a session's browser tab is there."""
    return exists() and get_instance().is_active_session(session)


def warm_up() -> Job:
    """Start loading the models, once; return the job that does it."""
    return _warm_up(workspace_facts.folder())


@st.cache_resource(show_spinner=False)
def runner() -> JobRunner:
    """Return the device's job queue."""
    return JobRunner(context=_inference)


def _inference() -> AbstractContextManager[object]:
    import torch

    return torch.inference_mode()


@st.cache_resource(show_spinner=False, max_entries=2)
def _warm_up(folder: Path) -> Job:
    def work(_cancelled: Cancelled) -> Generator[str]:
        _workspace(folder)
        yield "workspace"
        _llm(folder)
        yield "llm"
        _glp(folder, "final")
        _meter(folder)
        yield "glp"

    return runner().submit("", work, title="loading the models", grace=None)


@st.cache_resource(show_spinner=False, max_entries=2)
def _workspace(folder: Path) -> Workspace:
    from glp_core.devices import choose_device
    from glp_core.workspace import Workspace

    return Workspace.open(folder, str(choose_device()))


@st.cache_resource(show_spinner=False, max_entries=2)
def _llm(folder: Path) -> Llm:
    import torch

    with torch.inference_mode(False):
        return _workspace(folder).load_llm()


@st.cache_resource(show_spinner=False, max_entries=6)
def _glp(folder: Path, checkpoint: str) -> GLP:
    import torch

    with torch.inference_mode(False):
        return _workspace(folder).load_glp(checkpoint)


@st.cache_resource(show_spinner=False, max_entries=3)
def _run_glp(folder: Path, written: float) -> GLP:
    """Load a run's final GLP; weights that were `written` anew are another entry."""
    import torch

    from glp_core.prior.checkpoint import load_glp

    its = _workspace(workspace_facts.folder())
    with torch.inference_mode(False):
        return load_glp(folder, device=its.device, dtype=its.torch_dtype)


@st.cache_resource(show_spinner=False, max_entries=2)
def _meter(folder: Path) -> ManifoldMeter | None:
    from glp_core.prior.distance import ManifoldMeter

    reference = _workspace(folder).report("reference")
    return ManifoldMeter(_glp(folder, "final"), reference) if reference else None


@st.cache_resource(show_spinner=False, max_entries=64)
def _direction(folder: Path, name: str) -> Direction:
    if neuron_directions.is_neuron(name):
        return neuron_directions.make(_workspace(folder), _glp(folder, "final"), name)
    return _workspace(folder).direction(name)


def device_title() -> str:
    """Return the name of the device that computes, or what there is to say before torch is loaded."""
    job = warm_up()
    if job.live or job.error:
        return os.environ.get("GLP_EXPLORER_DEVICE") or "auto"
    from glp_core.devices import device_title as title

    return title(llm().device)


def number_type() -> str:
    """Return the number type that the models run in, or why there is none yet."""
    job = warm_up()
    if job.live:
        return "models are loading"
    return "models could not be loaded" if job.error else str(llm().dtype).removeprefix("torch.")
