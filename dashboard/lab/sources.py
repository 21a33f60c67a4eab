"""Where a person takes a direction from: labelled texts, two instructions, a meta-neuron, a file; the left column of the builder."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from dashboard.lab.asked import Asked, Fit, FromFile, FromInstructions, FromNeuron, FromTexts
from dashboard.service import workspace_facts
from dashboard.service.directions import neuron_directions
from dashboard.widgets import frame, starred, url
from dashboard.widgets.texts import long_text, two_classes
from dashboard.widgets.texts.two_classes import TwoClasses
from glp_core.errors import GlpError
from glp_core.steering.origins.questions import ANSWER_TOKENS, QUESTIONS

MOST_TEXTS = 2_000
"""Of each class."""
FEWEST_QUESTIONS, MOST_QUESTIONS = 4, 100
SHOWN_QUESTIONS = 16
"""Questions that the box begins with."""
LONGEST_INSTRUCTION = 1_000
VECTOR_FILES = ("gguf", "pt", "safetensors")
LARGEST_FILE = 5
"""MB."""
BOXES = two_classes.params("lab_")
SYSTEM = url.text(
    "lab_system", "Instruction", "You are a cheerful optimist. Always see the bright side of everything.", LONGEST_INSTRUCTION
)
OPPOSITE = url.text(
    "lab_opposite",
    "Opposite instruction",
    "You are a gloomy pessimist. Always see the dark side of everything.",
    LONGEST_INSTRUCTION,
)
ASKED_QUESTIONS = url.text("lab_questions", "Questions", "\n".join(QUESTIONS[:SHOWN_QUESTIONS]), two_classes.FITS_URL)
TOKENS = url.whole("lab_tokens", "Tokens of an answer", ANSWER_TOKENS, 4, 128)
NEURON = url.text("lab_neuron", "Meta-neuron", "0/0", 20)
LATENT = url.whole("lab_latent", "Latent", 0, 0, 10_000_000)
MEASURE = url.switch("lab_measure", "Measure it on texts", False)
PARAMS = (*BOXES, SYSTEM, OPPOSITE, ASKED_QUESTIONS, TOKENS, NEURON, LATENT, MEASURE)


def texts(fit: Fit) -> Asked | None:
    """Draw two boxes of texts and an upload; return what they ask for, None while a table cannot be read."""
    given = _checked_texts()
    return None if given is None else FromTexts(given, fit)


def _checked_texts() -> TwoClasses | None:
    given = two_classes.draw(BOXES, key="lab", height=210, side_by_side=False)
    if given is not None:
        if not given.file:
            two_classes.swap_button(BOXES, key="lab")
        given.check(MOST_TEXTS)
    return given


def instructions(fit: Fit) -> Asked | None:
    """Draw two system prompts and the questions; return what they ask for."""
    system = long_text.text_area(SYSTEM, "System prompt that asks for the concept", key="lab_system_box", height=92)
    opposite = long_text.text_area(OPPOSITE, "System prompt that asks for its opposite", key="lab_opposite_box", height=92)
    asked = long_text.text_area(ASKED_QUESTIONS, "Questions, one per line", key="lab_questions_box", height=150)
    tokens = st.number_input(TOKENS.label, 4, 128, TOKENS.default, 4, width=170, **TOKENS.bound)
    questions = tuple(two_classes.texts_of(asked))
    if not FEWEST_QUESTIONS <= len(questions) <= MOST_QUESTIONS:
        raise GlpError(f"Got {len(questions)} questions, wanted {FEWEST_QUESTIONS} to {MOST_QUESTIONS}, one per line.")
    st.caption(f"The model answers {len(questions)} questions under each prompt, {2 * len(questions)} answers in all.")
    return FromInstructions(SYSTEM.check(system), OPPOSITE.check(opposite), questions, TOKENS.check(tokens), fit.method)


def neuron(fit: Fit) -> Asked | None:
    """Draw the choice of a meta-neuron; return what it asks for."""
    words = "Layer and number, as on the Meta-neurons page, for example 1/314."
    name = st.text_input(NEURON.label, NEURON.default, help=words, **NEURON.bound)
    chosen = neuron_directions.name_of(*starred.parse_neuron(NEURON.check(name)))
    return FromNeuron(chosen, _to_measure_on(), fit)


def file(fit: Fit) -> Asked | None:
    """Draw the upload of another tool's vector; return what it asks for, None before there is a file."""
    layer = workspace_facts.read().layer
    words = (
        f"A control vector (GGUF, of repeng or llama.cpp), persona vectors (.pt, a row a layer) or an SAE's decoder (safetensors, of "
        f"sparsify or SAELens). Taken is what is meant for the output of block {layer}, counted from 0. Nothing in the file is run."
    )
    uploaded = st.file_uploader("File", VECTOR_FILES, key="lab_file", max_upload_size=LARGEST_FILE, help=words)
    command = workspace_facts.command("import-direction FILE --name NAME")
    st.caption(f"Files of over {LARGEST_FILE} MB, such as whole SAEs: `{command}`")
    if uploaded is None:
        return None
    latent = None
    if Path(uploaded.name).suffix.lower() == ".safetensors":
        latent = LATENT.check(
            st.number_input("Latent, counted from 0", 0, 10_000_000, LATENT.default, width=190, **LATENT.bound)
        )
    data = uploaded.getvalue()
    frame.check_size(len(data), LARGEST_FILE)
    return FromFile(uploaded.name, hashlib.sha256(data).hexdigest(), data, latent, _to_measure_on(), fit)


def _to_measure_on() -> TwoClasses | None:
    """Draw the choice to measure a vector on texts, with their boxes; return them, None without."""
    words = "It gets an AUROC and a concept probe, so that steered texts can be scored."
    return _checked_texts() if st.toggle(MEASURE.label, MEASURE.default, help=words, **MEASURE.bound) else None


SOURCES: dict[str, Callable[[Fit], Asked | None]] = {
    "texts": texts,
    "instructions": instructions,
    "meta-neuron": neuron,
    "file": file,
}
"""What a direction can be made from; each draws its controls, and raises GlpError for what does not fit."""
