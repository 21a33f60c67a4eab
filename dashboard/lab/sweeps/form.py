"""What to sweep: the form, filled in with something that runs at once, or with the settings of the run that the address names."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection

import streamlit as st

from dashboard.lab.sweeps import running
from dashboard.service import resources, workspace_facts
from dashboard.widgets import charts, frame
from dashboard.widgets.texts.two_classes import LARGEST_UPLOAD
from glp_core.errors import GlpError
from glp_core.files import parse_json
from glp_core.steering.direction_facts import DirectionFacts
from glp_core.steering.origins.labelled_texts import read_column
from glp_core.steering.sweeps.cells import count
from glp_core.steering.sweeps.config import ARMS, FORMAT, HOTTEST, MOST_TEXTS, Along, Scorer, SweepConfig
from glp_core.steering.sweeps.scores import ENDPOINT_VARIABLE, KEY_VARIABLE, MODEL_VARIABLE, WORDING
from glp_core.steering.sweeps.store import SweepStore, written

KEY = "lab_sweep_"
MOST_TOKENS = 256
"""Of a text, that the form asks for."""
FILLED, UPLOAD = "lab_sweep_filled", "lab_sweep_upload"
STRENGTHS = (0.15, 0.3, 0.5, 0.8, 1.2)
PROMPTS = 8
OWN_PROMPTS = (
    "I went out last night, and",
    "The first thing to know is",
    "My neighbour told me that",
    "The report begins with",
)
"""Where the workspace has no prefixes."""
SCORERS = {"the direction's probe": "probe", "words": "lexicon", "a server": "server"}
CPU_RATE, ACCELERATOR_RATE = 3e10, 6e12
"""Bytes of weights times tokens a second, about, before a sweep of the workspace has been timed."""


def draw(run: SweepConfig | None) -> SweepConfig | None:
    """Draw the form; return what it asks for, None when that does not fit (which is said)."""
    directions = workspace_facts.directions()
    _fill(run or st.session_state.get(FILLED) or _default(directions))
    titles = _titles(directions)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.multiselect(
            "Directions", list(titles), format_func=lambda name: titles.get(name, name), key=f"{KEY}along", width=330
        )
        words = "In median norms. 0 is always written."
        st.text_input("Strengths", key=f"{KEY}strengths", help=words, width=230)
        st.number_input("Tokens", 1, MOST_TOKENS, key=f"{KEY}tokens", step=8, width=100)
        st.number_input("Seeds", 1, 16, key=f"{KEY}seeds", width=90, help="Each gives every prompt noise of its own.")
        st.number_input("Temperature", 0.0, HOTTEST, key=f"{KEY}temperature", step=0.1, width=110)
    st.pills(
        "Arms", ARMS, selection_mode="multi", format_func=charts.ARM_TITLES.__getitem__, key=f"{KEY}arms",
        help="Wrong sign and random direction are walked too: controls that should gain nothing.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = "Of the paper's projection and the Gaussian prior; several make a heat map."
        st.text_input("Noise levels", key=f"{KEY}levels", help=words, width=150)
        words = "Empty: as tuned here, by the length of the push."
        st.text_input("Noise levels of the walk", key=f"{KEY}walks", help=words, placeholder="as tuned", width=190)
        scorer = st.selectbox("Concept scored by", list(SCORERS), key=f"{KEY}scorer", width=200)
        if SCORERS[scorer] == "lexicon":
            st.text_input("Words, separated by commas", key=f"{KEY}words", width=330)
        st.text_input("Name", key=f"{KEY}title", max_chars=100, placeholder="of the run", width=180)
        if SCORERS[scorer] == "server":
            st.text_input("The concept, in words", key=f"{KEY}concept", width=330)
    if SCORERS[scorer] == "server":
        _server()
    _prompts()
    with frame.boxed_errors():
        config = _config(titles)
        st.session_state[FILLED] = config
        return config
    return None


def asked() -> SweepConfig:
    """Return what the form asks for now, also in a callback; GlpError when that does not fit."""
    return _config(_titles(workspace_facts.directions()))


def _titles(directions: list[DirectionFacts]) -> dict[str, str]:
    return {one.name: one.title for one in directions}


def _server() -> None:
    """Say which server scores; it is the operator's choice, so that no visitor can send requests or a key anywhere."""
    endpoint = os.environ.get(ENDPOINT_VARIABLE)
    if not endpoint:
        frame.notice_box(
            f"No server is set up. Whoever runs this dashboard sets {ENDPOINT_VARIABLE}, {MODEL_VARIABLE} and, where one is needed, "
            f"{KEY_VARIABLE} in its environment."
        )
        return
    with st.expander("The question, in your own words", icon=":material/edit:"):
        st.text_area("Question", key=f"{KEY}wording", height=180, placeholder=WORDING, label_visibility="collapsed")
        st.caption(
            "{concept}, {prompt} and {text} stand for those. The answer must be JSON with concept and fluency, 0 to 2 each."
        )


def _prompts() -> None:
    lines = [line for line in st.session_state[f"{KEY}prompts"].splitlines() if line.strip()]
    with st.expander(f"Prompts ({len(lines)}), or an exported sweep", icon=":material/edit:"):
        left, right = st.columns([3, 2])
        left.text_area("Prompts, one per line", key=f"{KEY}prompts", height=190)
        right.file_uploader(
            "A table with a column prompt or text, plain text, or a sweep's config.json",
            type=["csv", "tsv", "json", "jsonl", "txt"], key=UPLOAD, on_change=_uploaded,
            max_upload_size=LARGEST_UPLOAD,
        )  # fmt: skip
        with right:
            if problem := st.session_state.get(f"{UPLOAD}_problem"):
                frame.error_box(problem)
            if left_out := st.session_state.get(f"{UPLOAD}_left_out"):
                whole = workspace_facts.command("sweep-steering config.json")
                frame.notice_box(
                    f"The form does not hold all of that sweep: {'; '.join(left_out)}. Run it whole with `{whole}`."
                )


def _uploaded() -> None:
    """Take over what was uploaded (in a callback)."""
    file = st.session_state[UPLOAD]
    for kept in ("problem", "left_out"):
        st.session_state.pop(f"{UPLOAD}_{kept}", None)
    if file is None:
        return
    try:
        frame.check_size(file.size, LARGEST_UPLOAD)
        read = read_upload(file.name, file.getvalue())
        if isinstance(read, SweepConfig):
            refill(read)
            st.session_state[f"{UPLOAD}_left_out"] = not_held(read, {one.name for one in workspace_facts.directions()})
        else:
            st.session_state[f"{KEY}prompts"] = "\n".join(read)
    except GlpError as error:
        st.session_state[f"{UPLOAD}_problem"] = str(error)


def not_held(config: SweepConfig, directions: Collection[str]) -> list[str]:
    """Return what of a sweep the form does not hold, in words; `directions`: names of those that there are."""
    missing = [one.title for one in config.directions if one.name not in directions]
    differ = {
        f"no direction {', '.join(missing)} here": bool(missing),
        "each direction's own strengths": len({one.strengths for one in config.directions}) > 1,
        f"{config.tokens} tokens, {MOST_TOKENS} at most": config.tokens > MOST_TOKENS,
        "seeds other than 0, 1 and so on": config.seeds != tuple(range(len(config.seeds))),
        f"walks of {config.walk_pushes} parts": bool(config.walk_levels) and config.walk_pushes != SweepConfig.walk_pushes,
        "line breaks and double spaces in prompts": any(" ".join(prompt.split()) != prompt for prompt in config.prompts),
    }
    return [words for words, is_so in differ.items() if is_so]


def read_upload(name: str, data: bytes) -> SweepConfig | list[str]:
    """Return the sweep that a file describes, or the prompts that it holds, each on one line; GlpError when it is neither."""
    if FORMAT.encode() in data[:2000]:
        try:
            value = parse_json(data)
        except (ValueError, RecursionError) as error:
            raise GlpError(f"The sweep's configuration is no JSON: {error}.") from error
        return SweepConfig.from_json(value)
    if name.lower().endswith(".txt"):
        texts = data.decode("utf-8", "replace").splitlines()
    else:
        texts = read_column(data, ("prompt", "text"))
    prompts = list(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))
    if not prompts:
        raise GlpError("The file holds no prompts.")
    return prompts


def refill(config: SweepConfig) -> None:
    """Let the form show these settings (in a callback)."""
    st.session_state[FILLED] = config
    for name, value in _values(config).items():
        st.session_state[KEY + name] = value


def _fill(config: SweepConfig) -> None:
    """Give the widgets that have no value yet these settings."""
    for name, value in _values(config).items():
        st.session_state.setdefault(KEY + name, value)


def _values(config: SweepConfig) -> dict[str, object]:
    known = {one.name for one in workspace_facts.directions()}
    scorer = config.scorer
    return {
        "along": [one.name for one in config.directions if one.name in known],
        "strengths": _joined(config.directions[0].strengths),
        "title": config.title,
        "tokens": min(MOST_TOKENS, config.tokens),
        "seeds": len(config.seeds),
        "temperature": float(config.temperature),
        "arms": list(config.arms),
        "levels": _joined(config.noise_levels),
        "walks": _joined(config.walk_levels),
        "scorer": next(title for title, kind in SCORERS.items() if kind == scorer.kind),
        "words": ", ".join(scorer.words),
        "concept": scorer.concept,
        "wording": scorer.wording,
        "prompts": "\n".join(" ".join(prompt.split()) for prompt in config.prompts),
    }


def _joined(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.10g}" for number in numbers)


def _default(directions: list[DirectionFacts]) -> SweepConfig:
    """Return a sweep that runs at once: a few prompts along the direction that Steering opens with, every arm."""
    press = (workspace_facts.report("first_press") or {}).get("direction")
    sentiment = next((one for one in directions if "sentiment" in one.title.lower()), directions[0])
    first = next((one for one in directions if one.name == press), sentiment)
    try:
        prompts = tuple(workspace_facts.read().prefixes("validation_prefixes")[:PROMPTS])
    except GlpError:
        prompts = OWN_PROMPTS
    return SweepConfig(prompts, (Along(first.name, first.title, STRENGTHS),))


def _config(titles: dict[str, str]) -> SweepConfig:
    """Return what the widgets ask for; GlpError when it does not fit."""
    directions = workspace_facts.directions()
    if not directions:
        raise GlpError("The workspace has no direction any more: make one in the Lab.")
    state = {name: st.session_state.get(KEY + name) for name in _values(_default(directions))}
    gone = next((name for name in state["along"] or () if name not in titles), None)
    if gone:
        raise GlpError(f"There is no direction {gone!r} any more: take it out, or choose another.")
    strengths = _numbers("Strengths", str(state["strengths"]))
    along = tuple(Along(name, titles[name], tuple(s for s in strengths if s)) for name in state["along"] or ())
    if not along:
        raise GlpError("No direction is chosen: choose at least one.")
    arms = tuple(arm for arm in ARMS if arm in (state["arms"] or ()))
    prompts = tuple(dict.fromkeys(line.strip() for line in str(state["prompts"]).splitlines() if line.strip()))
    return SweepConfig(
        prompts=prompts,
        directions=along,
        arms=arms,
        noise_levels=_numbers("Noise levels", str(state["levels"])),
        walk_levels=_numbers("Noise levels of the walk", str(state["walks"] or "")),
        seeds=tuple(range(int(state["seeds"] or 1))),
        tokens=int(state["tokens"] or 1),
        temperature=round(float(state["temperature"] or 0), 3),
        scorer=_scorer(state),
        title=str(state["title"] or "").strip(),
    )


def _scorer(state: dict[str, object]) -> Scorer:
    kind = SCORERS[str(state["scorer"])]
    if kind == "lexicon":
        return Scorer("lexicon", tuple(dict.fromkeys(word.strip() for word in str(state["words"]).split(",") if word.strip())))
    if kind == "server":
        endpoint, model = os.environ.get(ENDPOINT_VARIABLE, ""), os.environ.get(MODEL_VARIABLE, "")
        return Scorer("server", (), str(state["concept"] or ""), str(state["wording"] or ""), endpoint, model)
    return Scorer()


def _numbers(what: str, words: str) -> tuple[float, ...]:
    """Return the different numbers of a text, as they are separated by spaces or commas."""
    try:
        return tuple(dict.fromkeys(float(part) for part in re.split(r"[\s,;]+", words) if part))
    except ValueError as error:
        raise GlpError(f"{what}: {words[:60]!r} holds something that is no number. Write, for example, 0.3 0.6 1.2.") from error


def cost(config: SweepConfig) -> tuple[int, int, str]:
    """Return how many texts a sweep has, how many of them are written already, and how long the others take, in words."""
    total = count(config)
    if total > MOST_TEXTS:
        raise GlpError(f"That is {total:,} texts, wanted at most {MOST_TEXTS:,}: take fewer strengths, arms, seeds or prompts.")
    if resources.warm_up().live or resources.warm_up().error:
        return total, 0, "The models are loading"
    running.check_probes(config)
    store = SweepStore(workspace_facts.folder() / "sweeps")
    done = written(store.found(running.stamp(config)))
    rate = running.rate(workspace_facts.folder()) or _guessed_rate()
    return total, done, f"about {duration((total - done) * config.tokens / rate)}" if rate else "the first ones tell how long"


def _guessed_rate() -> float:
    """Return how many tokens a second a sweep may write, by the model's size; 0 where that is not known."""
    here = resources.workspace()
    try:
        return (CPU_RATE if here.device == "cpu" else ACCELERATOR_RATE) / max(1, here.llm_bytes)
    except GlpError:
        return 0.0


def duration(seconds: float) -> str:
    """Return a time in words, with no more digits than it has."""
    if math.isnan(seconds):
        return "some time"
    if seconds < 90:
        return f"{max(1, round(seconds / 5) * 5 or round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
