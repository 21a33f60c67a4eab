"""The ways from the Overview into the pages: one story in five clicks, and an example of each page; links that carry state."""

from typing import NamedTuple

import streamlit as st

from dashboard.service import workspace_facts
from dashboard.service.neurons import task_title
from dashboard.widgets import frame, url
from dashboard.widgets.starred import neuron_name
from glp_core.files import Json

STEP_WIDTH, CARD_WIDTH = 178, 304
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
        "Push the model towards a concept, raw and projected back by the prior: what each push does to the text, token by token.",
        ":material/tune:",
        {},
    ),
    Card(
        "steering",
        "Steer a conversation",
        "The same push on a chat answer, with the norm-restored baseline as a fourth column.",
        ":material/forum:",
        {
            "steering_mode": "chat",
            "steering_prompt": "What should I cook for dinner tonight?",
            "steering_direction": "Formal",
            "steering_strength": "0.4",
            "steering_extra": "norm-restored",
        },
    ),
    Card(
        "neurons",
        "Browse meta-neurons",
        "Hidden neurons of the prior: which of them fire on a text, and on what else?",
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
        "How far a text's or a steered token's activation is from real ones.",
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
            "Press Run: one prompt, written as it is, pushed, and pushed along the manifold.",
            ":material/tune:",
            {},
        ),
        Card(
            "steering",
            "Push harder",
            "A harder push, run at once: raw text falls apart, text on the manifold holds.",
            ":material/bolt:",
            {"steering_strength": "1.4", "steering_live": "true"},
        ),
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
            "More compute, a better prior: by how much, and what it buys.",
            ":material/show_chart:",
            {},
        ),
    ]


def _neuron() -> Card:
    """Return the step to the neuron that detects the story's concept best, or to the list of neurons where none was probed."""
    rows = (workspace_facts.report("probing") or {}).get("rows", [])
    chosen: Json | None = next((row for row in rows if "sent" in str(row["task"])), max(rows, key=_auc, default=None))
    title, icon = "Open a neuron", ":material/hub:"
    if chosen is None:
        return Card("neurons", title, "Hidden neurons of the prior, each with the texts it fires on.", icon, {})
    best = chosen["glp"]
    name = f"L{neuron_name(best['layer'], best['unit'])}"
    task = chosen.get("title") or task_title(chosen["task"])
    words = (
        f"{name} alone tells the two classes of “{task}” apart with an AUC of {best['auc']:.2f}: which texts does it fire on?"
    )
    query = {"view": "unit", "layer": str(best["layer"]), "unit": str(best["unit"])}
    return Card("neurons", title, words, icon, query)


def _auc(row: Json) -> float:
    return float(row["glp"]["auc"])


def draw(card: Card, *, number: int | None = None) -> None:
    """Draw a card with its link, numbered when it is a step; nothing where this version lacks its page."""
    if not (workspace_facts.ROOT / "pages" / f"{card.page}.py").is_file():
        return
    title = card.title if number is None else f"{number}. {card.title}"
    with st.container(border=True, width=STEP_WIDTH if number else CARD_WIDTH):
        st.page_link(
            f"../pages/{card.page}.py", label=f"**{title}**", icon=card.icon, query_params=url.kept(card.query) or None
        )
        st.caption(frame.plain_markdown(card.words))
