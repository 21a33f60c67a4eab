"""Lists of starred neurons: as text for the URL, as rows, and as files that a spreadsheet opens safely."""

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.neuron_data import Neuron

NeuronId = tuple[int, int]
"""(layer, neuron), both counted from 0."""

LONGEST_LIST = 200
"""Neurons a list may hold, so that it still fits into a URL."""

EXPORTED = ("layer", "unit", "description", "described_by", "best_task", "best_auc", "kurtosis", "low", "high")

_NEURON = re.compile(r"\s*L?(\d{1,4})\s*/\s*(\d{1,6})\s*", re.ASCII)


def neuron_name(layer: int, neuron: int) -> str:
    """Return a neuron's name in text and URLs, for example 1/1044."""
    return f"{layer}/{neuron}"


def parse_neuron(text: str) -> NeuronId:
    """Return (layer, neuron) of a name like 1/1044 or L1/1044; raise GlpError for anything else."""
    match = _NEURON.fullmatch(text)
    if not match:
        raise GlpError(f"{text[:40]!r} is not a neuron: write layer/neuron, for example 1/1044.")
    return int(match[1]), int(match[2])


def parse_neurons(text: str) -> list[NeuronId]:
    """Return the neurons of a comma-separated list, each once, in order."""
    neurons = [parse_neuron(part.strip()) for part in text.split(",") if part.strip()]
    unique = list(dict.fromkeys(neurons))
    if len(unique) > LONGEST_LIST:
        raise GlpError(f"The list names {len(unique)} neurons, wanted at most {LONGEST_LIST}: split it into two lists.")
    return unique


def format_neurons(neurons: Sequence[NeuronId]) -> str:
    """Return a list as text that parse_neurons reads back."""
    return ",".join(neuron_name(*neuron) for neuron in neurons)


def toggled(text: str, neuron: NeuronId) -> str:
    """Return the list with the neuron taken out when it is in, added at the end when not.

    Raises:
        GlpError: the list is full.
    """
    neurons = parse_neurons(text)
    others = [one for one in neurons if one != neuron]
    if len(others) == len(neurons) == LONGEST_LIST:
        raise GlpError(f"{LONGEST_LIST} neurons are starred, and no list is longer: take a star away first.")
    return format_neurons(others if len(others) < len(neurons) else [*neurons, neuron])


def list_rows(neurons: Sequence[NeuronId], table: pd.DataFrame) -> pd.DataFrame:
    """Return the listed neurons' rows of the index table, in the list's order; neurons that the index lacks are left out."""
    by_neuron = table.set_index(["layer", "unit"], drop=False)
    present = by_neuron.reindex([neuron for neuron in neurons if neuron in by_neuron.index])
    return present[list(EXPORTED)].reset_index(drop=True).rename(columns={"unit": "neuron"})


def safe_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy whose text cells no spreadsheet takes for a formula."""
    safe = table.copy()
    for column in safe.columns:
        safe[column] = [
            f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" and cell else cell for cell in safe[column]
        ]
    return safe


def as_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV with safe cells."""
    return safe_cells(table).to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)


def as_json(name: str, table: pd.DataFrame) -> str:
    """Return a list as JSON, text unchanged."""
    return json.dumps({"name": name, "neurons": json.loads(table.to_json(orient="records"))}, indent=1, ensure_ascii=False)


def neuron_json(neuron: "Neuron") -> str:
    """Return all that the index knows of a neuron as JSON; values that were not kept are null."""

    def listed(value: np.ndarray) -> list[float | None]:
        return [None if math.isnan(number) else number for number in value.tolist()]

    return json.dumps(asdict(neuron), default=listed, indent=1, ensure_ascii=False)
