"""A person's own text, read by one neuron: its tokens to choose from, and how much the reading's noise matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard.neurons import figures, over_text
from dashboard.service import neurons
from dashboard.widgets import frame, neuron_texts
from dashboard.widgets.numbers import cut_words, signed, value_words
from dashboard.widgets.token_picker import PickToken, picked, token_picker
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.neuron_data import Neuron
    from glp_core.neurons.over_text import TextNeurons


def read(neuron: Neuron) -> tuple[TextNeurons | None, int | None]:
    """Draw the test box; return the text read by all neurons and the chosen (or strongest) token."""
    text = over_text.text_box()
    examples = {"Most positive": neuron.top, "Most negative": neuron.bottom}
    with st.container(horizontal=True, vertical_alignment="center"):
        for name, snippets in examples.items():
            if snippets:
                text_of = "".join(snippets[0].pieces).strip()[: neurons.LONGEST_TEXT]
                st.button(
                    f"Its {name.lower()} text",
                    key=f"neuron_try_{name}",
                    type="tertiary",
                    on_click=over_text.use_text,
                    args=(text_of,),
                )
    try:
        reading = neurons.read(text)
    except GlpError as error:
        frame.error_box(error)
        return None, None
    if words := cut_words(len(reading.ids), reading.whole):
        st.caption(words)
    values = reading.values[:, neuron.index]
    if not np.isfinite(values).any():
        frame.notice_box("Every token of this text is a massive activation, which is not read. Try a longer text.")
        return None, None
    chosen = over_text.picked_tokens(len(values))[-1:]
    tokens = [
        PickToken(
            piece,
            "massive activation, not read" if massive else value_words(float(value), neuron.tail),
            neuron_texts.shade(float(value), neuron.scale),
        )
        for piece, massive, value in zip(reading.pieces, reading.massive, values, strict=True)
    ]
    token_picker(
        tokens, chosen, label="Your text, read by this neuron", key="neuron_tokens", on_change=_pick_token, several=False
    )
    strongest = int(np.nanargmax(np.abs(values)))
    position = chosen[0] if chosen and np.isfinite(values[chosen[0]]) else strongest
    st.caption(
        f"Token {position + 1} of {len(values)}: {value_words(float(values[position]), neuron.tail)}, the green line in the "
        "histogram. Click another token to move the line. Colours are those of the lists below."
    )
    return reading, position


def _pick_token() -> None:
    over_text.keep_picked(picked("neuron_tokens"))


def noise_axis(neuron: Neuron, reading: TextNeurons | None) -> None:
    """Draw how the neuron's values on the text's first tokens depend on noise level and seed, where that is asked for."""
    if reading is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        words = f"**Noise axis** · the text's first {neurons.NOISE_TOKENS} tokens at four noise levels, 8 seeds each"
        st.markdown(words, width="content")
        why = "Reads the text 36 times, which takes some seconds. Massive tokens are left out."
        measured = st.toggle("Measure", key="unit_noise", bind="query-params", help=why)
    if not measured:
        return
    chosen = neurons.noise_tokens(reading)
    if not chosen:
        st.caption("The text's first tokens are massive ones, which the prior never saw.")
        return
    axis = neurons.measure_noise(reading, neuron.layer, neuron.neuron)
    pieces = [reading.pieces[token] for token in chosen]
    chart = figures.noise_figure(axis, pieces)
    frame.figure(chart, key="neuron_noise_figure", alt="Value against noise level: mean, spread over seeds, and noise-free")
    for sigma, values in zip(axis.sigmas, axis.values, strict=True):
        mean, spread = values.mean(0), values.std(0, ddof=1)
        titles = [f"{signed(m)} ± {s:.2g}" for m, s in zip(mean, spread, strict=True)]
        shades = [neuron_texts.shade(float(m), neuron.scale) for m in mean]
        st.caption(f"sigma {sigma:g}: mean of 8 seeds; mean spread {spread.mean():.3f}")
        st.html(frame.token_strip(pieces, shades, scale=(-1, 1), titles=titles, diverging=True))
