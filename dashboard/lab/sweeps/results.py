"""What a sweep found, on the page: the curves, the verdict in words, the texts of a point, equally fluent pairs, the setting to use."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from dashboard.lab.sweeps import figures
from dashboard.widgets import charts, frame, url
from glp_core.files import Json
from glp_core.steering.sweeps.cells import PROMPTED, UNSTEERED, Cell, Text
from glp_core.steering.sweeps.config import SweepConfig
from glp_core.steering.sweeps.scores import Found, Marks, concept_of, question_name
from glp_core.steering.sweeps.store import Entry

if TYPE_CHECKING:
    from glp_core.steering.sweeps.pairs import Pair, Side

LONGEST_PUSH = 3.0
"""That the Steering page opens with."""
TEXTS, PAIRS = 12, 6
"""That are shown at first."""
STYLE = (
    ".glp-texts{display:grid;gap:.5rem;margin:.2rem 0}.glp-two{grid-template-columns:1fr 1fr}"
    ".glp-texts>div{border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.45rem .6rem;font-size:.88rem}"
    ".glp-texts b{font-weight:600}.glp-texts small{opacity:.75;display:block;margin-top:.2rem}"
    ".glp-texts .glp-prompt{opacity:.7}.glp-texts p{margin:0!important;white-space:pre-wrap;overflow-wrap:anywhere}"
)
"""Of the texts, on the page and in files."""


class Shown(NamedTuple):
    """A sweep as it is shown."""

    run: str
    config: SweepConfig
    found: Found
    judged: dict[str, Marks]
    report: Json
    """As `analyse` gives it."""


def draw(shown: Shown, *, key: str, live: bool = False) -> None:
    """Draw all that a sweep found, or has found so far while it is `live`."""
    from glp_core.steering.sweeps import words

    if live and not shown.report:
        st.caption("The first texts are being written: those that all others are compared with.")
    for said in [] if live else words.unfound(shown.config, shown.found, shown.judged, shown.report):
        frame.notice_box(said)
    if not shown.report:
        return
    name = _along(shown, key)
    entry = shown.report[name]
    left, right = st.columns([5, 3], gap="medium")
    with left:
        event = frame.figure(
            figures.frontiers(entry),
            key=f"{key}_frontiers_{name}",
            alt="Fluency against concept gained, one curve an arm, strength along it",
            on_select="rerun",
            selection_mode="points",
        )
    with right:
        best = entry["best"]
        for sentence in words.found(entry):
            mark = "**" if sentence.startswith(words.BEST) else ""
            st.markdown(f"{mark}{frame.plain_markdown(sentence)}{mark}")
        if best is not None and abs(best["strength"]) <= LONGEST_PUSH:
            st.link_button(
                "Open the setting in Steering", steering_link(shown.config, name, best), icon=":material/open_in_new:"
            )
        seeds = f", {entry['seeds']} seeds each" if entry["seeds"] > 1 else ""
        st.caption(
            f"{entry['n']} prompts{seeds}. Bands, and bars of raw and walk, are 95% over prompts. Click a point for its texts."
        )
    chosen = clicked(event)
    if chosen is not None:
        _texts(shown, name, *chosen)
    for arm in figures.heat_arms(entry):
        frame.heading(f"{charts.ARM_TITLES[arm]}: noise level and strength")
        frame.figure(
            figures.heat_map(entry, arm), key=f"{key}_heat_{arm}", alt="Gain times fluency by noise level and strength"
        )
    _pairs(shown, name, key)


def _along(shown: Shown, key: str) -> str:
    """Return the direction that is shown, chosen where there are several."""
    titles = {name: entry["title"] for name, entry in shown.report.items()}
    if len(titles) == 1:
        return next(iter(titles))
    choose = st.segmented_control(
        "Direction", list(titles), format_func=titles.__getitem__, default=next(iter(titles)), required=True, key=f"{key}_along"
    )
    return str(choose)


def clicked(event: object) -> tuple[str, float] | None:
    """Return the curve and the strength of the point that was clicked."""
    points = event["selection"]["points"] if isinstance(event, dict) and event else []
    data = points[0].get("customdata") if points else None
    return (str(data[0]), float(data[1])) if data else None


def _texts(shown: Shown, direction: str, series: str, strength: float) -> None:
    """Draw the texts of a point, beside the unsteered ones."""
    cell = next(
        (cell for cell in shown.found if (cell.direction, cell.series, cell.strength) == (direction, series, strength)), None
    )
    if cell is None:
        return
    called = (
        charts.ARM_TITLES[cell.arm]
        if cell.noise_level is None
        else f"{charts.ARM_TITLES[cell.arm]}, noise level {cell.noise_level:g}"
    )
    frame.heading(f"{called} at strength {strength:g}" if cell.arm != PROMPTED else called)
    rows = list(shown.found[cell].items())
    plain = shown.found.get(Cell(direction, UNSTEERED, 0.0, None), {})
    more = st.toggle(f"All {len(rows)} texts", key="lab_sweep_all_texts") if len(rows) > TEXTS else True
    parts = []
    for text, _ in rows if more else rows[:TEXTS]:
        parts += [box(shown, text, plain, "Unsteered"), box(shown, text, shown.found[cell], called)]
    st.html(f'<style>{STYLE}</style><div class="glp-texts glp-two">{"".join(parts)}</div>')


def box(shown: Shown, text: Text, entries: Mapping[Text, Entry], title: str) -> str:
    """Return one text of a cell with its numbers as escaped HTML; an empty place where it is not there."""
    entry = entries.get(text)
    if entry is None:
        return "<div></div>"
    concept = concept_of(shown.config, shown.judged)(text, entry)
    said = "not judged" if math.isnan(concept) else f"concept {concept:.2f}"
    facts = [said, f"log-probability {entry.log_probability:.2f}", f"{entry.repetition:.0%} repeated"]
    marks = shown.judged.get(question_name(text, entry))
    if marks:
        facts.append(f"marks {marks.concept:g} and {marks.fluency:g} of 2, both {marks.both:.2f}")
    return text_box(title, text.prompt, entry.text, facts)


def text_box(title: str, prompt: str, words: str, facts: Sequence[str]) -> str:
    """Return a text with its prompt and numbers as escaped HTML."""
    safe = [html.escape(frame.visible(part), quote=True) for part in (title, prompt, words, " · ".join(facts))]
    return f'<div><b>{safe[0]}</b><p><span class="glp-prompt">{safe[1]}</span>{safe[2]}</p><small>{safe[3]}</small></div>'


def _pairs(shown: Shown, direction: str, key: str) -> None:
    """Draw raw and walked texts of about the same fluency, after the same prompts."""
    from glp_core.steering.sweeps.pairs import pairs

    found = pairs(shown.config, shown.found, direction, shown.judged)
    if not found:
        return
    other_way = pairs(shown.config, shown.found, direction, shown.judged, best_of="walk")
    frame.heading("Equally fluent: raw against the walk")
    st.markdown(pair_words(found, other_way))
    more = st.toggle(f"All {len(found)} pairs", key=f"{key}_all_pairs") if len(found) > PAIRS else True
    st.html(f"<style>{STYLE}</style>{pairs_html(found if more else found[:PAIRS])}")


def pair_words(raw_s_best: Sequence[Pair], walk_s_best: Sequence[Pair]) -> str:
    """Say which of the two shows more of the concept, with either's best text taken first."""
    from glp_core.steering.sweeps.pairs import counts

    one, other = counts(raw_s_best), counts(walk_s_best)
    return (
        f"Two texts of about the same fluency (within 0.1) after the same prompt. Beside raw's best text, by concept × fluency over all "
        f"strengths, the walk's with most of the concept shows more of it in **{one.more}** of {one.of}, less in **{one.less}**; beside "
        f"the walk's best, raw's shows less in **{other.more}** of {other.of}, more in **{other.less}**. Choosing so "
        f"favours one side by itself, so only both together say something: the walk more in **{one.more + other.more}**, less in "
        f"**{one.less + other.less}** of {one.of + other.of}. Below are the pairs with raw's best."
    )


def pairs_html(found: Sequence[Pair]) -> str:
    """Return pairs side by side as escaped HTML."""
    parts = [_side(pair.prompt, side, title) for pair in found for side, title in ((pair.raw, "raw"), (pair.walk, "walk"))]
    return f'<div class="glp-texts glp-two">{"".join(parts)}</div>'


def _side(prompt: str, side: Side, arm: str) -> str:
    facts = (f"concept {side.concept:.2f}", f"fluency {side.fluency:.2f}")
    return text_box(f"{charts.ARM_TITLES[arm]} at strength {side.strength:g}", prompt, side.text, facts)


def steering_link(config: SweepConfig, direction: str, best: Json) -> str:
    """Return the address of the Steering page with a setting, after the sweep's first prompt."""
    along = next(one for one in config.directions if one.name == direction)
    text = Text(config.prompts[0], config.seeds[0])
    projection = {"walk": "walk", "glp": "paper's projection", "norm": "norm-restored", "gaussian": "Gaussian prior"}
    values: dict[str, object] = {
        "steering_prompt": text.prompt,
        "steering_mode": "continue",
        "steering_direction": along.title,
        "steering_strength": best["strength"],
        "steering_tokens": config.tokens,
        "steering_temperature": config.temperature,
        "steering_seed": text.noise_seed,
        "steering_projection": projection.get(best["arm"], "walk"),
    }
    level = best["noise_level"]
    if best["arm"] == "walk" and level is not None:
        values |= {"steering_walk": "own numbers", "steering_walk_noise": level, "steering_pushes": config.walk_pushes}
        values |= {"steering_hold": 0, "steering_bound": 0}
    if best["arm"] in ("glp", "gaussian"):
        values |= {"steering_noise": level, "steering_solver": "euler", "steering_steps": 20}
    return url.page_link("steering", values)
