"""How far to push along a direction to begin with, and what a strength means along it in real activations. Draws nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.service import resources, workspace_facts
from dashboard.service.directions import neuron_directions, zones
from dashboard.widgets.neuron_links import Push
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.data.bank import Bank
    from glp_core.steering.push_scale import PushScale

STEP, STRONGEST = 0.1, 3.0
"""Step and end of the slider of strengths."""
DEVIATIONS = 6.0
"""Standard deviations of real activations along a direction that a link pushes where no strength was measured along it.

Of 2, 3, 4, 5, 6 and 8, tried on the demo's neurons whose descriptions name words (greedy texts of 40 tokens), the largest at which raw
texts repeat themselves no more than unsteered ones (.48 of their tokens against .47; .59 at 8, .87 at strength 1) and the first at which
the neuron fires clearly more often: on 3 to 4 tokens of a hundred, against .1.
"""
UNKNOWN = 1.0
"""Strength of such a link where the workspace has no bank of real activations."""


def opening(direction: str, sign: float = 1.0) -> Push | None:
    """Return how far a link to Steering pushes along a direction (by its file name), to its low side below a sign of 0.

    That is the strength that is recommended; where none was measured, DEVIATIONS. None: the models that tell are being loaded.
    """
    measured = zones.of(direction)
    if measured is not None and measured.recommended is not None:
        return Push(math.copysign(measured.recommended, sign))
    if resources.warm_up().live:
        return None
    try:
        along = scale(direction)
    except GlpError:
        return Push(math.copysign(UNKNOWN, sign), measured=False)  # no bank, or one of another model
    steps = max(1, round(along.strength(DEVIATIONS) / STEP))
    strength = math.copysign(min(STRONGEST, round(steps * STEP, 6)), sign)
    return Push(strength, along.deviations(strength))


def of_neuron(layer: int, neuron: int, sign: float = 1.0) -> Push | None:
    """Return `opening` for the direction that a neuron writes."""
    return opening(neuron_directions.name_of(layer, neuron), sign)


def scale(direction: str) -> PushScale:
    """Return real activations along a direction (by its file name); raise GlpError without a bank, or with one of another model."""
    folder = workspace_facts.folder()
    files = folder / "bank" / "bank.safetensors", neuron_directions.made_from(folder, direction)
    return _scale(folder, direction, *map(workspace_facts.written, files))


@st.cache_resource(show_spinner=False, max_entries=64)
def _scale(folder: Path, direction: str, bank_written: float, direction_written: float) -> PushScale:
    from glp_core.steering.push_scale import PushScale

    bank = _bank(folder, bank_written)
    return PushScale.of(bank, resources.direction(direction).vector, resources.workspace().median_norm)


@st.cache_resource(show_spinner=False, max_entries=2)
def _bank(folder: Path, bank_written: float) -> Bank:
    from glp_core.data.bank import Bank

    return Bank.load(folder / "bank")
