"""The view "one neuron": what it is, in both directions."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.neurons import figures, own_text, shared
from dashboard.service import neurons, workspace_facts
from dashboard.service.directions import pushes
from dashboard.widgets import charts, frame, neuron_links, neuron_texts, starred, url
from dashboard.widgets.neuron_rows import NeuronRow, neuron_rows
from dashboard.widgets.numbers import PACKED_DIGITS, in_tails, signed, value_words
from dashboard.widgets.starred import neuron_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glp_core.neuron_index.neuron_data import Neighbour, Neuron
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.neurons.over_text import TextNeurons

INTERESTING = "neuron_interesting_open"
"""Session key of whether the list of interesting neurons is open."""


def draw(index: NeuronIndex) -> list[frame.File]:
    """Draw the view for the neuron that the URL names, or the most interesting one; return its page as a file to download."""
    neuron = index.neuron(*(shared.neuron_in_url() or first_neuron(index)))
    _header(index, neuron)
    left, right = st.columns([2, 3], gap="medium")
    with right:
        reading, position = own_text.read(neuron)
    with left:
        _histogram(neuron, reading, position)
    context, breaks = _list_controls(neuron)
    for column, snippets, title in zip(
        st.columns(2, gap="medium"), (neuron.top, neuron.bottom), ("Most positive", "Most negative"), strict=True
    ):
        with column:
            st.markdown(f"**{title}** · {len(snippets)} texts")
            with st.container(height=560 if len(snippets) > 5 else "content", border=False):
                st.html(neuron_texts.texts_html(neuron, snippets, context=context, breaks=breaks))
    left, right = st.columns(2, gap="medium")
    with left:
        _effects(index, neuron)
    with right:
        _neighbours(index, neuron)
    own_text.noise_axis(neuron, reading)
    _intervals(neuron, context, breaks)
    return [
        frame.File(
            "Neuron, JSON", f"neuron-{neuron.layer}-{neuron.neuron}.json", starred.neuron_json(neuron), "application/json"
        )
    ]


def first_neuron(index: NeuronIndex) -> starred.NeuronId:
    """Return the neuron that the view opens on: the one whose description is truest, else the most interesting."""
    readable = index.most_readable(1)
    return (readable[0].layer, readable[0].neuron) if readable else index.interesting(1)[0]


def _header(index: NeuronIndex, neuron: Neuron) -> None:
    title, go = st.columns([1, 4], vertical_alignment="bottom")
    with title:
        frame.heading(f"L{neuron.layer} / {neuron.neuron}")
    with go, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="bottom", gap="xsmall"):
        _ways(index, neuron)
    st.html(f'<div style="font-size:1.05rem">{neuron_texts.description_html(neuron)}</div>')
    row = index.table().iloc[neuron.index]
    facts = [
        f"kurtosis {neuron.kurtosis:,.1f}",
        f"skewness {neuron.skewness:+.2f}",
        f"standard deviation {neuron.std:.3g}",
        f"noise share {neuron.noise_share:.0%}",
        f"fires on {row['active_share']:.1%} of tokens",
        f"tail {signed(neuron.tail).lstrip('+')}",
    ]
    st.caption(
        " · ".join(facts),
        help="Kurtosis: excess, 0 for a normal distribution; high if it fires rarely and strongly. Noise share: part of the variance "
        "that is due to the noise seed at sigma 0.1 with one draw. Fires: share of the corpus's tokens beyond a quarter of its "
        "tail. Tail: the absolute value that one token in a thousand reaches; values here are in tails, with the raw "
        "ones beside them.",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        for sign, side in ((1, "high"), (-1, "low")):
            push = partial(pushes.of_neuron, neuron.layer, neuron.neuron, sign)
            neuron_links.steer_link(neuron.layer, neuron.neuron, push, label=f"Steer to its {side} side")
        for words, task in _tasks(neuron):
            st.page_link(
                "../pages/concepts.py", label=words, icon=":material/lightbulb:", query_params=url.kept({"task": task})
            )
        shared.star_button(neuron.layer, neuron.neuron, key="neuron_star")


def _tasks(neuron: Neuron) -> list[tuple[str, str]]:
    """Return the tasks that say most of a neuron, in words and by name: one that it was chosen for of all neurons, and its best.

    Both are chosen on validation texts.
    """
    rows = (workspace_facts.report("probing") or {}).get("rows", [])
    won = [row for row in rows if (row["glp"]["layer"], row["glp"]["unit"]) == (neuron.layer, neuron.neuron)]
    said = []
    if won:
        row = max(won, key=lambda one: float(one["glp"]["auc"]))
        words = neurons.task_title(row["task"], row["glp"]["sign"])
        said.append((f"Chosen of all neurons for: {words}, test AUC {row['glp']['auc']:.2f}", row["task"]))
    if neuron.best_task and neuron.best_auc is not None and neuron.best_task not in [task for _, task in said]:
        words = neurons.task_title(neuron.best_task, neuron.best_sign)
        said.append((f"Its own best task: {words}, test AUC {neuron.best_auc:.2f}", neuron.best_task))
    return said


def _ways(index: NeuronIndex, neuron: Neuron) -> None:
    """Draw the ways to other neurons: previous, next, random, interesting, by number."""
    st.session_state["neuron_layer_box"], st.session_state["neuron_number_box"] = neuron.layer, neuron.neuron
    st.number_input("Layer", 0, index.n_layers - 1, key="neuron_layer_box", on_change=_go_to_boxes, width=85)
    st.number_input("Neuron", 0, index.d_mlp - 1, key="neuron_number_box", on_change=_go_to_boxes, width=110)
    before, after = (neuron.index - 1) % index.n_neurons, (neuron.index + 1) % index.n_neurons
    opens = shared.open_neuron
    st.button("◀", key="neuron_previous", help="Previous neuron", on_click=opens, args=divmod(before, index.d_mlp))
    st.button("▶", key="neuron_next", help="Next neuron", on_click=opens, args=divmod(after, index.d_mlp))
    st.button("Random", key="neuron_random", on_click=_go_to_random, args=(index.n_layers, index.d_mlp))
    with st.popover("Interesting", key=INTERESTING, on_change="rerun"):
        st.caption(
            "First those whose descriptions hold best on held-out text (0 to 1), then those that fire most rarely and strongly."
        )
        rows = shared.table_rows(index.table().iloc[[shared.flat(index, one) for one in index.interesting(50)]])
        neuron_rows(rows, label="Interesting neurons", key="neuron_interesting", on_choose=_go_to_interesting, height=420)


def _go_to_boxes() -> None:
    shared.open_neuron(st.session_state["neuron_layer_box"], st.session_state["neuron_number_box"])


def _go_to_interesting(name: str) -> None:
    st.session_state[INTERESTING] = False  # the list would cover the neuron
    shared.open_named(name)


def _go_to_random(n_layers: int, d_mlp: int) -> None:
    shared.open_neuron(random.randrange(n_layers), random.randrange(d_mlp))


def _histogram(neuron: Neuron, reading: TextNeurons | None, position: int | None) -> None:
    head, switch = st.columns([3, 2], vertical_alignment="center")
    head.markdown(f"**Values over {int(neuron.counts.sum()):,} tokens**")
    log = switch.toggle("log y", value=True, key="unit_log", bind="query-params")
    markers = {}
    if reading is not None and position is not None:
        word = frame.visible(reading.pieces[position]).strip()[:16] or "␣"
        markers = {word: float(reading.values[position, neuron.index])}
    chart = figures.histogram(neuron, log=log, markers=markers)
    frame.figure(chart, key="neuron_histogram", alt=f"Signed histogram of neuron {neuron.layer}/{neuron.neuron}, 50 bins")
    with st.expander("Quantiles"):
        st.html(frame.facts([(f"{q:.5g}", value_words(value, neuron.tail)) for q, value in neuron.quantiles]))
    if neuron.tasks:
        with st.expander("Tasks that it tells apart best"):
            st.caption(
                "What it is high on, with the test AUC of this neuron alone. These are the most extreme of all tasks, picked on the same "
                "texts, so the choice flatters them; the tasks named above were chosen on others."
            )
            sides = [(name, auc, 1 if auc >= 0.5 else -1) for name, auc in neuron.tasks]
            st.html(frame.facts([(neurons.task_title(name, sign), f"{max(auc, 1 - auc):.2f}") for name, auc, sign in sides]))


def _list_controls(neuron: Neuron) -> tuple[neuron_texts.Context, bool]:
    with st.container(horizontal=True, vertical_alignment="center"):
        context = st.segmented_control(
            "Context", list(shared.CONTEXTS), format_func=shared.CONTEXTS.__getitem__, default="snippet", required=True, key="unit_context",
            bind="query-params", label_visibility="collapsed",
        )  # fmt: skip
        breaks = st.toggle("Line breaks", value=True, key="unit_breaks", bind="query-params")
        words = "Click a text to read all of it. Colour:"
        ends = [in_tails(end, neuron.tail) for end in (-neuron.scale, neuron.scale)]
        st.html(frame.legend(*ends, diverging=True, words=words), width="content")
    return (context if context in shared.CONTEXTS else "snippet"), breaks


def _effects(index: NeuronIndex, neuron: Neuron) -> None:
    st.markdown("**What it writes** · tokens, approximately")
    for title, effects in (("promoted", neuron.promoted), ("suppressed", neuron.suppressed)):
        st.caption(title)
        st.html(figures.effects_html([(effect.text, effect.score) for effect in effects]))
    st.caption(frame.plain_markdown(index.EFFECT_NOTE))


def _neighbours(index: NeuronIndex, neuron: Neuron) -> None:
    st.markdown("**Nearest neurons**")
    kinds = {"write": ("by write direction", neuron.nearest_write), "activation": ("by activation", neuron.nearest_activation)}
    kind = st.segmented_control(
        "Nearest", list(kinds), format_func=lambda one: kinds[one][0], default="write", required=True, key="unit_nearest",
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    st.caption("cosine of what they write" if kind == "write" else "correlation of their values over the corpus")
    rows = _neighbour_rows(index, kinds.get(kind, kinds["write"])[1])
    neuron_rows(rows, label="Nearest neurons", key="neuron_neighbours", on_choose=shared.open_named)


def _neighbour_rows(index: NeuronIndex, neighbours: Sequence[Neighbour]) -> list[NeuronRow]:
    table = index.table()
    return [
        NeuronRow(
            neuron_name(one.layer, one.neuron), one.similarity, signed(one.similarity, PACKED_DIGITS), "",
            neurons.words_of(table.iloc[one.layer * index.d_mlp + one.neuron]),
        )
        for one in neighbours
    ]  # fmt: skip


def _intervals(neuron: Neuron, context: neuron_texts.Context, breaks: bool) -> None:
    others = f"; {neuron.repeated:.0%} of tokens, which all have one value, are left out" if neuron.repeated else ""
    st.markdown(
        f"**Interval samples** · five random texts from each fifth of its values, from most negative to most positive{others}"
    )
    names = [f"{one.low_quantile:.0%} – {one.high_quantile:.0%}" for one in neuron.intervals]
    for name, interval in zip(names, neuron.intervals, strict=True):
        colour = charts.diverging(neuron_texts.shade((interval.low + interval.high) / 2, neuron.scale))
        span = f"{in_tails(interval.low, neuron.tail)} to {in_tails(interval.high, neuron.tail)}"
        st.html(
            f'<div class="glp-interval" style="background:{colour}">{name}: {span} tails</div>'
            + neuron_texts.texts_html(neuron, interval.texts, context=context, breaks=breaks)
        )
