"""The Manifold page's Text view: a text's tokens where they lie among real ones."""

import math
from functools import partial

import pandas as pd
import streamlit as st

from dashboard.manifold import controls, figures, measure
from dashboard.manifold.measure import MEASURES, PARAMS, UNITS, MeasuredText
from dashboard.service import follow, layers, workspace_facts
from dashboard.widgets import frame, starred
from dashboard.widgets.frame import File
from dashboard.widgets.numbers import cut_words, share_words
from dashboard.widgets.texts import long_text

FAR = 0.95
"""Share of real activations that a token is farther off than, to be counted."""


def draw() -> list[File]:
    """Draw a text's tokens coloured by where they lie among real activations; return the table to download."""
    st.caption(
        "This judges activations, not wording: the model reads even nonsense with ordinary activations, because it has read plenty of it. "
        "What lies far out are activations that were steered or damaged."
    )
    controls.text_box()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = list(MEASURES)
        st.selectbox("Measure", names, names.index(PARAMS["measure"].default), width=220, **PARAMS["measure"].bound)
        layers.choose(controls.params().get("layer"))
        _example_texts()
    values = controls.values()
    name = MEASURES[values["measure"]]
    reading = _reading(values["text"], name, values.get("layer"))
    st.html(frame.legend("50% or less", "100%", words="Colour: share of real activations that are nearer"))
    if words := cut_words(len(reading.tokens), reading.whole):
        st.caption(words)
    titles = [_title(reading, i) for i in range(len(reading.tokens))]
    st.html(frame.token_strip(reading.tokens, reading.shares, scale=(0.5, 1.0), titles=titles, marked=reading.massive))
    shares = [share for share in reading.shares if not math.isnan(share)]
    if shares:
        beyond = sum(share > FAR for share in shares)
        st.markdown(
            f"**{beyond} of {len(shares)} tokens ({beyond / len(shares):.0%}) are farther off than {FAR:.0%} of real ones.** Of a real "
            f"text's tokens {1 - FAR:.0%} are, on average."
        )
    drawn = figures.histogram(reading, UNITS[name])
    frame.figure(drawn, key="manifold_histogram", alt="The text's tokens among real activations")
    table = _table(reading, name)
    with st.expander("Every token", icon=":material/table_rows:"):
        digits = {str(one): "%.1f" if str(one).startswith("percentile") else "%.3f" for one in table.columns[1:]}
        columns = {one: st.column_config.NumberColumn(format=form) for one, form in digits.items()}
        st.dataframe(table, hide_index=True, height=320, column_config=columns, alt="Every token's distance and percentiles")
    return [File("CSV: every token", "tokens.csv", starred.as_csv(table), "text/csv")]


def _reading(text: str, name: str, layer: int | None) -> MeasuredText:
    """Return the measured text, from the kept results or by the model."""
    made_from = ("manifold", str(workspace_facts.folder()), measure.written(), text, name, layer)
    return follow.computed("measuring the text", partial(measure.read_text, text, name, layer), *made_from, stop=True)


def _table(reading: MeasuredText, name: str) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "token": [frame.visible(token) for token in reading.tokens],
            UNITS[name]: reading.values,
            "percentile": [100 * share for share in reading.shares],
        }
    )
    if name == "likelihood":
        table["standard error"] = reading.errors
    titles = {inner: outer for outer, inner in MEASURES.items()}
    for other, shares in reading.others.items():
        table[f"percentile, {titles[other]}"] = [100 * share for share in shares]
    return table


def _title(reading: MeasuredText, i: int) -> str:
    if i == 0:
        return "the first token is never scored"
    if i in reading.massive:
        return "a massive activation (attention sink): left alone, not scored"
    error = f" ± {reading.errors[i]:.3f}" if not math.isnan(reading.errors[i]) else ""
    return f"{reading.values[i]:.3f}{error}, farther off than {share_words(reading.shares[i])} of real activations"


def _example_texts() -> None:
    def take() -> None:
        if st.session_state.manifold_example in measure.TEXTS:
            long_text.set_text(PARAMS["text"], measure.TEXTS[st.session_state.manifold_example], key=controls.TEXT_BOX)

    st.selectbox(
        "Example texts",
        list(measure.TEXTS),
        index=None,
        placeholder="Example texts",
        key="manifold_example",
        on_change=take,
        label_visibility="collapsed",
        width=220,
    )
