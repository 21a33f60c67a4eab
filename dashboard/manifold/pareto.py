"""Concept against fluency along every direction, from the report of `pareto`: which arm trades best, and where the walk does not win."""

import json
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.manifold.measure import CHOICE
from dashboard.service import workspace_facts
from dashboard.widgets import charts, frame, labels, starred, url
from dashboard.widgets.frame import File
from glp_core.files import Json
from glp_core.steering.direction_facts import is_of, report_name

KEY = "manifold_along"
ARMS = ("raw", "walk", "glp", "norm", "gaussian")
SYMBOLS = {"raw": "square", "walk": "circle", "glp": "diamond", "norm": "cross", "gaussian": "x", "prompted": "star"}
HEIGHT, DRAWN = 430, (520.0, 330.0)
"""Of the figure in pixels; width and height of the drawing in it, about, for its labels."""
MEANING = (
    "**Gain**: share of the way from the unsteered texts' concept score to 1. **Fluency**: where a token's log-probability lies "
    "between broken text (0: less likely than 95% of the model's own draws) and unsteered text (1), times the share of new words that "
    "is left. Both 1 would be all of the concept at no cost. **Hypervolume**: the area under an arm's frontier, over all its strengths. "
    "Numbers at the points are strengths: the lowest, the highest and 1. Stars: an arm at the strength and level that other prefixes "
    "chose for it; *prompted*: asked for in words, without a push. Intervals are 95%, over the same prefixes for all arms."
)
COST_HEIGHT, HIGHEST_COST = 300, 2.5
"""Pixels; nats a token beyond which a gain is not worth drawing: a token is then less than a tenth as likely."""
HALF = 0.69
"""Nats a token by which the loss rises when every token becomes half as likely."""


def param(report: Json) -> url.Param:
    """Return the parameter that chooses a direction of the report."""
    titles = [entry["title"] for entry in report["directions"].values()]
    first = next((title for title in titles if "sentiment" in title.lower()), titles[0])
    return url.choice(KEY, "Direction", first, titles)


def draw(report: Json, row: DeltaGenerator) -> list[File]:
    """Draw the verdict over all directions, the frontiers and hypervolumes of one that is chosen in `row`, and the table of all."""
    frame.heading("At equal fluency, does projection gain more of the concept?")
    chosen = param(report)
    titles = [entry["title"] for entry in report["directions"].values()]
    title = row.selectbox(chosen.label, titles, titles.index(chosen.default), width=CHOICE, **chosen.bound)
    rows = [*report["summary"]["verdicts"], *_on_other_prefixes()]
    st.markdown(verdicts(sorted(rows, key=lambda row: str(row["against"]))))
    name, entry = next((name, entry) for name, entry in report["directions"].items() if entry["title"] == title)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        frame.figure(frontiers(entry), key="manifold_frontiers", alt="Fluency against concept gained, one line an arm")
    with right:
        frame.figure(hypervolumes(entry), key="manifold_hypervolumes", alt="Hypervolume of each arm with its interval")
    st.markdown(f"**{frame.plain_markdown(entry['sentence'])}** {entry['n']} prefixes.")
    if _of_an_earlier(name, entry):
        frame.notice_box(
            f"Measured along an earlier direction of this name. Run `{workspace_facts.command('steer')}`, then "
            f"`{workspace_facts.command('pareto')}`."
        )
    st.caption(MEANING)
    steered = workspace_facts.report(report_name(name)) or {}
    if is_of(steered.get("settings", {}), entry.get("digest", "")):
        _elsewhere(entry, steered.get("elsewhere", []))
    numbers = table(report)
    st.dataframe(
        numbers,
        hide_index=True,
        height=38 + 35 * len(numbers),
        column_order=sorted(map(str, numbers), key=lambda name: name != "direction" and " vs " not in name),
        alt="Hypervolume of every arm along every direction, and the walk's verdicts",
    )
    return [
        File("CSV: all directions", "pareto.csv", starred.as_csv(numbers), "text/csv"),
        File("JSON: all numbers", "pareto.json", json.dumps(report, indent=1), "application/json"),
    ]


def _of_an_earlier(name: str, entry: Json) -> bool:
    here = workspace_facts.read()
    return name in here.direction_names() and not is_of(entry, here.direction_digest(name))


def _on_other_prefixes() -> list[Json]:
    """Return the verdicts on prefixes on which nothing was chosen, where they were measured."""
    report = workspace_facts.report("bests")
    if report is None:
        return []
    return [row | {"where": f"{row['where']}; {len(report['prefixes']):,} other prefixes"} for row in report["verdicts"]]


def verdicts(rows: Sequence[Json]) -> str:
    """Return a Markdown table: on how many directions the walk is ahead of what it is compared with, and where."""
    heads = {
        "against": "The walk against",
        "where": "where",
        "directions": "directions",
        "mean": "mean over directions, 95% interval",
    }
    lines = [f"| {' | '.join(heads.values())} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(frame.plain_markdown(row[key]) for key in heads)} |" for row in rows)])


def frontiers(entry: Json) -> go.Figure:
    """Draw gain and fluency of every arm at its strengths as a line, and of every arm at its own best as a star."""
    figure = go.Figure()
    arms = {arm: entry["arms"][arm]["points"] for arm in ARMS if arm in entry["arms"]}
    stars = {arm: entry["best"][arm] for arm in (*ARMS, "prompted") if arm in entry["best"]}
    room = labels.Room(*DRAWN)
    room.mark((star["gain"], star["fluency"]) for star in stars.values())
    for points in arms.values():
        room.line((point["gain"], point["fluency"]) for point in points)
    for arm, points in arms.items():
        ends = {points[0]["strength"], points[-1]["strength"], 1.0}
        words = [f"{p['strength']:g}" if p["strength"] in ends else "" for p in points]
        placed = room.label((p["gain"], p["fluency"], text) for p, text in zip(points, words, strict=True))
        figure.add_scatter(
            x=[p["gain"] for p in points],
            y=[p["fluency"] for p in points],
            mode="lines+markers+text",
            name=charts.ARM_TITLES[arm],
            legendgroup=arm,
            line={"color": charts.ARM_COLOURS[arm], "dash": charts.ARM_DASHES[arm], "width": 2.5 if arm == "walk" else 1.5},
            marker={"symbol": SYMBOLS[arm], "size": 7},
            text=[label.text for label in placed],
            textposition=[label.place for label in placed],
            customdata=[f"{charts.ARM_TITLES[arm]}, strength {p['strength']:g}" for p in points],
            hovertemplate="%{customdata}<br>gain %{x:.2f}, fluency %{y:.2f}<extra></extra>",
        )
    for arm, star in stars.items():
        figure.add_scatter(
            x=[star["gain"]],
            y=[star["fluency"]],
            mode="markers",
            name=charts.ARM_TITLES[arm],
            legendgroup=arm,
            showlegend=arm not in arms,
            marker={"symbol": "star", "size": 14, "color": charts.ARM_COLOURS[arm], "line": {"width": 1, "color": charts.GREY}},
            hovertemplate=f"{charts.ARM_TITLES[arm]}, {_best_words(star)}<br>gain %{{x:.2f}}, fluency %{{y:.2f}}<extra></extra>",
        )
    charts.layout(figure, x="Concept gained (share of the way to 1)", y="Fluency (1 = as the model's own)", height=HEIGHT)
    return figure.update_xaxes(range=[-0.04, 1.06]).update_yaxes(range=[-0.04, 1.1])


def _best_words(star: Json) -> str:
    return f"its best: strength {star['strength']:g}" if star["strength"] else "asked for in words"


def hypervolumes(entry: Json) -> go.Figure:
    """Draw each arm's hypervolume with its interval, the largest on top."""
    arms = sorted((arm for arm in ARMS if arm in entry["arms"]), key=lambda arm: entry["arms"][arm]["hypervolume"])
    values = [entry["arms"][arm]["hypervolume"] for arm in arms]
    intervals = [entry["arms"][arm]["hypervolume_ci"] for arm in arms]
    figure = go.Figure()
    figure.add_bar(
        x=values,
        y=[charts.ARM_TITLES[arm] for arm in arms],
        orientation="h",
        marker={"color": [charts.ARM_COLOURS[arm] for arm in arms], "line": {"width": 0}},
        error_x={
            "array": [high - value for value, (_, high) in zip(values, intervals, strict=True)],
            "arrayminus": [value - low for value, (low, _) in zip(values, intervals, strict=True)],
            "color": charts.GREY,
            "thickness": 2,
            "width": 4,
        },
        customdata=[[low, high] for low, high in intervals],
        hovertemplate="%{y}: %{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>",
    )
    return charts.layout(figure, x="Hypervolume", height=110 + 46 * len(arms), legend=False)


def _elsewhere(entry: Json, costs: Sequence[Json]) -> None:
    """Draw what pushes along the direction cost on neutral text, where `steer` measured it: at each strength, and for what is gained."""
    if not costs:
        return
    frame.heading("What does the push cost on other text?")
    for place, gained in zip(st.columns(2, gap="medium"), (False, True), strict=True):
        with place:
            alt = f"Rise of the loss on neutral text {'for the concept gained' if gained else 'by strength'}, one line an arm"
            frame.figure(rises(entry, costs, gained=gained), key=f"manifold_rises_{gained}", alt=alt)
    documents = sorted({cost["n"] for cost in costs})
    st.caption(
        f"{' or '.join(map(str, documents))} held-out texts that have nothing to do with the concept are read while every token is pushed: "
        "so much less likely does the model find them. At the dotted line every token is half as likely. Left: at the same strength; "
        f"right: for what the arm gains of the concept there, up to {HIGHEST_COST:g} nats. Colours as above; bars: 95% over texts."
    )


def rises(entry: Json, costs: Sequence[Json], *, gained: bool) -> go.Figure:
    """Draw the rise of the loss on neutral text of every arm, over its strengths or over what it gains of the concept at them."""
    figure = go.Figure()
    for arm in ARMS:
        points = {point["strength"]: point["gain"] for point in entry["arms"].get(arm, {}).get("points", [])}
        rows = [cost for cost in costs if cost["arm"] == arm and (not gained or cost["strength"] in points)]
        if not rows:
            continue
        values = [row["loss_rise"] for row in rows]
        figure.add_scatter(
            x=[points[row["strength"]] if gained else row["strength"] for row in rows],
            y=values,
            error_y={
                "array": [row["loss_rise_ci"][1] - value for row, value in zip(rows, values, strict=True)],
                "arrayminus": [value - row["loss_rise_ci"][0] for row, value in zip(rows, values, strict=True)],
                "thickness": 1,
                "width": 2,
            },
            mode="lines+markers",
            name=charts.ARM_TITLES[arm],
            line={"color": charts.ARM_COLOURS[arm], "dash": charts.ARM_DASHES[arm], "width": 2.5 if arm == "walk" else 1.5},
            marker={"symbol": SYMBOLS[arm], "size": 6},
            customdata=[f"{charts.ARM_TITLES[arm]}, strength {row['strength']:g}" for row in rows],
            hovertemplate="%{customdata}<br>%{y:+.2f} nats a token<extra></extra>",
        )
    figure.add_hline(y=HALF, line={"width": 1, "dash": "dot", "color": "gray"})
    across = "Concept gained (share of the way to 1)" if gained else "Strength (× median activation norm)"
    charts.layout(figure, x=across, y="Rise of the loss (nats a token)", height=COST_HEIGHT, legend=False)
    return figure.update_yaxes(range=[-0.1, HIGHEST_COST]) if gained else figure


def table(report: Json) -> pd.DataFrame:
    """Return a row for each direction: every arm's hypervolume, and whether the walk is ahead of raw and of the paper's projection."""
    return pd.DataFrame([_row(entry) for entry in report["directions"].values()])


def _row(entry: Json) -> dict[str, str]:
    row = {"direction": frame.visible(entry["title"])}
    for arm in ARMS:
        if arm in entry["arms"]:
            low, high = entry["arms"][arm]["hypervolume_ci"]
            row[charts.ARM_TITLES[arm]] = f"{entry['arms'][arm]['hypervolume']:.2f} [{low:.2f}, {high:.2f}]"
    for key, words in (("differences", "walk vs"), ("best_differences", "best vs")):
        for other, name in (("raw", "raw"), ("glp", "paper's")):
            row[f"{words} {name}"] = _verdict(entry[key], other)
    return {title: cell for title, cell in row.items() if cell}


def _verdict(differences: Mapping[str, Json], other: str) -> str:
    """Return ahead, level or behind; nothing where it was not measured."""
    return str(differences.get(f"walk-{other}", {}).get("verdict", ""))
