"""Lists of starred units: as text for the URL, as rows, and as files that a spreadsheet opens safely."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.neuron_data import Unit

UnitId = tuple[int, int]
"""(layer, unit), both counted from 0."""

LONGEST_LIST = 200
"""Units a list may hold, so that it still fits into a URL."""

EXPORTED = ("layer", "unit", "description", "described_by", "best_task", "best_auc", "kurtosis", "low", "high")

_UNIT = re.compile(r"\s*L?(\d{1,4})\s*/\s*(\d{1,6})\s*", re.ASCII)


def unit_name(layer: int, unit: int) -> str:
    """Return a unit's name in text and URLs, for example 1/1044."""
    return f"{layer}/{unit}"


def parse_unit(text: str) -> UnitId:
    """Return (layer, unit) of a name like 1/1044 or L1/1044; raise GlpError for anything else."""
    found = _UNIT.fullmatch(text)
    if not found:
        raise GlpError(f"{text[:40]!r} is not a unit: write layer/unit, for example 1/1044.")
    return int(found[1]), int(found[2])


def parse_units(text: str) -> list[UnitId]:
    """Return the units of a comma-separated list, each once, in order."""
    units = [parse_unit(part) for part in text.split(",") if part.strip()]
    unique = list(dict.fromkeys(units))
    if len(unique) > LONGEST_LIST:
        raise GlpError(f"The list names {len(unique)} units, wanted at most {LONGEST_LIST}: split it into two lists.")
    return unique


def format_units(units: Sequence[UnitId]) -> str:
    """Return a list as text that parse_units reads back."""
    return ",".join(unit_name(*unit) for unit in units)


def toggled(text: str, unit: UnitId) -> str:
    """Return the list with the unit taken out when it is in, added at the end when not."""
    units = parse_units(text)
    kept = [one for one in units if one != unit]
    return format_units(kept if len(kept) < len(units) else [*units, unit])


def list_rows(units: Sequence[UnitId], table: pd.DataFrame) -> pd.DataFrame:
    """Return the listed units' rows of the index table, in the list's order; units that the index lacks are left out."""
    by_unit = table.set_index(["layer", "unit"], drop=False)
    known = [unit for unit in units if unit in by_unit.index]
    return by_unit.loc[known, list(EXPORTED)].reset_index(drop=True)


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
    return json.dumps({"name": name, "units": json.loads(table.to_json(orient="records"))}, indent=1, ensure_ascii=False)


def unit_json(unit: "Unit") -> str:
    """Return all that the index knows of a unit as JSON; values that were not kept are null."""

    def listed(value: np.ndarray) -> list[float | None]:
        return [None if number != number else number for number in value.tolist()]

    return json.dumps(asdict(unit), default=listed, indent=1, ensure_ascii=False)
