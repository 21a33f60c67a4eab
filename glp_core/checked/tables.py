"""Read Parquet tables through one checked reader: columns and sizes before anything is allocated, then that numbers are finite."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glp_core.errors import GlpError

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20_000_000
COLUMNS: Mapping[str, str] = {"text": "OTSU", "whole": "iu", "number": "iuf"}
"""What a column may be, to the kinds of pandas' types; categories count as texts."""


def read_table(path: Path, wanted: Mapping[str, str], *, where: list[tuple[str, str, str]] | None = None) -> "pd.DataFrame":
    """Return the wanted columns of a Parquet file, numbers finite.

    Args:
        wanted: name of a column to text, whole or number.
        where: rows to read, as pyarrow's filters.
    Raises:
        GlpError: the file is missing or damaged, or a column is missing or of another kind.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts = pq.read_metadata(path)
        rows = min(MOST_ROWS, 8 * path.stat().st_size * 8)  # a run of equal values takes little more than a bit a row
        if facts.num_rows > rows:
            raise GlpError(f"{path} is damaged: it claims {facts.num_rows:,} rows. Make it again.")
        missing = wanted.keys() - set(facts.schema.to_arrow_schema().names)
        if missing:
            raise GlpError(f"{path} lacks the column(s) {', '.join(sorted(missing))}. Make it again.")
        # what pandas' own notes in the file make an index is no column
        table = pd.read_parquet(path, columns=list(wanted), filters=where)[list(wanted)]
    except GlpError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise GlpError(f"{path} is no readable table ({type(error).__name__}). Make it again.") from error
    for name, kind in wanted.items():
        column = table[name]
        if column.dtype.kind not in COLUMNS[kind] and not (kind == "text" and isinstance(column.dtype, pd.CategoricalDtype)):
            raise GlpError(f"{path} is damaged: {name} holds {column.dtype}, wanted {kind}. Make it again.")
        if kind != "text" and not np.isfinite(column.to_numpy()).all():
            raise GlpError(f"{path} is damaged: {name} holds values that are not finite. Make it again.")
    return table
