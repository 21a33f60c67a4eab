"""The view "over text": which neurons fire on which token of a text, and what each of them is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.neurons import figures, shared
from dashboard.service import neurons
from dashboard.service.directions import pushes
from dashboard.widgets import frame, neuron_links, neuron_texts, starred, url
from dashboard.widgets.neuron_rows import neuron_rows
from dashboard.widgets.numbers import cut_words, value_words
from dashboard.widgets.starred import NeuronId, neuron_name
from dashboard.widgets.texts import long_text
from dashboard.widgets.token_picker import PickToken, picked, token_picker
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.neuron_data import Neuron
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.neurons.over_text import Firing, TextNeurons

RANKED = 40
HEAT_NEURONS = 12
PREVIEW_TEXTS = 3


def draw(index: NeuronIndex) -> list[frame.File]:
    """Draw the view; return its files to download."""
    text = text_box()
    reading = neurons.read(text)
    if words := cut_words(len(reading.ids), reading.whole):
        st.caption(words)
    table = index.table()
    layers, hidden = _filters(index, table)
    picked = picked_tokens(len(reading.pieces))
    chosen_tokens = [token for token in picked if not reading.massive[token]]
    if picked and not chosen_tokens:
        frame.notice_box("No neuron is read on an attention sink: the ranking is over all other tokens.")
    firings = reading.strongest(chosen_tokens or None, k=RANKED, layers=layers, hidden=hidden)
    if not firings:
        frame.notice_box("No neuron is left: choose at least one layer, or show the neurons that fire everywhere.")
        return []
    neuron = shared.neuron_in_url() or (firings[0].layer, firings[0].neuron)
    kept = _compared(index)
    second = kept if kept != neuron else None
    each = reading.per_token(3, layers=layers, hidden=hidden)
    _strip(index, reading, each, neuron, kept, chosen_tokens)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _ranking(firings, table, reading, neuron, chosen_tokens)
    with right, st.container(border=True):
        values = reading.normalised[chosen_tokens or slice(None), shared.flat(index, neuron)]
        _preview(index.neuron(*neuron), float(max(values[np.isfinite(values)], key=abs, default=1.0)))
    _heat_map(index, reading, firings, neuron, second)
    tokens = _token_table(reading, each)
    with st.expander(
        "Every token's strongest neurons", icon=":material/table_rows:", on_change="rerun", key="neurons_each"
    ) as panel:
        if panel.open:
            digits = st.column_config.NumberColumn(format="%.2f")
            columns = {str(one): digits for one in tokens.columns if str(one).startswith(("value", "in tails"))}
            st.dataframe(
                tokens, hide_index=True, height=320, column_config=columns, alt="Every token's three strongest neurons"
            )
    return [
        frame.File("Every token's neurons, CSV", "tokens.csv", starred.as_csv(tokens), "text/csv"),
        frame.File("Ranked neurons, CSV", "neurons.csv", starred.as_csv(_ranking_table(firings, table, index)), "text/csv"),
    ]


def text_box() -> str:
    """Draw the box for the text and its examples, shared by all views; return the text."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = f"Text, up to {neurons.LONGEST_TEXT:,} characters"
        text = long_text.text_area(neurons.TEXT, label, key="neurons_text", height=96, on_change=_forget_tokens)
        with st.popover("Examples"):
            for name, example in shared.EXAMPLES.items():
                st.button(name, key=f"neurons_example_{name}", on_click=use_text, args=(example,), width="stretch")
    return text


def use_text(text: str) -> None:
    """Put a text into the box (in a callback)."""
    long_text.set_text(neurons.TEXT, text, key="neurons_text")
    _forget_tokens()


def _forget_tokens() -> None:
    st.query_params.pop("picked", None)


def _filters(index: NeuronIndex, table: pd.DataFrame) -> tuple[list[int], np.ndarray | None]:
    """Draw the filters; return the layers wanted and which neurons are hidden."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = [f"L{layer}" for layer in range(index.n_layers)]
        layers = st.pills("Layers", names, default=names, selection_mode="multi", key="neurons_layers", bind="query-params")
        everywhere = int((table["active_share"] > shared.FIRES_EVERYWHERE).sum())
        hide = st.toggle(
            f"Hide the {everywhere:,} neurons that fire everywhere",
            value=True,
            key="neurons_hide",
            bind="query-params",
            help=f"Neurons beyond a quarter of their own tail on more than {shared.FIRES_EVERYWHERE:.0%} of the corpus's tokens.",
        )
    return [int(name[1:]) for name in layers if name in names], shared.hidden_neurons(table, hide)


def picked_tokens(n: int) -> list[int]:
    """Return the positions that the URL picks, of a text of n tokens."""
    words = [word for word in st.query_params.get("picked", "").split(",") if word.isascii() and word.isdigit()]
    picked = sorted({int(word) for word in words})
    if picked and picked[-1] >= n:
        url.refuse(["picked"], f"The text has no token {picked[-1]}: its {n} tokens are counted from 0.")
    return picked


def _compared(index: NeuronIndex) -> NeuronId | None:
    """Return the neuron that the URL keeps to compare others with, if it names one."""
    if "compare" not in st.query_params:
        return None
    try:
        kept = starred.parse_neuron(st.query_params["compare"])
        index.neuron(*kept)
    except GlpError as error:
        url.refuse(["compare"], str(error))
        return None
    return kept


def _strip(
    index: NeuronIndex,
    reading: TextNeurons,
    each: list[list[Firing]],
    neuron: NeuronId,
    kept: NeuronId | None,
    chosen: list[int],
) -> None:
    """Draw the text's tokens, coloured by the chosen neuron, and in their lower half by the kept one, once another is chosen."""
    second = kept if kept != neuron else None
    first, other = shared.flat(index, neuron), shared.flat(index, second) if second else None
    tokens = []
    for i, piece in enumerate(reading.pieces):
        if reading.massive[i]:
            tokens.append(
                PickToken(piece, "massive activation: an attention sink, not read", 0.0, None if other is None else 0.0)
            )
            continue
        tip = [f"{_named(neuron)} {value_words(float(reading.values[i, first]), float(index.tail[first]))}"]
        if second is not None and other is not None:
            tip.append(f"{_named(second)} {value_words(float(reading.values[i, other]), float(index.tail[other]))}")
        tip.append("strongest here: " + ", ".join(f"L{neuron_name(f.layer, f.neuron)} {f.normalised:+.2f}" for f in each[i]))
        below = None if other is None else float(reading.normalised[i, other])
        tokens.append(PickToken(piece, "\n".join(tip), float(reading.normalised[i, first]), below))
    words = f"Colour: {_named(neuron)}" + (f" above, {_named(second)} below" if second else "") + ", value in tails"
    legend = frame.legend("−1 or less", "+1 or more", diverging=True, words=words)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(legend, width="content")
        if kept:
            st.button("End the comparison", key="neurons_end_compare", on_click=_end_comparison, type="tertiary")
        else:
            st.button(
                "Compare with another", key="neurons_compare", on_click=_compare, args=(neuron,), type="tertiary",
                icon=":material/compare:", help="Keep this neuron in the lower half of the tokens; then choose another one.",
            )  # fmt: skip
        note = f"{len(reading.pieces)} tokens · click tokens to rank the neurons by them"
        note = f"{len(chosen)} of {note}" if chosen else note
        if kept and not second:
            note = f"{_named(kept)} is kept: now choose another neuron from the list"
        st.caption(note, width="content")
        if chosen:
            st.button("All tokens", key="neurons_all_tokens", on_click=_forget_tokens, type="tertiary")
    token_picker(tokens, chosen, label="Tokens of the text", key="neurons_tokens", on_change=_pick_tokens)


def _named(neuron: NeuronId) -> str:
    return f"L{neuron_name(*neuron)}"


def _pick_tokens() -> None:
    keep_picked(picked("neurons_tokens"))


def keep_picked(positions: list[int]) -> None:
    """Put the picked positions into the URL (in a callback)."""
    if positions:
        st.query_params["picked"] = ",".join(map(str, positions))
    else:
        _forget_tokens()


def _end_comparison() -> None:
    st.query_params.pop("compare", None)


def _ranking(firings: list[Firing], table: pd.DataFrame, reading: TextNeurons, neuron: NeuronId, chosen: list[int]) -> None:
    where = (
        "ranked by their mean over the chosen tokens, shown at the strongest of these"
        if chosen
        else "each at its strongest token"
    )
    st.markdown(f"**Neurons by value in tails** ({where})")
    rows = shared.firing_rows(firings, table, reading.pieces)
    neuron_rows(
        rows,
        label="Neurons, strongest first",
        key="neurons_ranking",
        on_choose=shared.choose_neuron,
        chosen=neuron_name(*neuron),
    )


def _preview(neuron: Neuron, value: float) -> None:
    """Draw a neuron beside the ranking; steering with it pushes the way that its value on the chosen tokens points."""
    st.html(f"<strong>L{neuron.layer} / {neuron.neuron}</strong> {neuron_texts.description_html(neuron)}")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Open neuron", key="neurons_open", type="primary", on_click=shared.open_neuron, args=(neuron.layer, neuron.neuron)
        )
        push = partial(pushes.of_neuron, neuron.layer, neuron.neuron, value)
        neuron_links.steer_link(neuron.layer, neuron.neuron, push, label="Steer")
        shared.star_button(neuron.layer, neuron.neuron, key="neurons_star")
    chart = figures.histogram(neuron, log=True, markers={})
    chart.update_layout(height=150)
    chart.update_yaxes(dtick=2)
    frame.figure(chart, key="neurons_preview", alt=f"Histogram of neuron {neuron.layer}/{neuron.neuron} over the corpus")
    st.caption("Strongest positive")
    st.html(neuron_texts.texts_html(neuron, neuron.top[:PREVIEW_TEXTS]))
    st.caption("Strongest negative")
    st.html(neuron_texts.texts_html(neuron, neuron.bottom[:PREVIEW_TEXTS]))


def _compare(neuron: NeuronId) -> None:
    st.query_params["compare"] = neuron_name(*neuron)


def _heat_map(
    index: NeuronIndex, reading: TextNeurons, firings: list[Firing], neuron: NeuronId, second: NeuronId | None
) -> None:
    ranked = [(f.layer, f.neuron) for f in firings]
    stars = [one for one in shared.starred() if one[0] < index.n_layers and one[1] < index.d_mlp]
    with st.expander("Heat map: tokens × neurons", icon=":material/grid_on:", on_change="rerun", key="neurons_heat") as panel:
        if not panel.open:
            return
        first = [neuron, *([second] if second else []), *ranked]
        options = [neuron_name(*one) for one in dict.fromkeys([*first, *stars])]
        default = options[:HEAT_NEURONS]
        names = st.multiselect("Neurons", options, default=default, key=f"neurons_heat_{'_'.join(default)}")
        if names:
            flat = [shared.flat(index, starred.parse_neuron(name)) for name in names]
            chart = figures.heat_map(reading.pieces, [f"L{name}" for name in names], reading.normalised[:, flat].T)
            frame.figure(chart, key="neurons_heat_figure", alt="Values in tails of the chosen neurons on every token")


def _token_table(reading: TextNeurons, each: list[list[Firing]]) -> pd.DataFrame:
    """Return every token with its strongest neurons; no cell is a formula."""
    rows = []
    for i, (piece, strongest) in enumerate(zip(reading.pieces, each, strict=True)):
        row = {"position": i, "token": frame.visible(piece).replace("\n", "↵")}
        for rank, firing in enumerate(strongest, 1):
            name = f"L{neuron_name(firing.layer, firing.neuron)}"
            row |= {f"neuron {rank}": name, f"value {rank}": firing.value, f"in tails {rank}": firing.normalised}
        rows.append(row)
    return starred.safe_cells(pd.DataFrame(rows))


def _ranking_table(firings: list[Firing], table: pd.DataFrame, index: NeuronIndex) -> pd.DataFrame:
    """Return the ranked neurons with their values and descriptions."""
    facts = table.iloc[[shared.flat(index, (f.layer, f.neuron)) for f in firings]]
    ranked = pd.DataFrame([{"token": f.token, "value": f.value, "in tails": f.normalised} for f in firings])
    return pd.concat([facts[list(starred.EXPORTED)].reset_index(drop=True), ranked], axis=1)
