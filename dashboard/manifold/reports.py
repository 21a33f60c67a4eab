"""What reports say of the manifold: which off-manifold activations each measure detects, and the GLP's scorecard beside other methods."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.manifold.measure import CHOICE, MEASURES, PARAMS
from dashboard.service import missing, workspace_facts
from dashboard.widgets import charts, frame, starred, url
from dashboard.widgets.frame import File
from glp_core.files import Json

NAMES = {inner: outer for outer, inner in MEASURES.items()}
PAPER = (
    "For reference, the paper's Table 2 (Llama-3.1-8B, layer 15, another LLM and not comparable in level): Delta LM loss of GLP 0.0513 "
    "(Base) and 0.0860 (Instruct), of SAE reconstruction 0.1976 and 0.2224."
)
PARTS = {"all": "all tokens", "user": "user turns", "answer": "answers", "template": "the template's tokens"}


def scorecard() -> list[File]:
    """Draw the GLP's samples and reconstructions beside those of other methods; return the table."""
    frame.heading("Are its activations like real ones?")
    report = workspace_facts.report("scorecard")
    if not report or "rows" not in report:
        missing.report("The scorecard", workspace_facts.command("scorecard"), "some minutes", stage="scorecard")
        return []
    table = pd.DataFrame([_scores(row) for row in report["rows"]])
    st.dataframe(table, hide_index=True, height=38 + 35 * len(table), alt="Samples and reconstructions beside real activations")
    ablated = report["mean_ablation"]["value"]
    note = (
        ""
        if report["sae"]
        else f"There was no sparse autoencoder: `{workspace_facts.command('sae')}` trains one; then run this again. "
    )
    st.caption(
        f"{report['n']:,} activations of each against as many real ones of other documents (first row: real against real); classifiers "
        f"see {report['tested']:,} of each. Delta LM: how much the LLM's loss ({report['base_loss']:.2f} nats) rises when the layer is "
        f"replaced, over {report['documents']} documents of {report['tokens']} tokens; the mean everywhere costs {ablated:+.2f}. PCA has "
        f"the fewest components ({report['pca_components']}) that cost no more than the GLP. {note}"
        f"Intervals: {report['intervals']}.\n\n"
        "**The Frechet distance sees only mean and covariance, so the Gaussian prior, which has exactly those, wins it by construction**; "
        "a logistic regression sees little more. The nearest-neighbour test sees the rest: 0.5 means that it cannot tell them apart. "
        "Drawn / real: the share of each whose nearest neighbour is of their own sample. 1 / 0 is a collapsed sample, 0 / 1 one that "
        f"misses where real ones crowd.\n\n{PAPER}"
    )
    if told := workspace_facts.report("conversations"):
        st.markdown(conversation_words(told))
    return [File("CSV: scorecard", "scorecard.csv", starred.as_csv(table), "text/csv")]


def conversation_words(report: Json) -> str:
    """Return how well the prior knows conversations, by a report of them."""
    ratios = {
        PARTS[part]: _with_interval(one["value"], one["ci"], 2) for part, one in report["ratios"].items() if part in PARTS
    }
    told = ", ".join(f"{words} {number}" for words, number in ratios.items())
    return (
        f"**In conversations** the prior's median denoising error is, in multiples of that on plain text: {told}. "
        f"1 means that it knows them as well as text; at noise level {report['sigma']:g}, {report['conversations']:,} held-out "
        "conversations, which the model answered itself."
    )


def _scores(row: Json) -> dict[str, str]:
    test = row["neighbour"]
    return {
        "method": row["method"],
        "how": row["way"],
        "Frechet distance": _with_interval(row["frechet"]["value"], row["frechet"]["ci"], 0),
        "Delta LM (nats)": _with_interval(row["delta_lm"]["value"], row["delta_lm"]["ci"], 2) if row["delta_lm"] else "–",
        "logistic": _with_interval(row["logistic"]["accuracy"], row["logistic"]["ci"], 2),
        "nearest neighbour": _with_interval(test["accuracy"], test["ci"], 2),
        "drawn / real": f"{test['drawn']:.2f} / {test['real']:.2f}",
    }


def _with_interval(value: float, ci: Sequence[float], digits: int) -> str:
    return f"{value:.{digits}f} [{ci[0]:.{digits}f}, {ci[1]:.{digits}f}]"


def detection(row: DeltaGenerator) -> list[File]:
    """Draw which off-manifold activations each measure detects, and in `row` the choice of a kind for its curves; return the table."""
    frame.heading("Which off-manifold activations are detected?")
    report = workspace_facts.report("detection")
    if not report:
        missing.report("The detection table", workspace_facts.command("detect"), "some minutes", stage="detection")
        return []
    rows = report["rows"]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    table = {
        kind: {NAMES[r["measure"]]: _with_interval(r["auroc"], r["ci"], 2) for r in rows if r["kind"] == kind} for kind in kinds
    }
    by_kind = pd.DataFrame(table).T
    st.dataframe(by_kind, height=38 + 35 * len(kinds), alt="AUROC of every measure for every kind of off-manifold activations")
    fewest = min(row["n"] for row in rows)
    st.caption(
        f"AUROC with 95% interval of each measure at telling {report['n_real']} real activations from as many off-manifold ones of "
        f"each kind ({fewest} for the slowest measure). 0.5 is chance; below 0.5, the off-manifold ones look nearer than real ones."
    )
    if "rates" not in report or not all("roc" in row for row in rows):
        frame.empty_report("A chart of ROC curves", workspace_facts.command("detect"), "some minutes")
        return []
    param = PARAMS["kind"]
    if (asked := url.value(param)) not in ("", *kinds):
        url.refuse([param.key], f"{param.label} are {url.shorten(asked)}, wanted one of: {', '.join(kinds)}.")
    kind = row.selectbox(param.label, kinds, width=CHOICE, **param.bound)
    frame.figure(roc(report, kind), key="manifold_roc", alt="ROC curves of each measure")
    return [File("CSV: detection", "detection.csv", starred.as_csv(by_kind.reset_index(names="kind")), "text/csv")]


def roc(report: Json, kind: str) -> go.Figure:
    """Draw each measure's ROC curve for one kind of off-manifold activations."""
    figure = go.Figure()
    dashes = ("solid", "dash", "dot", "dashdot", "longdash")
    for i, row in enumerate(row for row in report["rows"] if row["kind"] == kind):
        figure.add_scatter(
            x=report["rates"],
            y=row["roc"],
            mode="lines",
            name=f"{NAMES[row['measure']]}, {row['auroc']:.2f}",
            line={"color": charts.CATEGORIES[i % len(charts.CATEGORIES)], "dash": dashes[i % len(dashes)], "width": 2},
            hovertemplate="%{y:.0%} found at %{x:.0%} false alarms",
        )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": charts.GREY, "width": 1}, showlegend=False, hoverinfo="skip"
    )
    return charts.layout(
        figure, x="Real activations taken for off-manifold ones", y="Off-manifold activations found", height=420
    )
