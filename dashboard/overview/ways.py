"""The ways from the Overview into the pages: one story in five clicks, and an example of each page; links that carry state."""

from contextlib import suppress
from typing import NamedTuple

import streamlit as st

from dashboard.service import neurons, workspace_facts
from dashboard.service.neurons import task_title
from dashboard.widgets import frame, url
from dashboard.widgets.starred import neuron_name
from glp_core.errors import GlpError
from glp_core.files import Json

STEP_WIDTH, CARD_WIDTH = 178, 307
"""Pixels: five steps, or three cards, fit side by side at 1280."""


class Card(NamedTuple):
    """One way into a page, with an example filled in."""

    page: str
    """File name without .py."""
    title: str
    words: str
    icon: str
    query: dict[str, str]
    """Query parameters of the example."""


CARDS = (
    Card(
        "steering",
        "Steer side by side",
        "Push the model towards a concept, with and without the prior, and see token by token what each push does to the text.",
        ":material/tune:",
        {},
    ),
    Card(
        "lab",
        "Make a direction of your own",
        "From texts, two instructions, a neuron or a file, with the evidence that it is one; then steer along it.",
        ":material/science:",
        {},
    ),
    Card(
        "neurons",
        "Browse meta-neurons",
        "Hidden neurons of the prior: which ones fire on a text, and what else do they fire on?",
        ":material/hub:",
        {},
    ),
    Card(
        "concepts",
        "Find a concept's neuron",
        "113 concepts, each with the neuron that detects it best, against three baselines.",
        ":material/category:",
        {},
    ),
    Card(
        "scaling",
        "See what compute buys",
        "Loss and downstream scores against training compute, with the fitted law.",
        ":material/show_chart:",
        {},
    ),
    Card(
        "manifold",
        "Measure manifold distance",
        "How far the activations of a text, or of a steered token, are from real ones.",
        ":material/scatter_plot:",
        {},
    ),
)


def story() -> list[Card]:
    """Return the five steps of the story, in order: what steering does, how it breaks and holds, why, how far, at what price."""
    return [
        Card(
            "steering",
            "Steer",
            "Press Run: the same prompt three times, written freely, pushed, and pushed along the manifold.",
            ":material/tune:",
            {},
        ),
        _second(),
        _neuron(),
        Card(
            "manifold",
            "See the distance",
            "Press Run: how far each push takes an activation from real ones, and where text breaks.",
            ":material/straighten:",
            {"manifold_view": "Strength"},
        ),
        Card(
            "scaling",
            "See the law",
            "More compute makes a better prior: by how much, and what that buys.",
            ":material/show_chart:",
            {},
        ),
    ]


def _second() -> Card:
    """Return the step to a second text whose raw one alone breaks, as `first-press` found and stored it."""
    title, icon = "See it break", ":material/bolt:"
    with suppress(GlpError, KeyError, TypeError, ValueError, AttributeError, StopIteration):  # damaged: without numbers
        report = workspace_facts.report("first_press") or {}
        second, strength = report["second"], float(report["second"]["strength"])
        facts = next(one for one in workspace_facts.directions() if one.name == second["direction"])
        repeated = {arm: float(second["columns"][arm]["repetition"]) for arm in ("raw", "walk")}
        words = (
            f"Another beginning, run at once ({facts.title.lower()}, strength {strength:g}). The raw text falls apart "
            f"({repeated['raw']:.0%} of its tokens repeated), the one along the manifold holds ({repeated['walk']:.0%})."
        )
        query = {"prompt": second["prompt"], "direction": facts.title, "strength": f"{strength:g}", "seed": second["seed"]}
        query |= {"tokens": report["settings"]["tokens"], "live": "true"}
        return Card("steering", title, words, icon, {f"steering_{key}": str(value) for key, value in query.items()})
    return Card("steering", title, "Raise the strength and press Run again: which text falls apart first?", icon, {})


def _neuron() -> Card:
    """Return the step to a neuron that detects a concept like the story's, else any best; to the list where none was probed."""
    rows = (workspace_facts.report("probing") or {}).get("rows", [])
    chosen: Json | None = max(filter(_of_the_story, rows), key=_auc, default=max(rows, key=_auc, default=None))
    title, icon = "Open a neuron", ":material/hub:"
    if chosen is None:
        return Card("neurons", title, "Hidden neurons of the prior, each with the texts it fires on.", icon, {})
    best = chosen["glp"]
    name = f"L{neuron_name(best['layer'], best['unit'])}"
    words = f"{name} alone tells “{task_title(chosen['task'])}” from other texts, AUC {best['auc']:.2f}. Where in such texts does it fire?"
    query = {"view": "unit", "layer": str(best["layer"]), "unit": str(best["unit"])}
    examples = [texts[0] for texts in chosen.get("examples", {}).values() if texts]
    query |= {neurons.TEXT.key: " ".join(examples)[: neurons.LONGEST_TEXT]} if examples else {}
    return Card("neurons", title, words, icon, query)


def _of_the_story(row: Json) -> bool:
    """Say whether a probed task speaks of what the first press steers towards: words begin alike."""
    with suppress(GlpError):  # damaged: the Steering page says so
        direction = (workspace_facts.report("first_press") or {}).get("direction", "")
        begins = [word[:4] for word in direction.split("-") if len(word) >= 4]
        return any(begin in f"{row['task']} {task_title(row['task'])}".casefold() for begin in begins)
    return False


def _auc(row: Json) -> float:
    return float(row["glp"]["auc"])


def draw(card: Card, *, number: int | None = None) -> None:
    """Draw a card with its link, numbered when it is a step; nothing where this version lacks its page."""
    if not (workspace_facts.ROOT / "pages" / f"{card.page}.py").is_file():
        return
    title = card.title if number is None else f"{number}. {card.title}"
    with st.container(border=True, width=STEP_WIDTH if number else CARD_WIDTH, height="stretch"):
        st.page_link(
            f"../pages/{card.page}.py", label=f"**{title}**", icon=card.icon, query_params=url.kept(card.query) or None
        )
        st.caption(frame.plain_markdown(card.words))
