"""This session's run: the job that compares the arms of a request, and what Run, Stop and Live do to it. Draws nothing."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import streamlit as st

from dashboard.service import layers, neurons, priors, resources, workspace_facts
from dashboard.service.results import small_results
from dashboard.steering import stack
from dashboard.steering.comparison import CleanReading, Comparison, Event, RunFacts, collect
from dashboard.steering.request import TUNED, WITHOUT_EFFECT, Request, changed, checked, widget_values
from dashboard.widgets import starred
from dashboard.widgets.url import Param
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.jobs.job import Cancelled, Job, Work
from glp_core.steering.direction_facts import DirectionFacts

if TYPE_CHECKING:
    from torch import Tensor

    from glp_core.llm.decoding import Context
    from glp_core.llm.model import Llm
    from glp_core.llm.site import Site
    from glp_core.neuron_index.reading import NeuronFires
    from glp_core.prior.projection import Kind, Projector
    from glp_core.prior.walk import WalkRule, WalkSettings
    from glp_core.steering.generation import Arm, Step
    from glp_core.steering.where import Where

RUN, TRIED, ERROR = "steering_run", "steering_tried", "steering_error"
FILES = ("workspace.json", *(f"reports/{name}.json" for name in ("walk_tuning", "layers", "reference")), "neurons/index.json")
"""Of the workspace: whatever is asked for, texts and their numbers depend on them."""
Params = Mapping[str, Param]


@dataclass(frozen=True)
class SteeringRun:
    """One press of Run."""

    request: Request
    job: Job
    written_with: tuple[object, ...]
    """What `made_from` said when it began."""

    @property
    def outdated(self) -> bool:
        """Whether a direction, the prior or the workspace was written anew since it began."""
        return self.written_with != made_from(self.request)

    @property
    def live(self) -> bool:
        """Whether it waits or writes."""
        return self.job.live

    def changed(self, params: Params, directions: Sequence[DirectionFacts]) -> list[str]:
        """Return the names of what is other than when it began: controls, and what its texts were written with."""
        return [*changed(self.request, params, directions), *(["a direction or the prior, made anew"] if self.outdated else [])]

    @property
    def left(self) -> bool:
        """Whether its page went away a moment ago, before it was finished."""
        unfinished = self.live or self.job.given_up
        return unfinished and self.job.unseen < resources.away() and not resources.connected(self.job.session)

    def comparison(self) -> Comparison:
        """Return what it has yielded so far."""
        return collect(self.request, list(self.job.events))


def current() -> SteeringRun | None:
    """Return this session's last run."""
    return st.session_state.get(RUN)


def restore(params: Params, directions: Sequence[DirectionFacts]) -> None:
    """Take the last run of what the widgets ask for, if this session has none yet.

    It is a finished one of any session, since the texts of a request and a seed are always the same, or one that was left in its midst:
    the browser's page was loaded again.
    """
    if current() is None:
        with suppress(GlpError):
            run = _last(checked(widget_values(params), params, directions))
            if run is not None and (run.job.state == "done" or run.left):
                st.session_state[RUN] = run


def _finished(request: Request) -> SteeringRun | None:
    run = _last(request)
    return run if run is not None and run.job.state == "done" else None


def _last(request: Request) -> SteeringRun | None:
    return small_results().get(*made_from(request))


def made_from(request: Request) -> tuple[object, ...]:
    """Return what a run's texts depend on: the request, and when the files that it uses were written."""
    folder = workspace_facts.folder()
    priors_folder = next((one.folder for one in priors.listed() if one.name == request.prior), folder / "glp")
    files = (
        *(folder / name for name in FILES),
        *(folder / "directions" / f"{name}.safetensors" for name in _directions(request)),
        priors_folder / "final.safetensors",
    )
    return "steering", folder, [file.stat().st_mtime if file.is_file() else None for file in files], request


def _directions(request: Request) -> list[str]:
    return [request.direction, request.probe, *(part.name for part in request.others)]


def live() -> bool:
    """Say whether this session has a run that waits or writes."""
    run = current()
    return run is not None and run.live


def error() -> str:
    """Return why the last Run could not begin, empty when it did."""
    return st.session_state.get(ERROR, "")


def stop() -> None:
    """End this session's run, if it has one."""
    run = current()
    if run is not None:
        run.job.stop()


def start(params: Params, directions: Sequence[DirectionFacts], *, anew: bool = True) -> None:
    """Check the widgets' values and queue a run in place of this session's last one; what does not fit is said, nothing is lost.

    Args:
        anew: write the texts again where a finished run of the same request is kept.
    """
    st.session_state.pop(ERROR, None)
    st.session_state[TRIED] = _decisive(params)
    values = widget_values(params)
    try:
        request = checked(values, params, directions)
        stop()
        finished = None if anew else _finished(request)
        st.session_state[RUN] = finished or _begun(request, stays=values["stay"] is True)
    except GlpError as error:
        st.session_state[ERROR] = str(error)


def _begun(request: Request, *, stays: bool) -> SteeringRun:
    columns = len(request.arms)
    written_with = made_from(request)
    job = resources.submit(work(request), title="steering", rows=columns, stays=stays, tokens=columns * request.max_tokens)
    run = SteeringRun(request, job, written_with)
    small_results().put(run, *written_with)
    return run


def keep_up(params: Params, directions: Sequence[DirectionFacts]) -> None:
    """With Live on, start a run whenever a control that matters has changed since the last one."""
    if widget_values(params)["live"] is True and st.session_state.get(TRIED) != _decisive(params):
        start(params, directions, anew=False)


def _decisive(params: Params) -> Json:
    return {name: value for name, value in widget_values(params).items() if name not in WITHOUT_EFFECT}


def work(request: Request) -> Work:
    """Return the job that compares the arms: it yields RunFacts, Steps as they come, and at the end a CleanReading for each arm."""

    def run(cancelled: Cancelled) -> Generator[Event]:
        from glp_core.steering.generation import Row, Sampling

        site, meter = resources.site(request.layer), resources.meter(request.layer)
        direction = resources.direction(request.direction)
        chat = [{"role": "user", "content": request.prompt}]
        ids = site.llm.encode_chat(chat) if request.mode == "chat" else site.llm.encode(request.prompt)
        written: dict[str, list[Step]] = {arm: [] for arm in request.arms}
        sampling = Sampling(request.max_tokens, request.temperature, seed=request.seed)
        rows = [Row(ids, arm, request.seed) for arm in arms_of(request, site.llm, ids)]
        span = rows[1].arm.where.span
        with resources.batch().writing(site, rows, sampling, meter) as writer:
            # whoever begins now joins before the first step
            yield RunFacts(meter.band() if meter else None, len(ids), site.llm.pieces(ids) if span else [], span)
            while writer.open and not cancelled():
                steps = [step for _, step in writer.next()]
                for step in steps:
                    written[step.arm].append(step)
                yield steps
        if cancelled():
            return
        home = resources.site()  # the layer that the direction's probe reads
        prompt = writer.read or (yield from _read_again(home, ids, cancelled))
        if cancelled():
            return
        log_probabilities, means = _read(home, ids, list(written.values()), prompt)
        for arm, numbers, concept in zip(written, log_probabilities, direction.concept(means).tolist(), strict=True):
            yield CleanReading(arm, numbers, concept)

    return run


def _read_again(home: Site, ids: Sequence[int], cancelled: Cancelled) -> Generator[list[Step], None, Context | None]:
    """Read a long prompt with the unsteered model, in parts, between which others have their turns; None where it takes no time.

    Once it is cancelled no further part is read.
    """
    from glp_core.llm.decoding import Context, shares_prompts
    from glp_core.steering.shared_batch import READ_AT_ONCE

    if len(ids) <= READ_AT_ONCE or home.llm.device.type != "cpu" or not shares_prompts(home.llm):
        return None
    prompt = Context(home.llm, [ids], at_once=READ_AT_ONCE)
    while prompt.reading and not cancelled():
        yield []
        prompt.read_on()
    return prompt


def _read(
    home: Site, ids: Sequence[int], written: Sequence[Sequence[Step]], prompt: Context | None = None
) -> tuple[list[list[float]], Tensor]:
    """Do what `clean_reading` does for the arms' texts, the unsteered one first, which was read while it was written.

    It is read again where that is as quick, after a long prompt, and beside a text that is the same, to get the same numbers.
    """
    import torch

    from glp_core.steering.generation import clean_reading, mean_activation

    plain, *steered = ([step.token for step in steps] for steps in written)
    if plain in steered or len(ids) > len(plain):
        return clean_reading(home, ids, [plain, *steered], prompt)
    read, means = clean_reading(home, ids, steered, prompt)
    return [[step.log_probability for step in written[0]], *read], torch.cat([mean_activation(home, ids, plain), means])


def arms_of(request: Request, llm: Llm, ids: Sequence[int]) -> list[Arm]:
    """Return the arms that a request compares after a prompt's ids, left to right; for jobs only.

    Raises:
        GlpError: the push cannot act where it is told to.
    """
    from glp_core.prior.projection import make_projector
    from glp_core.steering.directions import stacked
    from glp_core.steering.generation import Arm

    vector, strength = resources.direction(request.direction).vector, request.strength
    if request.others:
        others = [(resources.direction(part.name).vector, part.strength) for part in request.others]
        vector, strength = stacked([(vector, strength), *others])
    where = _where(request, llm, ids)
    projectors = {"raw": make_projector("none")}
    for name in request.arms[2:]:
        projectors[name] = projector(request, cast("Kind", name))
    return [Arm("unsteered"), *(Arm(name, vector, strength, one, where) for name, one in projectors.items())]


def _where(request: Request, llm: Llm, ids: Sequence[int]) -> Where:
    from glp_core.steering.where import GENERATED, ProbeFires, Where, span_of

    if request.where == stack.ALL:
        return Where(span=(0, len(ids)))
    if request.where == stack.WORDS:
        return Where(generated=False, span=span_of(llm.pieces(ids), request.span, within=request.prompt))
    if request.depends and layers.of(request.layer) is not None:
        raise GlpError(
            f"A push that depends on a neuron or a probe acts at layer {resources.workspace().layer}: choose that one."
        )
    if request.where == stack.NEURON:
        return Where(only=_neuron(request))
    if request.where == stack.PROBE:
        probe = resources.direction(request.probe)
        if not probe.has_probe:
            raise GlpError(f"{probe.title} has no concept probe: measure it on texts in the Lab, or choose another.")
        return Where(only=ProbeFires(probe, request.probability))
    return GENERATED


def _neuron(request: Request) -> NeuronFires:
    from glp_core.neuron_index.reading import NeuronFires

    index = neurons.index()
    glp = neurons.prior_of(index)
    layer, neuron = starred.parse_neuron(request.neuron)
    if layer >= glp.n_layers or neuron >= glp.d_mlp:
        raise GlpError(f"There is no neuron {layer}/{neuron}: layers go to {glp.n_layers - 1}, neurons to {glp.d_mlp - 1}.")
    return NeuronFires(glp, index.reading, layer, neuron, request.beyond * float(index.tail[layer * glp.d_mlp + neuron]))


def projector(request: Request, kind: Kind) -> Projector:
    """Return a projector with a request's settings; for jobs only.

    Raises:
        GlpError: so few steps have no level near the one that is asked for; the Gaussian prior is asked for at another layer than
            its own, or there is none.
    """
    from glp_core.prior import flow
    from glp_core.prior.projection import make_projector

    if kind in ("glp", "gaussian"):
        flow.check_start(request.solver, request.noise_level, request.steps)
    workspace, glp = resources.workspace(), resources.prior(request.prior, request.layer)
    if kind == "gaussian" and layers.of(request.layer) is not None:
        raise GlpError(f"The Gaussian prior is of layer {workspace.layer}: choose that layer, or another projection.")
    return make_projector(
        kind,
        glp=glp,
        covariance=workspace.covariance() if kind == "gaussian" else None,
        noise_level=request.noise_level,
        steps=request.steps,
        solver=request.solver,
        walk=_tuned_walk(request) if request.walk == TUNED else _own_walk(request),
    )


def _tuned_walk(request: Request) -> WalkRule | WalkSettings:
    """Return how the workspace's walks go, at another layer with the bound that was measured there."""
    from glp_core.prior.reference import Reference

    walk, other = resources.workspace().walk(), layers.of(request.layer)
    return walk if other is None else walk.bounded_by(Reference(other.reference))


def _own_walk(request: Request) -> WalkSettings:
    from glp_core.prior.walk import Bound, WalkSettings

    own = WalkSettings(request.walk_noise, request.pushes, request.hold)
    if not request.bound:
        return own
    meter = resources.meter(request.layer)
    if meter is None:
        raise GlpError(
            f"A bound is measured on real activations: do it with `{workspace_facts.command('evaluate')}`, or set the bound to 0."
        )
    return replace(own, bound=Bound.at(meter.reference, request.bound))
