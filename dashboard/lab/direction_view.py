"""The Lab's Direction view: the directions of the workspace, with how each was made and the evidence that it is one."""

import math

import pandas as pd
import streamlit as st

from dashboard.service import workspace_facts
from dashboard.widgets import frame, url
from dashboard.widgets.frame import File


def params() -> list[url.Param]:
    """Return what the page's address may hold for this view."""
    return []


def draw() -> list[File]:
    """Draw the view; return its files to download."""
    directions = workspace_facts.directions()
    frame.heading("Directions of this workspace")
    if not directions:
        st.markdown("None yet.")
        return []
    rows = [
        {
            "Direction": one.title,
            "AUROC on held-out texts": None if math.isnan(one.auroc) else one.auroc,
            "How it was made": one.how,
        }
        for one in directions
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        width="stretch",
        column_config={"AUROC on held-out texts": st.column_config.NumberColumn(format="%.2f", width="small")},
    )
    return []
