"""What reports say of the manifold: which off activations each measure detects, and whether samples can be told from real ones."""

import contextlib

import pandas as pd
import streamlit as st

from dashboard import about, components

DETECT = "python -m glp_core detect"


def draw() -> None:
    """Draw what the reports say of detection and of generated samples."""
    _detection()
    _scorecard()


def _detection() -> None:
    st.subheader("What gets detected?", anchor=False)
    report = about.report("detection")
    if not report:
        components.empty_report("The detection table", DETECT, "some minutes")
        return
    frame = pd.DataFrame(report["rows"]).pivot(index="kind", columns="measure", values="auroc")
    order = list(dict.fromkeys(row["kind"] for row in report["rows"]))
    st.dataframe(frame.loc[order].style.format("{:.2f}"), height=38 + 35 * len(order))
    st.caption(
        f"AUROC of each measure for telling {report['n_real']} real activations from as many of each kind; 0.5 is chance, below "
        "0.5 means that the off ones look nearer than real ones. Intervals are in reports/detection.json."
    )


def _scorecard() -> None:
    st.subheader("Can samples be told from real ones?", anchor=False)
    report = about.report("scorecard")
    if not report:
        components.empty_report("The two-sample table", DETECT, "some minutes")
        return
    rows = [
        {
            "sample": row["sample"],
            **{
                f"{test}": f"{row[test]['accuracy']:.2f} [{row[test]['ci'][0]:.2f}, {row[test]['ci'][1]:.2f}]"
                for test in ("logistic", "neighbour")
            },
            "neighbour: drawn / real": f"{row['neighbour']['drawn']:.2f} / {row['neighbour']['real']:.2f}",
        }
        for row in report["two_sample"]
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    words = f"Accuracy of a classifier, {report['n']:,} of each; 0.5 means that it cannot tell them apart. "
    words += (
        "Drawn / real: how many of each have their nearest neighbour in their own sample. The two part where one sample is denser, and "
        "then they differ however near 0.5 their mean is: 1 / 0 is a collapsed sample, 0 / 1 one that misses where real ones crowd. "
    )
    frechet = (about.report("evaluate") or {}).get("frechet", {})
    with contextlib.suppress(KeyError, TypeError):
        words += (
            f"Frechet distance to {frechet['n']:,} real ones: GLP {frechet['generated_real']:.1f}, "
            f"Gaussian {frechet['gaussian_real']:.1f}, real {frechet['real_real']:.1f}. "
        )
    st.caption(
        words
        + "The Frechet distance and, nearly, the logistic regression see only mean and covariance, so the Gaussian prior wins both by "
        "construction; the neighbours see the rest."
    )
