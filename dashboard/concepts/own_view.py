"""The Concepts page's second half: texts that have a concept and texts that have not, and the neurons that tell them apart."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.concepts import tables
from dashboard.service import follow, neurons, resources, results, workspace_facts
from dashboard.service.directions import pushes
from dashboard.widgets import frame, starred, url
from dashboard.widgets.neuron_links import neuron_links
from dashboard.widgets.neuron_rows import NeuronRow, neuron_rows
from dashboard.widgets.starred import neuron_name, parse_neuron
from dashboard.widgets.texts import two_classes
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.jobs.job import Cancelled
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.neurons.search import ConceptNeurons, FoundNeuron
    from glp_core.progress import Progress

SIGNIFICANT = 0.05
"""p-values from here on are no evidence."""
CHANCE = 0.5
ENOUGH_TEXTS = 20
"""Texts of each kind from which on a missing effect says something."""
TEXTS = two_classes.params()
FOUND = url.parsed("found", "Found neuron", lambda words: neuron_name(*parse_neuron(words)))
"""Which of the best neurons is shown."""


def draw() -> list[frame.File]:
    """Draw the search for neurons of a concept that is given by texts; return what was found as files to download."""
    index = neurons.index()
    texts = two_classes.draw(TEXTS, key="concepts")
    if texts is None:
        return []
    with st.container(horizontal=True, vertical_alignment="center"):
        run = st.button("Find neurons", type="primary", icon=":material/search:", key="concepts_find")
        if not texts.file:
            two_classes.swap_button(TEXTS, key="concepts")
        st.caption(f"{texts.words}, cut to 48 tokens and read at the last one")
    try:
        texts.check()
        concept = _find(index, texts.positive, texts.negative, run)
    except GlpError as error:
        frame.error_box(error)
        return []
    if concept is None:
        st.info(
            "Press Find neurons to search all of them for the ten best, with cross-validated AUC and p-values.",
            icon=":material/search:",
        )
        return []
    _found(index, concept)
    return files(concept)


def files(concept: ConceptNeurons) -> list[frame.File]:
    """Return the neurons found, and their values on every text, as tables."""
    names = [neuron_name(one.layer, one.neuron) for one in concept.neurons]
    numbers = [[one.auc, one.sign, one.p_value, one.folds] for one in concept.neurons]
    best = pd.DataFrame(numbers, columns=["AUC on all texts", "sign", "p", "best in folds"])
    best.insert(0, "neuron", names)
    texts = pd.DataFrame({name: one.values for name, one in zip(names, concept.neurons, strict=True)})
    texts.insert(0, "text", concept.texts)
    texts.insert(1, "label", concept.labels)
    return [
        frame.File("Neurons found, CSV", "concept_neurons.csv", starred.as_csv(best), "text/csv"),
        frame.File("Their values on every text, CSV", "concept_texts.csv", starred.as_csv(texts), "text/csv"),
    ]


def _find(index: NeuronIndex, positive: list[str], negative: list[str], run: bool) -> ConceptNeurons | None:
    workspace = resources.workspace()
    written = workspace_facts.times("neurons/index.json")
    made_from = ("concept", str(workspace.folder), written, index.reading, tuple(positive), tuple(negative))
    if not run:
        return results.small_results().get(*made_from)

    def work(cancelled: Cancelled, report: Progress) -> ConceptNeurons:
        from glp_core.neurons.search import find_neurons

        return find_neurons(
            resources.site(), neurons.prior_of(index), positive, negative, index.reading,
            progress=report, cancelled=cancelled,
        )  # fmt: skip

    return follow.computed("finding neurons", work, *made_from, stop=True, pressed=True, small=True)


def verdict(concept: ConceptNeurons, n_neurons: int) -> str:
    """Say first whether there is evidence that any neuron tells the texts apart, then the numbers."""
    area, p = concept.cross_validated, concept.p_value
    fewest = min(concept.n_positive, concept.n_negative)
    few = f" {fewest} texts a side are few; {ENOUGH_TEXTS} or more would tell." if fewest < ENOUGH_TEXTS else ""
    numbers = (
        f"The best of {n_neurons:,} neurons on four fifths of the texts, tested on the rest: AUC {area.value:.2f} "
        f"(95% CI {area.low:.2f} to {area.high:.2f}); p from {concept.permutations:,} permutations of the labels."
    )
    if p >= SIGNIFICANT:
        return f"**No evidence (p = {p:.2g})**: with shuffled labels, the best of all neurons does as well.{few} {numbers}"
    if area.low <= CHANCE:
        return f"**Weak evidence**: a neuron stands out on these texts (p = {p:.2g}), but may not on others.{few} {numbers}"
    return f"**There is a neuron for it** (p = {p:.2g}). {numbers}"


def _found(index: NeuronIndex, concept: ConceptNeurons) -> None:
    st.markdown(verdict(concept, index.n_neurons))
    names = [neuron_name(one.layer, one.neuron) for one in concept.neurons]
    asked = st.query_params.get(FOUND.key, "")
    if asked not in ("", *names):
        st.query_params.pop(FOUND.key)  # of other texts
    chosen = concept.neurons[names.index(asked) if asked in names else 0]
    left, right = st.columns([3, 2], gap="medium")
    with left:
        rows = [_found_row(index, one) for one in concept.neurons]
        neuron_rows(
            rows,
            label="Best neurons",
            key="concepts_found",
            on_choose=_choose_found,
            chosen=neuron_name(chosen.layer, chosen.neuron),
            dimmed=concept.p_value >= SIGNIFICANT,
        )
        st.caption(
            "Number: AUC on all texts (the choice among all neurons flatters it; the cross-validated one above does not)."
        )
    with right, st.container(border=True):
        name = f"L{neuron_name(chosen.layer, chosen.neuron)}"
        chart = tables.scores_figure(np.asarray(chosen.values), np.asarray(concept.labels), name=name)
        frame.figure(chart, key="concepts_own_scores", alt=f"Values of {name} by class")
        if chosen.sign < 0:
            st.caption(
                "This neuron is low on the positive texts: Steering opens with a negative strength, which pushes towards them."
            )
        push = partial(pushes.of_neuron, chosen.layer, chosen.neuron, chosen.sign)
        neuron_links(chosen.layer, chosen.neuron, push)


def _found_row(index: NeuronIndex, one: FoundNeuron) -> NeuronRow:
    words = neurons.words_of(index.table().iloc[one.layer * index.d_mlp + one.neuron])
    evidence = f"{words} · p = {one.p_value:.2g}, best in {one.folds} folds"
    return NeuronRow(neuron_name(one.layer, one.neuron), one.sign * (2 * one.auc - 1), f"{one.auc:.2f}", "", evidence)


def _choose_found(name: str) -> None:
    st.query_params[FOUND.key] = name
